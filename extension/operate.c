/*-------------------------------------------------------------------------
 *
 * operate.c
 *		Steering: adopt(), pause_relay(), resume_relay().
 *
 * They change the row of relay_state, and the relay notices.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "extension/base/guc.h"
#include "extension/base/identity.h"

PG_FUNCTION_INFO_V1(durable_event_adopt);
PG_FUNCTION_INFO_V1(durable_event_pause_relay);
PG_FUNCTION_INFO_V1(durable_event_resume_relay);

/*
 * SQL: adopt() returns text: makes the configured source the stored one.
 */
Datum
durable_event_adopt(PG_FUNCTION_ARGS)
{
	if (de_source == NULL || de_source[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("durable_event.source is not set"),
				 errhint("Set durable_event.source to a URI of this event stream and reload.")));
	de_state_store_source(de_source);
	PG_RETURN_TEXT_P(cstring_to_text(de_source));
}

/*
 * SQL: pause_relay() returns void: the relay sends nothing until resume_relay().
 */
Datum
durable_event_pause_relay(PG_FUNCTION_ARGS)
{
	de_state_set_paused(true);
	PG_RETURN_VOID();
}

/*
 * SQL: resume_relay() returns void.
 */
Datum
durable_event_resume_relay(PG_FUNCTION_ARGS)
{
	de_state_set_paused(false);
	PG_RETURN_VOID();
}
