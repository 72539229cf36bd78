/*-------------------------------------------------------------------------
 *
 * request.c
 *		The request of the delivery protocol: records become a body, an attempt
 *		becomes header lines.
 *
 * Pure: no state; linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bswap.h"

#include "worker/delivery/request.h"
#include "worker/delivery/sign.h"
#include "worker/delivery/text.h"

#define REQUEST_ID_BYTES 16		/* of the digest, in hex */
#define REQUEST_HEADER_LINES 14

static void request_note_event(DeRequest *body, int64 offset, const char *id, int id_len,
							   const DeTrace *trace);
static void request_append_traceparent(StringInfo buf, const DeRequest *body,
									   const DeAttempt *attempt);

/* ---- body ---- */

/*
 * Starts a body.  The hash is taken at the end, over a copy of its input, and
 * not as the records come: a hash context belongs to a resource owner, and one
 * per body would have to be given back on each error path, where 48 bytes per
 * event go with their memory context.
 */
void
de_request_begin(DeRequest *body, DeDeliveryMode mode, const char *group,
				 const char *topic, int32 partition)
{
	uint32		partition_be = pg_hton32((uint32) partition);

	memset(body, 0, sizeof(*body));
	body->mode = mode;
	initStringInfo(&body->json);
	initStringInfo(&body->identity);

	/* with their NULs: group "a" and topic "bc" are not group "ab" and topic "c" */
	appendBinaryStringInfo(&body->identity, group, strlen(group) + 1);
	appendBinaryStringInfo(&body->identity, topic, strlen(topic) + 1);
	appendBinaryStringInfo(&body->identity, (const char *) &partition_be, sizeof(partition_be));

	if (mode == DE_DELIVERY_BATCH)
		appendStringInfoCharMacro(&body->json, '[');
}

/*
 * Appends one record as a CloudEvent.
 */
void
de_request_append(DeRequest *body, const DeRecord *record)
{
	StringInfo	json = &body->json;
	DeCloudEvent event;

	Assert(body->mode == DE_DELIVERY_BATCH || body->nevents == 0);

	if (body->nevents > 0)
		appendStringInfoCharMacro(json, ',');
	de_cloudevent_append(json, record, &event);
	request_note_event(body, record->offset, json->data + event.id_start, event.id_len,
					   &event.trace);
}

/*
 * Appends an event that is encoded already.
 */
void
de_request_add(DeRequest *body, const char *json, int len, int64 offset,
			   const DeCloudEvent *event)
{
	Assert(body->mode == DE_DELIVERY_BATCH || body->nevents == 0);

	if (body->nevents > 0)
		appendStringInfoCharMacro(&body->json, ',');
	appendBinaryStringInfo(&body->json, json, len);
	request_note_event(body, offset, json + event->id_start, event->id_len, &event->trace);
}

/*
 * Takes down what a body is known by: offsets, identity, the first event's
 * trace, and whether any publisher records its trace.
 */
static void
request_note_event(DeRequest *body, int64 offset, const char *id, int id_len,
				   const DeTrace *trace)
{
	uint64		offset_be = pg_hton64((uint64) offset);
	uint32		id_len_be = pg_hton32((uint32) id_len);

	if (body->nevents == 0)
		body->first_offset = offset;
	body->last_offset = offset;
	body->nevents++;

	appendBinaryStringInfo(&body->identity, (const char *) &offset_be, sizeof(offset_be));
	appendBinaryStringInfo(&body->identity, (const char *) &id_len_be, sizeof(id_len_be));
	appendBinaryStringInfo(&body->identity, id, id_len);

	if (body->trace.id[0] == '\0')
		memcpy(body->trace.id, trace->id, sizeof(trace->id));
	body->trace.sampled |= trace->sampled;
}

void
de_request_finish(DeRequest *body)
{
	if (body->mode == DE_DELIVERY_BATCH)
		appendStringInfoCharMacro(&body->json, ']');

	de_sha256(body->identity.data, body->identity.len, body->digest);
	pfree(body->identity.data);
	body->identity.data = NULL;
}

void
de_request_free(DeRequest *body)
{
	if (body->json.data != NULL)
		pfree(body->json.data);
	if (body->identity.data != NULL)
		pfree(body->identity.data);
	body->json.data = NULL;
	body->identity.data = NULL;
}

/* ---- headers ---- */

/*
 * All lines go into one buffer, each ended by its NUL: this runs for each
 * event in single mode, where fourteen small allocations and formats would
 * cost more than the body.
 */
