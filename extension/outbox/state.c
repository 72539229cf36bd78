/*-------------------------------------------------------------------------
 *
 * state.c
 *		What the relay keeps in the database, and notice of changed
 *		configuration tables.
 *
 * Progress is a sequence because setval changes it in place: written a few
 * times a second for years under a pinned xmin, a table's row would leave a
 * dead version each time.  It is WAL-logged, so it comes along at a failover,
 * and a pg_dump does not take it.
 *
 * Changes of the configuration tables are announced as a relcache
 * invalidation of the table, by a trigger: the server delivers it at commit, to
 * every backend and through WAL to those of standbys, where no trigger fires.
 * It wakes nobody; workers look at least once a second.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "extension/outbox/state.h"

PG_FUNCTION_INFO_V1(durable_event_config_changed);

static const char *const config_tables[] = {
	[DE_CONFIG_RELAY_STATE] = "relay_state",
	[DE_CONFIG_EVENT_TYPE] = "event_type",
	[DE_CONFIG_CONSUMER_GROUP] = "consumer_group"
};

/* relation of each table as last seen; InvalidOid = unknown: any invalidation may be its */
static Oid	config_oids[lengthof(config_tables)];
static bool config_dirty[lengthof(config_tables)];

static Oid	progress_oid(void);
static void config_invalidate(Datum arg, Oid relid);

/*
 * Reads the row of relay_state.
 */
void
de_state_read(DeRelayStateRow *row)
{
	MemoryContext context = CurrentMemoryContext;
	bool		isnull;

	de_config_note_tables();
	SPI_connect();
	if (SPI_execute("SELECT source, database <> (SELECT oid FROM pg_catalog.pg_database"
					" WHERE datname = pg_catalog.current_database()), paused"
					" FROM durable_event.relay_state",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read relay_state");
	row->source = NULL;
	row->paused = false;
	row->copied = false;
	if (SPI_processed > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Datum		source = SPI_getbinval(tuple, desc, 1, &isnull);

		if (!isnull)
			row->source = MemoryContextStrdup(context, TextDatumGetCString(source));
		row->copied = DatumGetBool(SPI_getbinval(tuple, desc, 2, &isnull)) && !isnull;
		row->paused = DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull));
	}
	SPI_finish();
}

/*
 * Stores the source this database's relay serves, and that this is its database.
 */
void
de_state_store_source(const char *source)
{
	Oid			types[2] = {TEXTOID, OIDOID};
	Datum		values[2] = {CStringGetTextDatum(source), ObjectIdGetDatum(MyDatabaseId)};

	SPI_connect();
	if (SPI_execute_with_args("UPDATE durable_event.relay_state SET source = $1, database = $2",
							  2, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update relay_state");
	SPI_finish();
}

/*
 * OID of the progress sequence; throws undefined_table if it is not there.
 */
static Oid
progress_oid(void)
{
	Oid			schema = get_namespace_oid("durable_event", true);
	Oid			relid = InvalidOid;

	if (OidIsValid(schema))
		relid = get_relname_relid("relay_progress", schema);
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("sequence \"durable_event.relay_progress\" does not exist")));
	return relid;
}

/*
 * Reads the sequence's tuple as it stands: without a snapshot, which a
 * sequence does not heed, and without asking for rights, since publishers come
 * here when they derive the id counter.
 */
int64
de_progress_load(void)
{
	Relation	rel = relation_open(progress_oid(), AccessShareLock);
	Buffer		buffer = ReadBuffer(rel, 0);
	Page		page;
	HeapTupleHeader tuple;
	int64		id;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	tuple = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	id = ((Form_pg_sequence_data) ((char *) tuple + tuple->t_hoff))->last_value;
	UnlockReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
	return id;
}

/*
 * Stores progress.
 */
void
de_progress_store(int64 id)
{
	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(progress_oid()), Int64GetDatum(id));
}

/*
 * Relcache callback: some configuration table may have changed.
 */
static void
config_invalidate(Datum arg, Oid relid)
{
	for (int i = 0; i < lengthof(config_tables); i++)
	{
		if (relid == InvalidOid || config_oids[i] == InvalidOid || relid == config_oids[i])
			config_dirty[i] = true;
	}
}

/*
 * True once after a change of the table (and at the first call).
 */
bool
de_config_changed(DeConfigTable table)
{
	static bool registered = false;

	if (!registered)
	{
		for (int i = 0; i < lengthof(config_tables); i++)
			config_dirty[i] = true;
		CacheRegisterRelcacheCallback(config_invalidate, (Datum) 0);
		registered = true;
	}
	if (!IsTransactionState())
		AcceptInvalidationMessages();
	if (!config_dirty[table])
		return false;
	config_dirty[table] = false;
	return true;
}

/*
 * Notes the OIDs of the configuration tables, so that only their
 * invalidations count.  Needs a transaction; to be called before reading them.
 */
void
de_config_note_tables(void)
{
	Oid			schema = get_namespace_oid("durable_event", true);

	for (int i = 0; i < lengthof(config_tables); i++)
		config_oids[i] = OidIsValid(schema) ?
			get_relname_relid(config_tables[i], schema) :
			InvalidOid;
}

/*
 * SQL: config_changed() returns trigger, of the configuration tables.
 */
Datum
durable_event_config_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("durable_event.config_changed() must be called by a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}
