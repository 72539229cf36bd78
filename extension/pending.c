/*-------------------------------------------------------------------------
 *
 * pending.c
 *		The stream of a transaction's pending events: in memory, then in a
 *		temporary file, cut back at ROLLBACK TO.
 *
 * Events are appended to one byte stream, whose tail is in memory.  When that
 * would exceed work_mem, all of it goes to a temporary file, and from then on
 * the tail is a buffer of PENDING_BUFFER bytes.  Buffer and file belong to the
 * top transaction: a subtransaction's abort only moves the end of the stream
 * back to where it was at the subtransaction's first event.  (A tuplestore
 * could not be cut back; memory of the subtransaction would be gone when it
 * commits.)
 *
 * Positions in the stream count from 0 and are positions in the file, too.
 * [0, base) is in the file, [base, end) in the buffer; base stands between two
 * events.  Each write says where it goes, and base moves only when all of it
 * has succeeded.  So whatever a failed write (disk full, temp_file_limit) has
 * left in the file lies behind base, where nobody reads, and is written over
 * when the write is tried again: the stream is whole after any error, and the
 * transaction may go on.  (A BufFile is lost by a short write: it does not know
 * how much of its buffer is in the file.)  Reading writes nothing.
 *
 * The stream's bytes are as they will be read back by this very backend: a
 * PendingHeader and then each column as a varlena, everything aligned, so that
 * the outbox writer takes its datums out of the stream without copying.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/tablespace.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"

#include "extension/base/event.h"
#include "extension/base/kill_point.h"
#include "extension/pending.h"

#define PENDING_COLUMNS 5		/* varlenas of an event */

/* of a stream that has a file: written and read at a time */
#define PENDING_BUFFER ((Size) 256 * 1024)

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
	uint64		base;			/* what is before it is in the file */
	char	   *buffer;			/* what is behind it */
	Size		allocated;
	Size		largest;		/* event so far */
	bool		has_file;
	File		file;
	PendingLevel *levels;		/* innermost first */
};

static void pending_push_level(DePending *pending, int nest_level);
static void pending_make_room(DePending *pending, Size size);
static void pending_put_event(char *to, const PendingHeader *header, bytea *const *columns);
static void pending_open_file(DePending *pending);
static void pending_write(DePending *pending, char *bytes, Size size, uint64 position);
static char *pending_read_event(DePending *pending, DePendingReader *reader);
static void pending_reader_end(DePendingReader *reader);

/*
 * An empty stream.
 */
DePending *
de_pending_create(void)
{
	DePending  *pending = MemoryContextAllocZero(TopTransactionContext, sizeof(DePending));

	pending->buffer = MemoryContextAlloc(TopTransactionContext, 1024);
	pending->allocated = 1024;
	return pending;
}

/*
 * Adds an event.
 */
void
de_pending_add(DePending *pending, const DePendingEvent *event, int nest_level)
{
	bytea	   *columns[PENDING_COLUMNS] = {event->event_type, event->key, event->content_type,
									   event->headers, event->payload};
	PendingHeader header;
	Size		size = sizeof(PendingHeader);

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

	pending_make_room(pending, size);
	pending_push_level(pending, nest_level);
	if (pending->end - pending->base + size <= pending->allocated)
		pending_put_event(pending->buffer + (pending->end - pending->base), &header, columns);
	else
	{
		/* larger than the buffer, which is empty */
		char	   *bytes = MemoryContextAllocHuge(CurrentMemoryContext, size);

		pending_put_event(bytes, &header, columns);
		pending_write(pending, bytes, size, pending->base);
		pending->base += size;
		pfree(bytes);
	}
	pending->end += size;
	pending->count++;
	pending->largest = Max(pending->largest, size);
}

/*
 * Sees to it that an event of that size fits behind the stream's end in the
 * buffer, or, if it is larger than a buffer may be, that the buffer is empty
 * and there is a file.
 */
static void
pending_make_room(DePending *pending, Size size)
{
	Size		used = (Size) (pending->end - pending->base);
	Size		limit = (Size) work_mem * 1024;

	if (used + size <= pending->allocated)
		return;
	if (!pending->has_file && used + size <= limit)
	{
		Size		wanted = Min(Max(pending->allocated * 2, used + size), limit);

		pending->buffer = repalloc_huge(pending->buffer, wanted);
		pending->allocated = wanted;
		return;
	}

	if (!pending->has_file)
		pending_open_file(pending);
	if (used > 0)
		pending_write(pending, pending->buffer, used, pending->base);
	pending->base = pending->end;
	/* the first time: what is above the file's buffer is given back, or what lacks is taken */
	if (pending->allocated != PENDING_BUFFER)
	{
		pending->buffer = repalloc_huge(pending->buffer, PENDING_BUFFER);
		pending->allocated = PENDING_BUFFER;
	}
}

/*
 * An event's bytes in the stream.
 */
