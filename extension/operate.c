/*-------------------------------------------------------------------------
 *
 * operate.c
 *		Steering: adopt().  (pause_relay() and resume_relay() are SQL: they
 *		change the row of relay_state, and the relay notices.)
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "extension/base/guc.h"
#include "extension/base/identity.h"

PG_FUNCTION_INFO_V1(durable_event_adopt);

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
