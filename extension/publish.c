/*-------------------------------------------------------------------------
 *
 * publish.c
 *		Publishing: the pending events of the transaction under way and
 *		their way into the outbox at commit.
 *
 * An event is kept by its backend until pre-commit, since only then, with all
 * row locks held, an id in commit order can be drawn (horizon.c).  Events are
 * appended to one byte stream, in memory up to work_mem and then in a
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
 * Callbacks run last in, first out, and ours are registered when the library
 * is preloaded: other extensions' pre-commit work (a foreign server's commit,
 * say) comes before ours, and the time between drawing ids and committing,
 * in which we hold the horizon for others, stays short.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "commands/tablespace.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "extension/base/compat.h"
#include "extension/base/event.h"
#include "extension/base/guc.h"
#include "extension/outbox/horizon.h"
#include "extension/outbox/outbox.h"
#include "extension/publish.h"

PG_FUNCTION_INFO_V1(durable_event_publish_event);
PG_FUNCTION_INFO_V1(durable_event_publish_binary_event);
PG_FUNCTION_INFO_V1(durable_event_pending_events);

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

typedef struct Pending
{
	uint64		count;			/* events */
	uint64		end;			/* of the stream */
	char	   *memory;			/* NULL once it is in the file */
	Size		allocated;
	BufFile    *file;
	uint64		file_position;	/* where the file's next read or write is */
	PendingLevel *levels;		/* innermost first */
	bool		broken;			/* a write to the file has failed */
} Pending;

/* Reading the stream from its begin. */
typedef struct PendingReader
{
	uint64		position;
	MemoryContext context;		/* of the buffer */
	char	   *buffer;			/* of an event from the file */
	Size		allocated;
} PendingReader;

/* events of this transaction; in TopTransactionContext, NULL = none so far */
static Pending *pending = NULL;

/* past our pre-commit callback: what comes now could only be lost */
static bool committing = false;

/* the database whose horizon this commit has drawn ids from; NULL = none */
static DeDatabase *committing_db = NULL;

static void publish_xact_callback(XactEvent event, void *arg);
static void publish_subxact_callback(SubXactEvent event, SubTransactionId mySubid,
									 SubTransactionId parentSubid, void *arg);
static void pending_begin(void);
static void pending_check(void);
static void pending_push_level(void);
static void pending_spill(void);
static void pending_file_seek(uint64 position);
static bool pending_next(PendingReader *reader, DePendingEvent *event);
static void pending_write_to_outbox(void);
static void pending_close_file(void);
static void publish_check_outbox_size(void);
static void publish_warn_unlisted(void);
static Datum publish(FunctionCallInfo fcinfo, bytea *payload, bytea *content_type,
					 int headers_argument);

/*
 * Registers the transaction callbacks.
 */
void
de_publish_init(void)
{
	RegisterXactCallback(publish_xact_callback, NULL);
	RegisterSubXactCallback(publish_subxact_callback, NULL);
}

/*
 * SQL: publish_event(event_type text, key text, payload jsonb, headers jsonb)
 */
Datum
durable_event_publish_event(PG_FUNCTION_ARGS)
{
	de_publish_require();
	return publish(fcinfo, PG_ARGISNULL(2) ? NULL : de_event_json_payload(PG_GETARG_JSONB_P(2)),
				   NULL, 3);
}

/*
 * SQL: publish_binary_event(event_type text, key text, payload bytea,
 * content_type text, headers jsonb)
 */
Datum
durable_event_publish_binary_event(PG_FUNCTION_ARGS)
{
	de_publish_require();
	if (PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("content type must not be null"),
				 errhint("Use \"application/octet-stream\" for bytes of no other type.")));
	return publish(fcinfo, PG_ARGISNULL(2) ? NULL : PG_GETARG_BYTEA_P(2),
				   de_event_content_type(PG_GETARG_TEXT_PP(3)), 4);
}

/*
 * What both functions share: argument 0 is the event type, 1 the key.
 */
static Datum
publish(FunctionCallInfo fcinfo, bytea *payload, bytea *content_type, int headers_argument)
{
	DePendingEvent event;
	pg_uuid_t  *result;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("event type must not be null")));
	de_event_build(&event, PG_GETARG_TEXT_PP(0),
				   PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1),
				   payload, content_type,
				   PG_ARGISNULL(headers_argument) ? NULL : PG_GETARG_JSONB_P(headers_argument));
	de_publish_pending(&event);
	result = palloc(sizeof(pg_uuid_t));
	*result = event.event_id;
	PG_RETURN_UUID_P(result);
}