static void
pending_put_event(char *to, const PendingHeader *header, bytea *const *columns)
{
	memcpy(to, header, sizeof(*header));
	to += sizeof(*header);
	for (int i = 0; i < PENDING_COLUMNS; i++)
	{
		if (columns[i] != NULL)
		{
			Size		len = VARSIZE(columns[i]);

			memcpy(to, columns[i], len);
			/* nobody reads them, but they go to disk: not what was in memory before */
			memset(to + len, 0, MAXALIGN(len) - len);
			to += MAXALIGN(len);
		}
	}
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
 * Bytes of the stream.
 */
uint64
de_pending_bytes(const DePending *pending)
{
	return pending->end;
}

/*
 * Bytes of the largest event that ever was in the stream.
 */
Size
de_pending_largest(const DePending *pending)
{
	return pending->largest;
}

/*
 * Remembers, at the first event of a subtransaction, where the stream ended.
 */
static void
pending_push_level(DePending *pending, int nest_level)
{
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
 * Cuts the stream back to where it was before the subtransaction of that
 * level.  Never throws: an abort is under way.
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
	/* into the file: what is behind is written over */
	pending->base = Min(pending->base, pending->end);
}

/*
 * Where the stream ends just now.
 */
DePendingMark
de_pending_mark(const DePending *pending)
{
	DePendingMark mark = {pending->end, pending->count};

	return mark;
}

/*
 * Cuts the stream back to where it ended once; nothing was cut below since.
 */
void
de_pending_cut(DePending *pending, const DePendingMark *mark)
{
	pending->end = mark->end;
	pending->count = mark->count;
	/* into the file: what is behind is written over */
	pending->base = Min(pending->base, pending->end);
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
 * Makes the temporary file.
 */
static void
pending_open_file(DePending *pending)
{
	ResourceOwner old_owner = CurrentResourceOwner;

	PrepareTempTablespaces();
	/* else it would be gone with the subtransaction */
	CurrentResourceOwner = TopTransactionResourceOwner;
	PG_TRY();
	{
		pending->file = OpenTemporaryFile(false);
		pending->has_file = true;
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = old_owner;
	}
	PG_END_TRY();
}

/*
 * Writes bytes that are to stand at a position of the stream.  When it throws,
 * a part of them may be in the file.
 */
static void
pending_write(DePending *pending, char *bytes, Size size, uint64 position)
{
	while (size > 0)
	{
		int			n = -1;

		if (!DE_FAULT_POINT("pending-write"))
			n = FileWrite(pending->file, bytes, Min(size, 16 * PENDING_BUFFER), (off_t) position,
						  WAIT_EVENT_BUFFILE_WRITE);
		if (n <= 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not write pending events to temporary file: %m"),
					 errdetail("The transaction's pending events take " UINT64_FORMAT " bytes.",
							   pending->end),
					 errhint("See the disk of temp_tablespaces, or publish less in a transaction.")));
		bytes += n;
		size -= n;
		position += n;
	}
}

/*
 * Next event of the stream; see pending.h.
 */
bool
de_pending_next(DePending *pending, DePendingReader *reader, DePendingEvent *event)
{
	bytea	   *columns[PENDING_COLUMNS];
	PendingHeader header;
	char	   *p;

	if (reader->position >= pending->end)
		return false;
	if (reader->position >= pending->base)
		p = pending->buffer + (reader->position - pending->base);
	else
		p = pending_read_event(pending, reader);
	memcpy(&header, p, sizeof(header));
	p += sizeof(header);
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
 * The bytes of the event at the reader's position, which is in the file.
 */
static char *
pending_read_event(DePending *pending, DePendingReader *reader)
{
	Size		skip = (Size) (reader->position - reader->base);
	Size		there = skip < reader->filled ? reader->filled - skip : 0;
	uint32		size = 0;

	if (there >= sizeof(PendingHeader))
		memcpy(&size, reader->buffer + skip, sizeof(size));
	if (size == 0 || there < size)
	{
		Size		wanted = Max(PENDING_BUFFER, pending->largest);
		Size		amount;

		if (reader->allocated < wanted)
		{
			/* what is in it is read anew below */
			reader->filled = 0;
			if (reader->buffer != NULL)
				pfree(reader->buffer);
			reader->buffer = NULL;
			reader->allocated = 0;
			reader->buffer = MemoryContextAllocHuge(reader->context, wanted);
			reader->allocated = wanted;
		}
		/* the rest of an event that ends behind the buffer is read with its begin */
		amount = (Size) Min((uint64) reader->allocated, pending->base - reader->position);
		reader->filled = 0;
		while (reader->filled < amount)
		{
			int			n = FileRead(pending->file, reader->buffer + reader->filled,
							 amount - reader->filled,
							 (off_t) (reader->position + reader->filled),
							 WAIT_EVENT_BUFFILE_READ);

			if (n <= 0)
			{
				reader->filled = 0;
				if (n == 0)
					ereport(ERROR,
							(errcode(ERRCODE_DATA_CORRUPTED),
							 errmsg("temporary file of pending events ends too early")));
				ereport(ERROR,
						(errcode_for_file_access(),
						 errmsg("could not read pending events from temporary file: %m")));
			}
			reader->filled += n;
		}
		reader->base = reader->position;
		skip = 0;
	}
	return reader->buffer + skip;
}

/*
 * Frees what a reader holds.
 */
static void
pending_reader_end(DePendingReader *reader)
{
	if (reader->buffer != NULL)
		pfree(reader->buffer);
	reader->buffer = NULL;
	reader->allocated = 0;
	reader->filled = 0;
}

/*
 * Copies events to another stream; see pending.h.
 */
void
de_pending_move(DePending *from, uint64 *position, DePending *to, int nest_level)
{
	DePendingReader reader = {0};
	DePendingEvent event;

	reader.context = CurrentMemoryContext;
	reader.position = *position;
	while (de_pending_next(from, &reader, &event))
	{
		de_pending_add(to, &event, nest_level);
		*position = reader.position;
	}
	pending_reader_end(&reader);
}

/*
 * Closes the file.
 */
void
de_pending_close(DePending *pending)
{
	if (pending->has_file)
	{
		pending->has_file = false;
		FileClose(pending->file);
	}
}

/*
 * Frees a stream.
 */
void
de_pending_free(DePending *pending)
{
	PendingLevel *level;

	de_pending_close(pending);
	while ((level = pending->levels) != NULL)
	{
		pending->levels = level->upper;
		pfree(level);
	}
	pfree(pending->buffer);
	pfree(pending);
}
