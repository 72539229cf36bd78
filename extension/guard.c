/*-------------------------------------------------------------------------
 *
 * guard.c
 *		The trigger that guards the outbox segments and relay_state.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(durable_event_guard_outbox);

/*
 * SQL: guard_outbox() returns trigger, ENABLE ALWAYS on the segments: rows come
 * in by publish_event() only, which fires no triggers.  What replication
 * brings is left out silently (a publication FOR ALL TABLES carries the
 * publisher's segments; an error would stop the subscription); anybody else
 * is told.  ENABLE REPLICA on relay_state, where it leaves out a publisher's
 * source and pause.
 */
Datum
durable_event_guard_outbox(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("durable_event.guard_outbox() must be called by a trigger")));
	if (!IsLogicalWorker() && SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot change table \"%s\" directly",
						RelationGetRelationName(data->tg_relation)),
				 errhint("Use durable_event.publish_event() to add events; the relay removes them after durable_event.retention.")));
	return PointerGetDatum(NULL);
}
