/*-------------------------------------------------------------------------
 *
 * config_change.c
 *		Tells the workers that a configuration table has changed.
 *
 * Changes are announced as a relcache invalidation of the table, by a trigger:
 * the server delivers it at commit, to every backend and through WAL to those
 * of standbys, where no trigger fires.  It wakes nobody; workers look at least
 * once a second.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "extension/base/catalog.h"
#include "extension/base/config_change.h"

PG_FUNCTION_INFO_V1(durable_event_config_changed);

static const char *const config_tables[] = {
	[DE_CONFIG_RELAY_STATE] = "relay_state",
	[DE_CONFIG_EVENT_TYPE] = "event_type",
	[DE_CONFIG_CONSUMER_GROUP] = "consumer_group"
};

/* relation of each table as last seen; InvalidOid = unknown: any invalidation may be its */
static Oid	config_oids[lengthof(config_tables)];
static bool config_dirty[lengthof(config_tables)];

static void config_invalidate(Datum arg, Oid relid);

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
	for (int i = 0; i < lengthof(config_tables); i++)
		config_oids[i] = de_relation_oid(config_tables[i], RELKIND_RELATION, true);
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
