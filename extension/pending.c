/*-------------------------------------------------------------------------
 *
 * pending.c
 *		The stream of a transaction's pending events: in memory, then in a
 *		temporary file, cut back at ROLLBACK TO.
 *
 * Events are appended to one byte stream, in memory up to work_mem and then in a
 * temporary file, both of the top transaction: a subtransaction's abort only
 * moves the end of the stream back to where it was at the subtransaction's
 * first event.  (A tuplestore could not be cut back; memory of the
 * subtransaction would be gone when it commits.)
 *
 * Positions in the stream count from 0 whether it is in memory or in the file;
 * the file begins with what was in memory.  The stream's bytes are as they
 * will be read back by this very backend: a PendingHeader and then each
 * column as a varlena, everything aligned, so that the outbox writer takes
 * its datums out of the stream without copying.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "extension/base/event.h"
#include "extension/pending.h"

#define PENDING_COLUMNS 5		/* varlenas of an event */

/* What stands in the stream before the columns of an event. */
typedef struct PendingHeader
{
	uint32		size;			/* of the event with this header, a multiple of MAXALIGN */
	bool		isnull[PENDING_COLUMNS];
	pg_uuid_t	event_id;
	TimestampTz created_at;
} PendingHeader;

StaticAssertDecl(sizeof(PendingHeader) == MAXALIGN(sizeof(PendingHeader)),
				 "the columns behind a PendingHeader must be aligned");

/* Where the stream ended at the first event of a subtransaction. */
typedef struct PendingLevel
{
	int			nest_level;
	uint64		end;
	uint64		count;
	struct PendingLevel *upper;
} PendingLevel;

struct DePending
{
	uint64		count;			/* events */
	uint64		end;			/* of the stream */
	char	   *memory;			/* NULL once it is in the file */
	Size		allocated;
	BufFile    *file;
	uint64		file_position;	/* where the file's next read or write is */
	PendingLevel *levels;		/* innermost first */
	bool		broken;			/* a write to the file has failed */
};

static void pending_push_level(DePending *pending);
static void pending_spill(DePending *pending);
static void pending_file_seek(DePending *pending, uint64 position);

/*
 * An empty stream.
 */
DePending *
de_pending_create(void)
{
	DePending  *pending = MemoryContextAllocZero(TopTransactionContext, sizeof(DePending));

	pending->allocated = 1024;
	pending->memory = MemoryContextAlloc(TopTransactionContext, pending->allocated);
	return pending;
}

/*
 * Adds an event.
 */
void
de_pending_add(DePending *pending, const DePendingEvent *event)
{
	bytea	   *columns[PENDING_COLUMNS] = {event->event_type, event->key, event->content_type,
									   event->headers, event->payload};
	PendingHeader header;
	char		zeros[MAXIMUM_ALIGNOF] = {0};
	Size		size = sizeof(PendingHeader);

	de_pending_check(pending);
	pending_push_level(pending);

	memset(&header, 0, sizeof(header));
	header.event_id = event->event_id;
	header.created_at = event->created_at;
	for (int i = 0; i < PENDING_COLUMNS; i++)
	{
		header.isnull[i] = columns[i] == NULL;
		if (columns[i] != NULL)
			size += MAXALIGN(VARSIZE(columns[i]));
	}
	header.size = (uint32) size;	/* bounded by max_event_size */

	if (pending->memory != NULL && pending->end + size > pending->allocated)
	{
		if (pending->end + size > (uint64) work_mem * 1024)
			pending_spill(pending);
		else
		{
			pending->allocated = Max(pending->allocated * 2, pending->end + size);
			pending->memory = repalloc_huge(pending->memory, pending->allocated);
		}
	}

	if (pending->memory != NULL)
	{
		char	   *p = pending->memory + pending->end;

		memcpy(p, &header, sizeof(header));
		p += sizeof(header);
		for (int i = 0; i < PENDING_COLUMNS; i++)
		{
			if (columns[i] != NULL)
			{
				memcpy(p, columns[i], VARSIZE(columns[i]));
				p += MAXALIGN(VARSIZE(columns[i]));
			}
		}
	}
	else
	{
		pending_file_seek(pending, pending->end);
		pending->broken = true;
		BufFileWrite(pending->file, &header, sizeof(header));
		for (int i = 0; i < PENDING_COLUMNS; i++)
		{
			if (columns[i] != NULL)
			{
				Size		len = VARSIZE(columns[i]);

				BufFileWrite(pending->file, columns[i], len);
				if (MAXALIGN(len) > len)
					BufFileWrite(pending->file, zeros, MAXALIGN(len) - len);
			}
		}
		pending->broken = false;
		pending->file_position = pending->end + size;
	}
	pending->end += size;
	pending->count++;
}

/*
 * Events of the stream.
 */
uint64
de_pending_count(const DePending *pending)
{
	return pending->count;
}

/*
 * Throws if an earlier write to the file failed (disk full, say) and its error
 * was caught: a buffered file cannot be trusted after that.
 */
