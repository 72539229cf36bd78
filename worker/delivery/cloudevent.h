/*-------------------------------------------------------------------------
 *
 * cloudevent.h
 *		One record as a CloudEvent in JSON (docs/reference.md, "Delivery").
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_CLOUDEVENT_H
#define DE_CLOUDEVENT_H

#include "lib/stringinfo.h"
#include "worker/kafka/record.h"

/* A W3C trace. */
typedef struct DeTrace
{
	char		id[33];			/* "" = none */
	bool		sampled;		/* recorded by its publisher */
} DeTrace;

/* What a request must know of an event besides its JSON. */
typedef struct DeCloudEvent
{
	int			id_start;		/* where its id stands in the buffer, escaped */
	int			id_len;
	DeTrace		trace;
} DeCloudEvent;

/*
 * Appends one record as a CloudEvent.  May throw only out_of_memory.  The
 * caller keeps the buffer below 1 GB (a record may grow sixfold by escapes).
 */
extern void de_cloudevent_append(StringInfo json, const DeRecord *record, DeCloudEvent *event);

#endif							/* DE_CLOUDEVENT_H */
