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

/* Bytes of a record: key, value, names and values of headers. */
extern Size de_record_size(const DeRecord *record);

/*
 * The JSON of a record of n bytes never exceeds this times n, plus
 * DE_EVENT_OVERHEAD: each byte may become \u00xx, the key's in two places.
 */
#define DE_EVENT_EXPANSION 12
#define DE_EVENT_OVERHEAD 4096

/*
 * Appends one record as a CloudEvent.  Throws nothing while the buffer stays
 * below 1 GB (out of memory apart): records larger than the setting
 * max_record_size are not for here.
 */
extern void de_cloudevent_append(StringInfo json, const DeRecord *record, DeCloudEvent *event);

#endif							/* DE_CLOUDEVENT_H */