void
de_pending_check(const DePending *pending)
{
	if (pending->broken)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("events of this transaction cannot be stored"),
				 errdetail("Writing them to a temporary file has failed before."),
				 errhint("Roll back, and see temp_file_limit and the disk of temp_tablespaces.")));
}

/*
 * Remembers, at the first event of a subtransaction, where the stream ended.
 */
static void
pending_push_level(DePending *pending)
{
	int			nest_level = GetCurrentTransactionNestLevel();
	PendingLevel *level;

	if (nest_level <= 1 ||
		(pending->levels != NULL && pending->levels->nest_level >= nest_level))
		return;
	level = MemoryContextAlloc(TopTransactionContext, sizeof(PendingLevel));
	level->nest_level = nest_level;
	level->end = pending->end;
	level->count = pending->count;
	level->upper = pending->levels;
	pending->levels = level;
}

/*
 * Cuts the stream back to where it was before the subtransaction of that level.
 */
void
de_pending_abort_level(DePending *pending, int nest_level)
{
	PendingLevel *level;

	while ((level = pending->levels) != NULL && level->nest_level >= nest_level)
	{
		pending->end = level->end;
		pending->count = level->count;
		pending->levels = level->upper;
		pfree(level);
	}
}

/*
 * Gives the events of a subtransaction to its parent.
 */
void
de_pending_commit_level(DePending *pending, int nest_level)
{
	PendingLevel *level = pending->levels;

	if (level == NULL || level->nest_level < nest_level)
		return;
	if (nest_level == 2 || (level->upper != NULL && level->upper->nest_level == nest_level - 1))
	{
		pending->levels = level->upper;
		pfree(level);
	}
	else
		level->nest_level = nest_level - 1;
}

/*
 * Moves the stream from memory to a temporary file of the top transaction.
 */
static void
pending_spill(DePending *pending)
{
	MemoryContext old_context = MemoryContextSwitchTo(TopTransactionContext);
	ResourceOwner old_owner = CurrentResourceOwner;
	BufFile    *file;

	PrepareTempTablespaces();
	CurrentResourceOwner = TopTransactionResourceOwner;
	PG_TRY();
	{
		file = BufFileCreateTemp(false);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = old_owner;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old_context);

	pending->broken = true;
	BufFileWrite(file, pending->memory, pending->end);
	pending->broken = false;
	pending->file = file;
	pending->file_position = pending->end;
	pfree(pending->memory);
	pending->memory = NULL;
	pending->allocated = 0;
}

/*
 * Puts the file's next read or write at a position of the stream.
 */
static void
pending_file_seek(DePending *pending, uint64 position)
{
	if (pending->file_position == position)
		return;
	pending->file_position = PG_UINT64_MAX;
	/* a position behind the first physical file is carried over to the next ones */
	if (BufFileSeek(pending->file, 0, (off_t) position, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in the temporary file of pending events")));
	pending->file_position = position;
}

/*
 * Next event of the stream; its columns stay valid until the next call.
 */
bool
de_pending_next(DePending *pending, DePendingReader *reader, DePendingEvent *event)
{
	bytea	   *columns[PENDING_COLUMNS];
	PendingHeader header;
	char	   *p;

	if (reader->position >= pending->end)
		return false;
	if (pending->memory != NULL)
	{
		p = pending->memory + reader->position;
		memcpy(&header, p, sizeof(header));
		p += sizeof(header);
	}
	else
	{
		Size		rest;

		pending_file_seek(pending, reader->position);
		pending->file_position = PG_UINT64_MAX;
		if (BufFileRead(pending->file, &header, sizeof(header)) !=
			sizeof(header))
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read from the temporary file of pending events")));
		rest = header.size - sizeof(header);
		if (rest > reader->allocated)
		{
			reader->allocated = Max(rest, 8192);
			reader->buffer = reader->buffer == NULL ?
				MemoryContextAllocHuge(reader->context, reader->allocated) :
				repalloc_huge(reader->buffer, reader->allocated);
		}
		if (BufFileRead(pending->file, reader->buffer, rest) != rest)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read from the temporary file of pending events")));
		pending->file_position = reader->position + header.size;
		p = reader->buffer;
	}
	for (int i = 0; i < PENDING_COLUMNS; i++)
	{
		columns[i] = NULL;
		if (!header.isnull[i])
		{
			columns[i] = (bytea *) p;
			p += MAXALIGN(VARSIZE(p));
		}
	}
	event->event_id = header.event_id;
	event->created_at = header.created_at;
	event->event_type = columns[0];
	event->key = columns[1];
	event->content_type = columns[2];
	event->headers = columns[3];
	event->payload = columns[4];
	reader->position += header.size;
	return true;
}

/*
 * Closes the file, before the resource owner finds it open and warns of a leak.
 */
void
de_pending_close(DePending *pending)
{
	if (pending->file != NULL)
	{
		BufFileClose(pending->file);
		pending->file = NULL;
	}
}