int
de_request_headers(const DeRequest *body, const DeAttempt *attempt,
				   const char ***headers)
{
	StringInfoData text;
	StringInfoData id;
	int			start[REQUEST_HEADER_LINES];
	const char **lines;
	int			n = 0;

#define REQUEST_BEGIN_LINE(literal) \
	do \
	{ \
		Assert(n < REQUEST_HEADER_LINES); \
		start[n++] = text.len; \
		de_append_literal(&text, literal); \
	} while (0)
#define REQUEST_END_LINE() appendStringInfoCharMacro(&text, '\0')

	initStringInfo(&id);
	de_append_literal(&id, "deb_");
	de_append_hex(&id, body->digest, REQUEST_ID_BYTES);

	initStringInfo(&text);
	if (body->mode == DE_DELIVERY_BATCH)
		REQUEST_BEGIN_LINE("content-type: application/cloudevents-batch+json");
	else
		REQUEST_BEGIN_LINE("content-type: application/cloudevents+json");
	REQUEST_END_LINE();

	REQUEST_BEGIN_LINE("webhook-id: ");
	appendBinaryStringInfo(&text, id.data, id.len);
	REQUEST_END_LINE();

	REQUEST_BEGIN_LINE("webhook-timestamp: ");
	de_append_int64(&text, attempt->unix_seconds);
	REQUEST_END_LINE();

	if (attempt->secret[0] != '\0')
	{
		REQUEST_BEGIN_LINE("webhook-signature: ");
		de_sign_append(&text, attempt->secret, id.data, attempt->unix_seconds,
					   &body->json);
		if (attempt->previous_secret[0] != '\0')
		{
			appendStringInfoCharMacro(&text, ' ');
			de_sign_append(&text, attempt->previous_secret, id.data,
						   attempt->unix_seconds, &body->json);
		}
		REQUEST_END_LINE();
	}

	REQUEST_BEGIN_LINE("traceparent: ");
	request_append_traceparent(&text, body, attempt);
	REQUEST_END_LINE();

	REQUEST_BEGIN_LINE("durable-event-group: ");
	appendStringInfoString(&text, attempt->group);
	REQUEST_END_LINE();

	REQUEST_BEGIN_LINE("durable-event-topic: ");
	appendStringInfoString(&text, attempt->topic);
	REQUEST_END_LINE();

	REQUEST_BEGIN_LINE("durable-event-partition: ");
	de_append_int64(&text, attempt->partition);
	REQUEST_END_LINE();

	REQUEST_BEGIN_LINE("durable-event-first-offset: ");
	de_append_int64(&text, body->first_offset);
	REQUEST_END_LINE();

	REQUEST_BEGIN_LINE("durable-event-last-offset: ");
	de_append_int64(&text, body->last_offset);
	REQUEST_END_LINE();

	REQUEST_BEGIN_LINE("durable-event-attempt: ");
	de_append_int64(&text, attempt->attempt);
	REQUEST_END_LINE();

	REQUEST_BEGIN_LINE("durable-event-timeout-ms: ");
	de_append_int64(&text, attempt->timeout_ms);
	REQUEST_END_LINE();

	REQUEST_BEGIN_LINE("durable-event-term: ");
	de_append_int64(&text, attempt->generation);
	REQUEST_END_LINE();

#undef REQUEST_BEGIN_LINE
#undef REQUEST_END_LINE

	pfree(id.data);
	lines = palloc(sizeof(char *) * n);
	for (int i = 0; i < n; i++)
		lines[i] = text.data + start[i];
	*headers = lines;
	return n;
}

/*
 * The delivery's own span.  A single event's delivery is part of the event's
 * trace; a batch, which may hold many traces, has one of its own.  All
 * attempts share the trace and differ in the span.  Ids are taken from the
 * digest, so nothing random is needed here.
 *
 * The sampled flag follows the publishers; with no trace at all it is set,
 * because a parent that is not sampled would switch the handler's own tracing
 * off.
 */
static void
request_append_traceparent(StringInfo buf, const DeRequest *body,
						   const DeAttempt *attempt)
{
	bool		sampled = body->trace.sampled || body->trace.id[0] == '\0';
	uint64		span;

	de_append_literal(buf, "00-");
	if (body->mode == DE_DELIVERY_SINGLE && body->trace.id[0] != '\0')
		appendBinaryStringInfo(buf, body->trace.id, 32);
	else
		de_append_hex(buf, body->digest + DE_SHA256_SIZE - 16, 16);
	appendStringInfoCharMacro(buf, '-');

	memcpy(&span, body->digest, sizeof(span));
	span ^= pg_hton64(((uint64) attempt->unix_seconds << 24) ^ (uint64) attempt->attempt);
	if (span == 0)				/* not a legal span id */
		span = 1;
	de_append_hex(buf, (const uint8 *) &span, sizeof(span));
	appendStringInfoString(buf, sampled ? "-01" : "-00");
}
