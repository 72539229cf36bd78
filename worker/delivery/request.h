/*-------------------------------------------------------------------------
 *
 * request.h
 *		The request of the delivery protocol (docs/reference.md, "Delivery"):
 *		the body for a run of records, the header lines of an attempt.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_REQUEST_H
#define DE_REQUEST_H

#include "lib/stringinfo.h"
#include "worker/delivery/cloudevent.h"
#include "worker/delivery/sign.h"
#include "worker/kafka/record.h"

typedef enum DeDeliveryMode
{
	DE_DELIVERY_SINGLE,
	DE_DELIVERY_BATCH
} DeDeliveryMode;

/* A request body under construction; all memory in the context it was begun in. */
typedef struct DeRequest
{
	DeDeliveryMode mode;
	StringInfoData json;
	int			nevents;
	int64		first_offset;
	int64		last_offset;
	uint8		digest[DE_SHA256_SIZE]; /* of group, topic, partition, offsets, ids; after finish */
	StringInfoData identity;	/* what digest is of */
	DeTrace		trace;			/* id: of the first event that has one; sampled: some event's is */
} DeRequest;

extern void de_request_begin(DeRequest *body, DeDeliveryMode mode, const char *group,
							 const char *topic, int32 partition);

/*
 * Appends one record as a CloudEvent; offsets ascend; exactly one in single
 * mode.  Throws nothing while the body stays below 1 GB, out of memory apart.
 */
extern void de_request_append(DeRequest *body, const DeRecord *record);

/*
 * Appends an event that is encoded already: its JSON, of len bytes, as
 * de_cloudevent_append() made it of the record with that offset.
 */
extern void de_request_add(DeRequest *body, const char *json, int len, int64 offset,
						   const DeCloudEvent *event);

/* Ends a body and takes its digest; nothing may be appended any more. */
extern void de_request_finish(DeRequest *body);

/* Frees what the body holds. */
extern void de_request_free(DeRequest *body);

typedef struct DeAttempt
{
	const char *group;
	const char *topic;
	int32		partition;
	int			attempt;		/* from 1 */
	int			timeout_ms;
	int32		generation;		/* durable-event-term */
	int64		unix_seconds;	/* webhook-timestamp */
	const char *secret;			/* "" = unsigned */
	const char *previous_secret;	/* "" = none */
} DeAttempt;

/*
 * The header lines of one attempt, "name: value", palloc'd in the current
 * context (one chunk for all the text, one for the array); returns their
 * number.  The body must be finished.
 */
extern int	de_request_headers(const DeRequest *body, const DeAttempt *attempt,
							  const char ***headers);

#endif							/* DE_REQUEST_H */
