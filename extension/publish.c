/*-------------------------------------------------------------------------
 *
 * publish.c
 *		Publishing: the pending events of the transaction under way and
 *		their way into the outbox at commit.
 *
 * An event is kept by its backend until pre-commit, since only then, with all
 * row locks held, an id in commit order can be drawn (horizon.c).  How they are
 * kept is pending.c's.
 *
 * Callbacks run last in, first out, and ours are registered when the library
 * is preloaded: other extensions' pre-commit work (a foreign server's commit,
 * say) comes before ours, and the time between drawing ids and committing,
 * in which we hold the horizon for others, stays short.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "extension/base/clock.h"
#include "extension/base/compat.h"
#include "extension/base/event.h"
#include "extension/base/guc.h"
#include "extension/base/kill_point.h"
#include "extension/held.h"
#include "extension/nested.h"
#include "extension/outbox/horizon.h"
#include "extension/outbox/outbox.h"
#include "extension/pending.h"
#include "extension/publish.h"
#include "extension/rows.h"

PG_FUNCTION_INFO_V1(durable_event_publish_event);
PG_FUNCTION_INFO_V1(durable_event_publish_binary_event);
PG_FUNCTION_INFO_V1(durable_event_pending_events);

/* events of this transaction; in TopTransactionContext, NULL = none so far */
static DePending *pending = NULL;

/* past our pre-commit callback: what comes now could only be lost */
static bool committing = false;

/* the database whose horizon this commit has drawn ids from; NULL = none */
static DeDatabase *committing_db = NULL;

static void publish_xact_callback(XactEvent event, void *arg);
static void publish_subxact_callback(SubXactEvent event, SubTransactionId mySubid,
									 SubTransactionId parentSubid, void *arg);
static void publish_begin(void);
static DeDatabase *publish_database(void);
static void publish_check_limits(void);
static void publish_write_to_outbox(void);
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
	if (pending == NULL)
		publish_begin();
	publish_check_limits();
	de_held_end(pending);
	de_pending_add(pending, event, GetCurrentTransactionNestLevel());
}

/*
 * The same for an event of a row trigger.
 */
void
de_publish_of_statement(const DePendingEvent *event, CommandId command, bool waits,
						DePending *to)
{
	if (pending == NULL)
		publish_begin();
	publish_check_limits();
	de_held_end_former(pending, command);
	if (waits)
		de_held_add(event, command, to);
	else
		de_pending_add(to != NULL ? to : pending, event, GetCurrentTransactionNestLevel());
}

/*
 * A statement has ended.
 */
void
de_publish_statement_ended(const void *statement)
{
	if (pending == NULL || committing)
		return;
	de_held_end(pending);
	if (statement != NULL)
		de_nested_end(statement, pending);
}

/*
 * First event of a transaction.
 */
static void
publish_begin(void)
{
	publish_warn_unlisted();
	/* throws now rather than at commit, if there is no entry to be had */
	(void) publish_database();
	pending = de_pending_create();
}

/*
 * The entry of our database.  Looking for it walks through all of them, and two
 * times a transaction is too often where there are many.  An entry is taken
 * away from no database that somebody is connected to.
 */
static DeDatabase *
publish_database(void)
{
	static DeDatabase *db = NULL;

	if (db == NULL || db->dboid != MyDatabaseId)
		db = de_database_get(MyDatabaseId);
	return db;
}

/*
 * Pre-commit: draws ids for all pending events and inserts them into the
 * current segment.
 */
