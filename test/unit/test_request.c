/*
 * Requests: bodies of several events, their identity, header lines, signatures.
 *
 * links: worker/delivery/request.c worker/delivery/cloudevent.c worker/delivery/sign.c
 * links: worker/delivery/text.c worker/base/json.c extension/base/secret.c
 */
#include "postgres.h"

#include "common/base64.h"
#include "common/hmac.h"

#include "records.h"
#include "server_stubs.h"
#include "tap.h"
#include "worker/delivery/request.h"

/* ---- batches, identity ---- */

static void
begin_batch(DeRequest *body, const char *group, const char *topic, int64 first, int n)
{
	de_request_begin(body, DE_DELIVERY_BATCH, group, topic, 3);
	for (int i = 0; i < n; i++)
	{
		DeRecord	record = record_of(first + 2 * i, NULL, NULL, NULL);

		de_request_append(body, &record);
	}
	de_request_finish(body);
}

/* The webhook-id of such a batch, to be used before the second next call. */
static const char *
id_of(const char *group, const char *topic, int64 first, int n)
{
	static char ids[2][80];
	static int	next = 0;
	DeRequest body;
	char	   *id = ids[next ^= 1];

	begin_batch(&body, group, topic, first, n);
	for (int i = 0; i < 32; i++)
		sprintf(id + 2 * i, "%02x", body.digest[i]);
	de_request_free(&body);
	return id;
}

/* Events encoded one by one and put together make the same request. */
static void
test_encoded(void)
{
	static const char *const traced[] = {
		"ce_id", "x-1", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		NULL};
	DeRequest	whole;
	DeRequest	pieces;
	StringInfoData json;

	initStringInfo(&json);
	de_request_begin(&whole, DE_DELIVERY_BATCH, "g", "orders", 3);
	de_request_begin(&pieces, DE_DELIVERY_BATCH, "g", "orders", 3);
	for (int i = 0; i < 3; i++)
	{
		DeRecord	record = record_of(10 + i, "k", "{}", i == 1 ? traced : NULL);
		DeCloudEvent event;
		int			start = json.len;

		de_request_append(&whole, &record);
		de_cloudevent_append(&json, &record, &event);
		event.id_start -= start;
		de_request_add(&pieces, json.data + start, json.len - start, record.offset, &event);
	}
	de_request_finish(&whole);
	de_request_finish(&pieces);
	is_string(pieces.json.data, whole.json.data, "encoded events make the same body");
	ok(memcmp(pieces.digest, whole.digest, sizeof(whole.digest)) == 0 &&
		   strcmp(pieces.trace.id, whole.trace.id) == 0 && pieces.trace.sampled &&
		   pieces.first_offset == 10 && pieces.last_offset == 12 && pieces.nevents == 3,
	   "and the same identity and trace");
	de_request_free(&whole);
	de_request_free(&pieces);
}

static void
test_batches(void)
{
	DeRequest body;

	begin_batch(&body, "g", "orders", 5, 2);
	is_string(body.json.data, "[" FOREIGN("5") PLACE("5") "}," FOREIGN("7") PLACE("7") "}]",
			  "a batch is an array of events");
	ok(body.nevents == 2 && body.first_offset == 5 && body.last_offset == 7,
	   "a body knows its offsets");
	de_request_free(&body);

	test_encoded();

	ok(strcmp(id_of("g", "orders", 5, 2), id_of("g", "orders", 5, 2)) == 0,
	   "the same events have the same id");
	ok(strcmp(id_of("g", "orders", 5, 2), id_of("h", "orders", 5, 2)) != 0,
	   "another group has another");
	ok(strcmp(id_of("go", "rders", 5, 2), id_of("g", "orders", 5, 2)) != 0,
	   "names do not run into each other");
	ok(strcmp(id_of("g", "orders", 5, 2), id_of("g", "orders", 5, 3)) != 0 &&
		   strcmp(id_of("g", "orders", 5, 2), id_of("g", "orders", 6, 2)) != 0,
	   "other offsets have another");
}

/* ---- headers, signatures ---- */

/* The value of a header line, "" when it is not there. */
static const char *
header_value(const char **headers, int n, const char *name)
{
	int			len = strlen(name);

	for (int i = 0; i < n; i++)
	{
		if (strncmp(headers[i], name, len) == 0 && strncmp(headers[i] + len, ": ", 2) == 0)
			return headers[i] + len + 2;
	}
	return "";
}

/* What Standard Webhooks says a signature is, written down a second time. */
static const char *
sign(const char *key, int key_len, const char *id, const char *timestamp, const char *body)
{
	static char signature[64];
	static char message[4096];
	uint8		mac[32];
	pg_hmac_ctx *ctx = pg_hmac_create(PG_SHA256);
	int			len = snprintf(message, sizeof(message), "%s.%s.%s", id, timestamp, body);

	pg_hmac_init(ctx, (const uint8 *) key, key_len);
	pg_hmac_update(ctx, (const uint8 *) message, len);
	pg_hmac_final(ctx, mac, sizeof(mac));
	pg_hmac_free(ctx);
	strcpy(signature, "v1,");
	signature[3 + pg_b64_encode((const void *) mac, sizeof(mac), signature + 3, 60)] = '\0';
	return signature;
}