/*
 * Throws unless this session may publish now.
 */
void
de_publish_require(void)
{
	de_shmem_require();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot publish an event during recovery"),
				 errhint("Publish on the primary.")));
	if (XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot publish an event in a read-only transaction"),
				 errhint("Begin the transaction as READ WRITE, and see default_transaction_read_only.")));
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot publish an event during a parallel operation"),
				 errhint("Mark functions that publish as PARALLEL UNSAFE.")));
	if (committing)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot publish an event while the transaction is committing"),
				 errhint("Publish in the transaction itself or in a deferred trigger.")));
}

/*
 * Adds an event to those of the transaction.
 */
void
de_publish_pending(const DePendingEvent *event)
{
	bytea	   *columns[PENDING_COLUMNS] = {event->event_type, event->key, event->content_type,
									   event->headers, event->payload};
	PendingHeader header;
	char		zeros[MAXIMUM_ALIGNOF] = {0};
	Size		size = sizeof(PendingHeader);

	if (pending == NULL)
		pending_begin();
	pending_check();
	pending_push_level();

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
			pending_spill();
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
		pending_file_seek(pending->end);
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
 * First event of a transaction.
 */
static void
pending_begin(void)
{
	Pending    *new;

	publish_check_outbox_size();
	publish_warn_unlisted();
	/* throws now rather than at commit, if there is no entry to be had */
	(void) de_database_get(MyDatabaseId);
	new = MemoryContextAllocZero(TopTransactionContext, sizeof(Pending));
	new->allocated = 1024;
	new->memory = MemoryContextAlloc(TopTransactionContext, new->allocated);
	pending = new;
}

/*
 * Throws if an earlier write to the file failed (disk full, say) and its error
 * was caught: a buffered file cannot be trusted after that.
 */
static void
pending_check(void)
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
pending_push_level(void)
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
 * Moves the stream from memory to a temporary file of the top transaction.
 */
static void
pending_spill(void)
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
pending_file_seek(uint64 position)
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
 * Next event of the stream; its columns stay valid until the next call.  The
 * reader begins zeroed but for its context.
 */
static bool
pending_next(PendingReader *reader, DePendingEvent *event)
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

		pending_file_seek(reader->position);
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
 * Pre-commit: draws ids for all pending events and inserts them into the
 * current segment.
 */
static void
pending_write_to_outbox(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "durable_event commit",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);
	DeDatabase *db = de_database_get(MyDatabaseId);
	PendingReader reader = {0};
	DePendingEvent event;
	DeOutboxWriter *writer;
	uint64		id;

	reader.context = context;
	pending_check();

	/* none is active at pre-commit, but TOASTing needs one */
	PushActiveSnapshot(GetTransactionSnapshot());
	de_horizon_derive(db);
	/* what may wait for others (the segment's lock) comes before the ids */
	writer = de_outbox_writer_open(db);
	committing_db = db;
	id = de_horizon_draw(db, pending->count);
	while (pending_next(&reader, &event))
		de_outbox_writer_append(writer, (int64) id++, &event);
	de_outbox_writer_close(writer);
	PopActiveSnapshot();
	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
}

/*
 * Closes the file, before the resource owner finds it open and warns of a leak.
 */
static void
pending_close_file(void)
{
	if (pending != NULL && pending->file != NULL)
	{
		BufFileClose(pending->file);
		pending->file = NULL;
	}
}

/*
 * Transaction callback.
 */
static void
publish_xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			committing = true;
			if (pending != NULL && pending->count > 0)
				pending_write_to_outbox();
			pending_close_file();
			break;

		case XACT_EVENT_PRE_PREPARE:
			/* the pending events are this backend's; nobody could insert them later */
			if (pending != NULL && pending->count > 0)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has published events"),
						 errhint("Use COMMIT, or publish in another transaction.")));
			committing = true;
			pending_close_file();
			break;

		case XACT_EVENT_COMMIT:
			if (committing_db != NULL)
				de_horizon_commit(committing_db);
			committing_db = NULL;
			pending = NULL;
			committing = false;
			break;

		case XACT_EVENT_ABORT:
			de_horizon_abort();
			committing_db = NULL;
			pending = NULL;
			committing = false;
			break;

		case XACT_EVENT_PREPARE:
			pending = NULL;
			committing = false;
			break;

		default:
			break;
	}
}

/*
 * Subtransaction callback: an abort cuts the stream back, a commit gives the
 * level to the parent.
 */