static void
publish_write_to_outbox(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "durable_event commit",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);
	DeDatabase *db = publish_database();
	DePendingReader reader = {0};
	DePendingEvent event;
	DeOutboxWriter *writer;
	uint64		id;

	reader.context = context;

	/* none is active at pre-commit, but TOASTing needs one */
	PushActiveSnapshot(GetTransactionSnapshot());
	de_horizon_derive(db);
	/* what may wait for others (the segment's lock) comes before the ids */
	writer = de_outbox_writer_open(db, de_pending_largest(pending));
	committing_db = db;
	id = de_horizon_draw(db, de_pending_count(pending));
	DE_KILL_POINT("commit-after-draw");
	while (de_pending_next(pending, &reader, &event))
		de_outbox_writer_append(writer, (int64) id++, &event);
	de_outbox_writer_close(writer);
	DE_KILL_POINT("commit-after-insert");
	PopActiveSnapshot();
	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
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
			if (pending != NULL)
			{
				de_held_end_all(pending);
				de_nested_end_all(pending);
				if (de_pending_count(pending) > 0)
					publish_write_to_outbox();
				de_pending_close(pending);
				de_held_close();
				de_nested_close();
			}
			break;

		case XACT_EVENT_PRE_PREPARE:
			/* the pending events are this backend's; nobody could insert them later */
			if (pending != NULL)
			{
				de_held_end_all(pending);
				de_nested_end_all(pending);
			}
			if (pending != NULL && de_pending_count(pending) > 0)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has published events"),
						 errhint("Use COMMIT, or publish in another transaction.")));
			committing = true;
			if (pending != NULL)
			{
				de_pending_close(pending);
				de_held_close();
				de_nested_close();
			}
			break;

		case XACT_EVENT_COMMIT:
			if (committing_db != NULL)
			{
				DE_KILL_POINT("commit-after-record");
				de_horizon_commit(committing_db);
			}
			committing_db = NULL;
			pending = NULL;
			de_held_forget();
			de_nested_forget();
			committing = false;
			break;

		case XACT_EVENT_ABORT:
			de_horizon_abort();
			committing_db = NULL;
			pending = NULL;
			de_held_forget();
			de_nested_forget();
			committing = false;
			break;

		case XACT_EVENT_PREPARE:
			pending = NULL;
			de_held_forget();
			de_nested_forget();
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
	if (pending == NULL)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		de_pending_abort_level(pending, GetCurrentTransactionNestLevel());
		de_held_abort_level(GetCurrentTransactionNestLevel());
		de_nested_abort_level(GetCurrentTransactionNestLevel());
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		de_pending_commit_level(pending, GetCurrentTransactionNestLevel());
		de_held_commit_level(GetCurrentTransactionNestLevel());
		de_nested_commit_level(GetCurrentTransactionNestLevel());
	}
}

/*
 * Throws when the transaction may have no further event.
 */
static void
publish_check_limits(void)
{
	if (de_max_events_per_transaction > 0 &&
		de_pending_count(pending) + de_held_count() + de_nested_count() >=
			(uint64) de_max_events_per_transaction)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many events in one transaction"),
				 errdetail("The limit is %d: events of others wait while those of a transaction are inserted at its commit.",
						   de_max_events_per_transaction),
				 errhint("Publish in several transactions, or increase durable_event.max_events_per_transaction.")));
	if (de_max_outbox_size > 0)
		publish_check_outbox_size();
}

/*
 * Throws when the outbox, with what this transaction has pending, has grown to
 * max_outbox_size.  Looked up at most once a second, also in the midst of a
 * transaction: the limit guards a disk, not a byte.
 */
static void
publish_check_outbox_size(void)
{
	static bool looked = false;
	static int64 looked_at = 0;
	static int64 size = 0;
	int64		now = de_monotonic_ms();
	int64		bytes = (int64) (de_pending_bytes(pending) + de_held_bytes() +
						   de_nested_bytes());

	if (!looked || now - looked_at >= 1000)
	{
		size = de_outbox_size(de_database_get(MyDatabaseId), de_max_outbox_size);
		looked = true;
		looked_at = now;
	}
	if (size + bytes >= (int64) de_max_outbox_size * 1024 * 1024)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("outbox of durable_event is full"),
				 errdetail("It takes %lld MB, the pending events of this transaction take %lld MB, the limit is %d MB.",
						   (long long) (size / (1024 * 1024)),
						   (long long) (bytes / (1024 * 1024)), de_max_outbox_size),
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
	static const Oid types[] = {
		UUIDOID, TEXTOID, TEXTOID, JSONOID, BYTEAOID, TEXTOID, JSONBOID, TIMESTAMPTZOID
	};
	ReturnSetInfo *rsinfo;
	DePendingReader reader = {0};
	DePendingEvent event;
	MemoryContext row_context;

	de_shmem_require();
	rsinfo = de_rows_begin(fcinfo, lengthof(types), types);
	if (pending == NULL || committing)
		return (Datum) 0;
	de_held_end(pending);
	reader.context = CurrentMemoryContext;
	row_context = AllocSetContextCreate(CurrentMemoryContext, "durable_event pending_events",
										ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(row_context);
	while (de_pending_next(pending, &reader, &event))
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
			values[3] = PointerGetDatum(payload); /* a json looks like a text */
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