static void
test_headers_and_signatures(void)
{
	static const char secret[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
	static const char *const traced[] = {
		"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", NULL};
	char		key[64];
	int			key_len = pg_b64_decode(secret + 6, strlen(secret) - 6, (void *) key, sizeof(key));
	DeRequest body;
	DeAttempt attempt = {0};
	DeRecord	record;
	const char **headers;
	const char *id;
	char	   *first_id;
	char	   *trace;
	char		both[200];
	int			n;

	/* the example that the libraries of Standard Webhooks test themselves with */
	is_string(sign(key, key_len, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330",
				   "{\"test\": 2432232314}"),
			  "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
			  "the reference signs as Standard Webhooks does");

	begin_batch(&body, "billing", "orders", 5, 2);
	attempt.group = "billing";
	attempt.topic = "orders";
	attempt.partition = 3;
	attempt.attempt = 2;
	attempt.timeout_ms = 30000;
	attempt.generation = 9;
	attempt.unix_seconds = 1614265330;
	attempt.secret = "";
	attempt.previous_secret = "old";

	n = de_request_headers(&body, &attempt, &headers);
	is_string(headers[0], "content-type: application/cloudevents-batch+json",
			  "content type of a batch");
	is_string(header_value(headers, n, "webhook-timestamp"), "1614265330", "webhook-timestamp");
	is_string(header_value(headers, n, "webhook-signature"), "", "unsigned without a secret");
	is_string(header_value(headers, n, "durable-event-group"), "billing", "group");
	is_string(header_value(headers, n, "durable-event-topic"), "orders", "topic");
	is_string(header_value(headers, n, "durable-event-partition"), "3", "partition");
	is_string(header_value(headers, n, "durable-event-first-offset"), "5", "first offset");
	is_string(header_value(headers, n, "durable-event-last-offset"), "7", "last offset");
	is_string(header_value(headers, n, "durable-event-attempt"), "2", "attempt");
	is_string(header_value(headers, n, "durable-event-timeout-ms"), "30000", "timeout");
	is_string(header_value(headers, n, "durable-event-term"), "9", "term");
	id = header_value(headers, n, "webhook-id");
	ok(strlen(id) == 36 && strncmp(id, "deb_", 4) == 0 && strchr(id, '.') == NULL, "webhook-id");
	trace = pstrdup(header_value(headers, n, "traceparent"));
	ok(strlen(trace) == 55 && strncmp(trace, "00-", 3) == 0 && strcmp(trace + 52, "-01") == 0,
	   "a delivery has its own trace");
	first_id = pstrdup(id);

	attempt.attempt = 3;
	attempt.secret = secret;
	attempt.previous_secret = "";
	n = de_request_headers(&body, &attempt, &headers);
	id = header_value(headers, n, "webhook-id");
	is_string(id, first_id, "the next attempt has the same id");
	ok(strncmp(header_value(headers, n, "traceparent"), trace, 36) == 0 &&
		   strcmp(header_value(headers, n, "traceparent"), trace) != 0,
	   "and is another span of the same trace");
	is_string(header_value(headers, n, "webhook-signature"),
			  sign(key, key_len, id, "1614265330", body.json.data),
			  "signed with a whsec_ secret: its bytes");

	attempt.secret = "plain";
	n = de_request_headers(&body, &attempt, &headers);
	is_string(header_value(headers, n, "webhook-signature"),
			  sign("plain", 5, id, "1614265330", body.json.data), "signed with a plain secret");

	attempt.secret = "whsec_-_-_";
	n = de_request_headers(&body, &attempt, &headers);
	is_string(header_value(headers, n, "webhook-signature"),
			  sign("\xfb\xff\xbf", 3, id, "1614265330", body.json.data),
			  "in the other alphabet as well");

	attempt.secret = "plain";
	attempt.previous_secret = secret;
	n = de_request_headers(&body, &attempt, &headers);
	strcpy(both, sign("plain", 5, id, "1614265330", body.json.data));
	strcat(both, " ");
	strcat(both, sign(key, key_len, id, "1614265330", body.json.data));
	is_string(header_value(headers, n, "webhook-signature"), both,
			  "the previous secret signs as well");
	de_request_free(&body);

	record = record_of(5, NULL, NULL, traced);
	de_request_begin(&body, DE_DELIVERY_SINGLE, "billing", "orders", 3);
	de_request_append(&body, &record);
	de_request_finish(&body);
	n = de_request_headers(&body, &attempt, &headers);
	is_string(headers[0], "content-type: application/cloudevents+json", "content type of an event");
	ok(strncmp(header_value(headers, n, "traceparent"), traced[1], 36) == 0 &&
		   strcmp(header_value(headers, n, "traceparent") + 52, "-00") == 0,
	   "the delivery of one event goes on with its trace");
	ok(strstr(body.json.data, "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-"
							  "b7ad6b7169203331-00\"") != NULL,
	   "which the event keeps");
	de_request_free(&body);
}

int
main(void)
{
	tap_seed();
	test_batches();
	test_headers_and_signatures();
	return tap_done();
}