static void
publish_subxact_callback(SubXactEvent event, SubTransactionId mySubid,
						 SubTransactionId parentSubid, void *arg)
{
	int			nest_level = GetCurrentTransactionNestLevel();
	PendingLevel *level;

	if (pending == NULL || pending->levels == NULL)
		return;

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while ((level = pending->levels) != NULL && level->nest_level >= nest_level)
		{
			pending->end = level->end;
			pending->count = level->count;
			pending->levels = level->upper;
			pfree(level);
		}
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		level = pending->levels;
		if (level->nest_level < nest_level)
			return;
		if (nest_level == 2 ||
			(level->upper != NULL && level->upper->nest_level == nest_level - 1))
		{
			pending->levels = level->upper;
			pfree(level);
		}
		else
			level->nest_level = nest_level - 1;
	}
}

/*
 * Throws when the outbox has grown to max_outbox_size.  Looked up at most once
 * a second: the limit guards a disk, not a byte.
 */
static void
publish_check_outbox_size(void)
{
	static TimestampTz looked_at = 0;
	static int64 size = 0;
	TimestampTz now;

	if (de_max_outbox_size == 0)
		return;
	now = GetCurrentTimestamp();
	if (looked_at == 0 || TimestampDifferenceExceeds(looked_at, now, 1000))
	{
		size = de_outbox_size();
		looked_at = now;
	}
	if (size >= (int64) de_max_outbox_size * 1024 * 1024)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("outbox of durable_event is full"),
				 errdetail("It takes %lld MB, the limit is %d MB.",
						   (long long) (size / (1024 * 1024)), de_max_outbox_size),
				 errhint("See durable_event.check() for why events are not leaving, or increase durable_event.max_outbox_size.")));
}

/*
 * Warns, once in a backend, that nobody will send what it publishes.
 */
static void
publish_warn_unlisted(void)
{
	static bool done = false;
	char	   *dbname;

	if (done)
		return;
	done = true;
	dbname = get_database_name(MyDatabaseId);
	if (dbname != NULL && !de_database_is_listed(dbname))
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("events of database \"%s\" are kept, but not sent", dbname),
				 errhint("Add \"%s\" to durable_event.databases.", dbname)));
}

/*
 * SQL: pending_events() returns what this transaction has published so far.
 */
Datum
durable_event_pending_events(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PendingReader reader = {0};
	DePendingEvent event;
	MemoryContext row_context;

	de_shmem_require();
	InitMaterializedSRF(fcinfo, 0);
	if (pending == NULL || committing)
		return (Datum) 0;
	pending_check();
	reader.context = CurrentMemoryContext;
	row_context = AllocSetContextCreate(CurrentMemoryContext, "durable_event pending_events",
										ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(row_context);
	while (pending_next(&reader, &event))
	{
		Datum		values[8] = {0};
		bool		nulls[8] = {false};
		text	   *payload = NULL;

		if (event.payload != NULL && event.content_type == NULL)
			payload = de_text_from_utf8(VARDATA(event.payload), VARSIZE(event.payload) - VARHDRSZ);
		values[0] = UUIDPGetDatum(&event.event_id);
		values[1] = PointerGetDatum(de_text_from_utf8(VARDATA(event.event_type),
													  VARSIZE(event.event_type) - VARHDRSZ));
		nulls[2] = event.key == NULL;
		if (event.key != NULL)
			values[2] = PointerGetDatum(de_text_from_utf8(VARDATA(event.key),
														  VARSIZE(event.key) - VARHDRSZ));
		nulls[3] = payload == NULL;
		if (payload != NULL)
			values[3] = DirectFunctionCall1(jsonb_in, CStringGetDatum(text_to_cstring(payload)));
		nulls[4] = event.payload == NULL || event.content_type == NULL;
		if (!nulls[4])
			values[4] = PointerGetDatum(event.payload);
		values[5] = event.content_type == NULL ?
			CStringGetTextDatum(DE_JSON_CONTENT_TYPE) :
			PointerGetDatum(de_text_from_utf8(VARDATA(event.content_type),
											  VARSIZE(event.content_type) - VARHDRSZ));
		nulls[6] = event.headers == NULL;
		if (event.headers != NULL)
			values[6] = DirectFunctionCall1(durable_event_decode_headers,
											PointerGetDatum(event.headers));
		values[7] = TimestampTzGetDatum(event.created_at);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		MemoryContextReset(row_context);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(reader.context);
	MemoryContextDelete(row_context);
	return (Datum) 0;
}
