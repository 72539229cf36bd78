/*
 * Delivery protocol: bodies byte by byte, identity, signatures, and what
 * answers mean, with random ones held against a second opinion.
 *
 * links: worker/delivery/answer.c worker/delivery/delivery.c worker/base/json.c
 */
#include "postgres.h"

#include "common/base64.h"
#include "common/hmac.h"
#include "common/jsonapi.h"
#include "mb/pg_wchar.h"

#include "server_stubs.h"
#include "tap.h"
#include "worker/delivery/delivery.h"

#define RANDOM_RECORDS 100000
#define RANDOM_ANSWERS 300000

/* ---- records ---- */

#define MAX_TEST_HEADERS 16

static DeKafkaHeader test_headers[MAX_TEST_HEADERS];

/* A record of topic "orders", partition 3; headers are name, value, ..., NULL. */
static DeRecord
record_of(int64 offset, const char *key, const char *value, const char *const *headers)
{
	DeRecord	record = {0};

	record.topic = "orders";
	record.partition = 3;
	record.offset = offset;
	record.timestamp_ms = -1;
	record.key = key;
	record.key_len = key != NULL ? strlen(key) : 0;
	record.value = value;
	record.value_len = value != NULL ? strlen(value) : 0;
	record.headers = test_headers;
	for (; headers != NULL && headers[0] != NULL; headers += 2)
	{
		DeKafkaHeader *header = &test_headers[record.nheaders++];

		header->name = headers[0];
		header->name_len = strlen(headers[0]);
		header->value = headers[1];
		header->value_len = headers[1] != NULL ? strlen(headers[1]) : 0;
	}
	return record;
}

/* The body of one record in single mode, to be used before the next call. */
static const char *
single(const DeRecord *record)
{
	static DeDeliveryBody body;

	if (body.json.data != NULL)
		de_delivery_free(&body);
	de_delivery_begin(&body, DE_DELIVERY_SINGLE, "g", record->topic, record->partition);
	de_delivery_append(&body, record);
	de_delivery_finish(&body);
	return body.json.data;
}

#define OUR_HEADERS \
	"ce_specversion", "1.0", "ce_id", "0192-a", "ce_source", "shop", "ce_type", "order_paid", \
		"ce_time", "2026-11-23T10:00:00Z", "ce_sequence", "00000000000000000042", \
		"content-type", "application/json"

/* attributes of such a record, up to the ones of Kafka */
#define OUR_EVENT \
	"{\"specversion\":\"1.0\",\"id\":\"0192-a\",\"source\":\"shop\",\"type\":\"order_paid\"," \
	"\"time\":\"2026-11-23T10:00:00Z\""
#define OUR_SEQUENCE ",\"sequence\":\"00000000000000000042\""
#define PLACE(offset) \
	",\"kafkatopic\":\"orders\",\"kafkapartition\":3,\"kafkaoffset\":\"" offset "\""
#define JSON_TYPE ",\"datacontenttype\":\"application/json\""
#define FOREIGN(offset) \
	"{\"specversion\":\"1.0\",\"id\":\"orders-3-" offset "\",\"source\":\"kafka:orders\"," \
	"\"type\":\"kafka.record\""

static void
test_our_records(void)
{
	static const char *const ours[] = {OUR_HEADERS, NULL};
	static const char *const with_subject[] = {OUR_HEADERS, "ce_subject", "c\"7", NULL};
	static const char *const with_extensions[] = {
		OUR_HEADERS, "tenant", "a\tb", "X-Trace", "no", "tenant", "second", "ce_region", "eu",
		"id", "reserved", "averylongnameofmorethan20", "no", "empty", "", "nothing", NULL, NULL};
	static const char *const ids[] = {"ce_id", "", "ce_id", "first", "ce_id", "second", NULL};
	DeRecord	record;

	record = record_of(7, "c-1", "{\"a\": [1, 2]}", ours);
	is_string(single(&record),
			  OUR_EVENT ",\"subject\":\"c-1\",\"partitionkey\":\"c-1\"" OUR_SEQUENCE PLACE("7")
				  JSON_TYPE ",\"data\":{\"a\": [1, 2]}}",
			  "an event of ours: the key is its subject, JSON goes as it is");

	record = record_of(7, NULL, "null", ours);
	is_string(single(&record),
			  OUR_EVENT OUR_SEQUENCE PLACE("7") JSON_TYPE ",\"data\":null}",
			  "without key; null is data");

	record = record_of(7, "k", NULL, ours);
	is_string(single(&record),
			  OUR_EVENT ",\"subject\":\"k\",\"partitionkey\":\"k\"" OUR_SEQUENCE PLACE("7") "}",
			  "a tombstone has no data");

	record = record_of(7, "k", "1", with_subject);
	is_string(single(&record),
			  OUR_EVENT ",\"subject\":\"c\\\"7\",\"partitionkey\":\"k\"" OUR_SEQUENCE PLACE("7")
				  JSON_TYPE ",\"data\":1}",
			  "ce_subject is the subject, text is escaped");

	record = record_of(7, NULL, "1", with_extensions);
	is_string(single(&record),
			  OUR_EVENT OUR_SEQUENCE PLACE("7") ",\"tenant\":\"a\\tb\",\"region\":\"eu\",\"empty\":\"\"" JSON_TYPE ",\"data\":1}",
			  "headers with legal names become attributes, each name once, the first counts");

	record = record_of(7, NULL, NULL, ids);
	is_string(single(&record),
			  "{\"specversion\":\"1.0\",\"id\":\"first\",\"source\":\"kafka:orders\","
			  "\"type\":\"kafka.record\"" PLACE("7") "}",
			  "of several ids the first that is not empty counts");
}

static void
test_foreign_records(void)
{
	static const char *const json_type[] = {"content-type", "Application/Vnd.x+JSON ; v=1", NULL};
	static const char *const plain[] = {"Content-Type", "application/json", NULL};
	static const char *const text_type[] = {"content-type", "text/plain", NULL};
	static const char *const bad_text[] = {"ce_id", "\xff\xfe", "tenant", "\xc3\x28", "ce_type",
										   "gr\xc3\xbc\xc3\x9f", NULL};
	static DeKafkaHeader many[1000];
	static char names[1000][8];
	DeRecord	record;
	int			found = 0;
	const char *p;

	record = record_of(12, "k", "{}", NULL);
	record.timestamp_ms = INT64CONST(1795428000123);
	is_string(single(&record),
			  FOREIGN("12") ",\"time\":\"2026-11-23T10:00:00.123Z\",\"subject\":\"k\","
							"\"partitionkey\":\"k\"" PLACE("12") JSON_TYPE ",\"data\":{}}",
			  "a foreign record is known by its place, and its time is Kafka's");

	record.timestamp_ms = PG_INT64_MAX;
	ok(strstr(single(&record), "\"time\"") == NULL, "an impossible time is left out");

	record = record_of(12, NULL, "42", NULL);
	is_string(single(&record), FOREIGN("12") PLACE("12") ",\"data_base64\":\"NDI=\"}",
			  "without content type only objects and arrays are taken for JSON");

	record = record_of(12, NULL, "{\"a\":1", NULL);
	is_string(single(&record), FOREIGN("12") PLACE("12") ",\"data_base64\":\"eyJhIjox\"}",
			  "and only when they are");

	record = record_of(12, NULL, " [true]\n", json_type);
	is_string(single(&record),
			  FOREIGN("12") PLACE("12") ",\"datacontenttype\":\"Application/Vnd.x+JSON ; v=1\",\"data\": [true]\n}",
			  "any JSON type, with parameters, in any case");

	record = record_of(12, NULL, "{\"a\":\"\xff\"}", plain);
	ok(strstr(single(&record), "\"data_base64\":\"eyJhIjoi/yJ9\"") != NULL,
	   "JSON that is not UTF-8 goes as bytes");

	record = record_of(12, NULL, "\"a\\\0b\"", plain);
	record.value_len = 6;
	ok(strstr(single(&record), "\"data_base64\"") != NULL, "so does an escaped NUL");

	record = record_of(12, NULL, "", plain);
	ok(strstr(single(&record), "\"data_base64\":\"\"}") != NULL, "and nothing at all");

	record = record_of(12, NULL, "{}", text_type);
	ok(strstr(single(&record), "\"data_base64\":\"e30=\"}") != NULL,
	   "text is not JSON, whatever it looks like");

	record = record_of(12, "a\xff", NULL, NULL);
	is_string(single(&record),
			  FOREIGN("12") ",\"partitionkeybase64\":\"Yf8=\"" PLACE("12") "}",
			  "a key that is not text keeps its own attribute");

	record = record_of(12, "a\0b", NULL, NULL);
	record.key_len = 3;
	is_string(single(&record),
			  FOREIGN("12") ",\"partitionkeybase64\":\"YQBi\"" PLACE("12") "}",
			  "so does one with a NUL");

	record = record_of(12, "", NULL, NULL);
	is_string(single(&record), FOREIGN("12") ",\"partitionkey\":\"\"" PLACE("12") "}",
			  "an empty key is a key, but no subject");

	record = record_of(12, NULL, NULL, bad_text);
	is_string(single(&record),
			  "{\"specversion\":\"1.0\",\"id\":\"orders-3-12\",\"source\":\"kafka:orders\","
			  "\"type\":\"gr\xc3\xbc\xc3\x9f\"" PLACE("12") "}",
			  "headers that are not UTF-8 are left out");

	record = record_of(12, "\x01\x1f\x7f\b\f\r\n/\\\"", NULL, NULL);
	ok(strstr(single(&record),
			  "\"partitionkey\":\"\\u0001\\u001f\x7f\\u0008\\u000c\\r\\n/\\\\\\\"\"") != NULL,
	   "control characters are escaped");

	for (int i = 0; i < lengthof(many); i++)
	{
		snprintf(names[i], sizeof(names[i]), "h%d", i);
		many[i].name = names[i];
		many[i].name_len = strlen(names[i]);
		many[i].value = "v";
		many[i].value_len = 1;
	}
	record = record_of(12, NULL, NULL, NULL);
	record.headers = many;
	record.nheaders = lengthof(many);
	for (p = single(&record); (p = strstr(p, "\"v\"")) != NULL; p++)
		found++;
	ok(found == 64, "the number of attributes is limited");
}

/* Nested arrays, depth of them. */
static const char *
nested(int depth)
{
	static char text[20001];

	memset(text, '[', depth);
	memset(text + depth, ']', depth);
	text[2 * depth] = '\0';
	return text;
}

/*
 * Random JSON tokens against the server's parser, which recurses and so cannot
 * be used in the worker.
 */
static void
test_random_data(void)
{
	static const char *const tokens[] = {
		"{", "}", "[", "]", ",", ":", "\"a\"", "\"\\u00e9\"", "\"\\x\"", "1", "-2.5e3", "01",
		"true", "null", " ", "\n", "\"\xc3\xa9\"", "\xc3", "\"", "nul", "{\"a\":", "[1,", "]]", "{}"
	};
	static const char *const headers[] = {"content-type", "application/json", NULL};
	int			valid = 0;
	int			differ = 0;

	for (int i = 0; i < RANDOM_RECORDS; i++)
	{
		char		text[256] = "";
		int			ntokens = 1 + (int) tap_random(9);
		JsonLexContext *lex;
		bool		expected;
		DeRecord	record;
		bool		got;

		for (int j = 0; j < ntokens; j++)
			strcat(text, tokens[tap_random(lengthof(tokens))]);

		lex = makeJsonLexContextCstringLen(text, strlen(text), PG_UTF8, false);
		expected = pg_encoding_verifymbstr(PG_UTF8, text, strlen(text)) == strlen(text) &&
			pg_parse_json(lex, &nullSemAction) == JSON_SUCCESS;
		pfree(lex);

		record = record_of(1, NULL, text, headers);
		got = strstr(single(&record), "\"data\":") != NULL;
		valid += expected;
		if (got != expected && differ++ < 5)
			printf("# differs: %s\n", text);
	}
	printf("# %d of %d random texts were JSON\n", valid, RANDOM_RECORDS);
	ok(differ == 0 && valid > 1000, "random data is JSON for us when it is for the server");
}

/* ---- batches, identity ---- */

static void
begin_batch(DeDeliveryBody *body, const char *group, const char *topic, int64 first, int n)
{
	de_delivery_begin(body, DE_DELIVERY_BATCH, group, topic, 3);
	for (int i = 0; i < n; i++)
	{
		DeRecord	record = record_of(first + 2 * i, NULL, NULL, NULL);

		de_delivery_append(body, &record);
	}
	de_delivery_finish(body);
}

/* The webhook-id of such a batch, to be used before the second next call. */
static const char *
id_of(const char *group, const char *topic, int64 first, int n)
{
	static char ids[2][80];
	static int	next = 0;
	DeDeliveryBody body;
	char	   *id = ids[next ^= 1];

	begin_batch(&body, group, topic, first, n);
	for (int i = 0; i < 32; i++)
		sprintf(id + 2 * i, "%02x", body.digest[i]);
	de_delivery_free(&body);
	return id;
}

static void
test_batches(void)
{
	DeDeliveryBody body;

	begin_batch(&body, "g", "orders", 5, 2);
	is_string(body.json.data, "[" FOREIGN("5") PLACE("5") "}," FOREIGN("7") PLACE("7") "}]",
			  "a batch is an array of events");
	ok(body.nevents == 2 && body.first_offset == 5 && body.last_offset == 7,
	   "a body knows its offsets");
	de_delivery_free(&body);

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
	DeDeliveryBody body;
	DeDeliveryAttempt attempt = {0};
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

	n = de_delivery_headers(&body, &attempt, &headers);
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
	n = de_delivery_headers(&body, &attempt, &headers);
	id = header_value(headers, n, "webhook-id");
	is_string(id, first_id, "the next attempt has the same id");
	ok(strncmp(header_value(headers, n, "traceparent"), trace, 36) == 0 &&
		   strcmp(header_value(headers, n, "traceparent"), trace) != 0,
	   "and is another span of the same trace");
	is_string(header_value(headers, n, "webhook-signature"),
			  sign(key, key_len, id, "1614265330", body.json.data),
			  "signed with a whsec_ secret: its bytes");

	attempt.secret = "plain";
	n = de_delivery_headers(&body, &attempt, &headers);
	is_string(header_value(headers, n, "webhook-signature"),
			  sign("plain", 5, id, "1614265330", body.json.data), "signed with a plain secret");

	attempt.secret = "whsec_no base64!";
	n = de_delivery_headers(&body, &attempt, &headers);
	is_string(header_value(headers, n, "webhook-signature"),
			  sign("whsec_no base64!", 16, id, "1614265330", body.json.data),
			  "what is not base64 is a plain secret");

	attempt.secret = "plain";
	attempt.previous_secret = secret;
	n = de_delivery_headers(&body, &attempt, &headers);
	strcpy(both, sign("plain", 5, id, "1614265330", body.json.data));
	strcat(both, " ");
	strcat(both, sign(key, key_len, id, "1614265330", body.json.data));
	is_string(header_value(headers, n, "webhook-signature"), both,
			  "the previous secret signs as well");
	de_delivery_free(&body);

	record = record_of(5, NULL, NULL, traced);
	de_delivery_begin(&body, DE_DELIVERY_SINGLE, "billing", "orders", 3);
	de_delivery_append(&body, &record);
	de_delivery_finish(&body);
	n = de_delivery_headers(&body, &attempt, &headers);
	is_string(headers[0], "content-type: application/cloudevents+json", "content type of an event");
	ok(strncmp(header_value(headers, n, "traceparent"), traced[1], 36) == 0 &&
		   strcmp(header_value(headers, n, "traceparent") + 52, "-00") == 0,
	   "the delivery of one event goes on with its trace");
	ok(strstr(body.json.data, "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-"
							  "b7ad6b7169203331-00\"") != NULL,
	   "which the event keeps");
	de_delivery_free(&body);
}

/* ---- answers ---- */

static char last_reason[256];

static DeVerdict
answer_of(int status, const char *body, int len, bool has_content_length)
{
	DeHttpResult result = {0};

	result.outcome = DE_HTTP_ANSWERED;
	result.status = status;
	result.body = body;
	result.body_len = len;
	result.has_content_length = has_content_length;
	result.retry_after_ms = -1;
	return de_delivery_interpret(&result, last_reason, sizeof(last_reason));
}

static bool
acknowledges(int status, const char *body)
{
	return answer_of(status, body, strlen(body), true) == DE_VERDICT_ACKNOWLEDGED;
}

static bool
refuses(int status, const char *body, const char *reason)
{
	bool		refused = !acknowledges(status, body) && strstr(last_reason, reason) != NULL;

	if (!refused)
		printf("# reason: %s\n", last_reason);
	return refused;
}

static void
test_answers(void)
{
	DeHttpResult result = {0};
	char		tiny[8];

	ok(acknowledges(204, ""), "204");
	ok(acknowledges(200, "") && acknowledges(201, "") && acknowledges(202, ""),
	   "200, 201 and 202 with content-length 0");
	ok(acknowledges(200, "{}") && acknowledges(201, " { } \r\n") && acknowledges(202, "null"),
	   "{} and null");
	ok(acknowledges(200, "{\"batchItemFailures\":[]}") &&
		   acknowledges(200, "{ \"batchItemFailures\" : null }"),
	   "no failures");

	ok(answer_of(200, "", 0, false) == DE_VERDICT_RETRY &&
		   strstr(last_reason, "content-length") != NULL,
	   "empty without content-length");
	ok(refuses(200, "<html><body>It works!</body></html>", "not JSON: <html>"),
	   "the page of an ingress");
	ok(refuses(200, "OK", "not JSON"), "plain text");
	ok(refuses(200, "{\"batchItemFail", "not JSON"), "a body cut off");
	ok(refuses(200, "{} {}", "not JSON"), "two values");
	ok(refuses(200, "[]", "neither"), "an array");
	ok(refuses(200, "true", "neither") && refuses(200, "0", "neither") &&
		   refuses(200, "\"\"", "neither"),
	   "a scalar");
	ok(refuses(200, "{\"status\":\"ok\"}", "\"status\""), "another member");
	ok(refuses(200, "{\"batchItemFailures\":[],\"x\":1}", "besides"), "a further member");
	ok(refuses(200, "{\"batchItemFailures\":[],\"batchItemFailures\":[]}", "besides"),
	   "the member twice");
	ok(refuses(200, "{\"batchItemFailures\":{}}", "neither an array") &&
		   refuses(200, "{\"batchItemFailures\":\"\"}", "neither an array"),
	   "a wrong type");
	ok(refuses(200, "{\"batchItemFailures\":[{\"reason\":\"x\",\"itemIdentifier\":\"e-7\"},"
					"{\"itemIdentifier\":\"e-8\",\"a\":[1,{\"itemIdentifier\":2}]}]}",
			   "2 failed events, the first \"e-7\""),
	   "failures are counted");
	ok(refuses(200, "{\"batchItemFailures\":[[],[]]}", "2 failed events"), "even shapeless ones");
	ok(refuses(200, "{\"\xff\":1}", "not JSON"), "not UTF-8");
	ok(answer_of(200, "{}\0", 3, true) == DE_VERDICT_RETRY, "a NUL");
	ok(answer_of(200, "\"\\\0\"", 4, true) == DE_VERDICT_RETRY, "an escaped NUL");
	ok(refuses(200, nested(10000), "not JSON"), "ten thousand brackets");
	ok(refuses(200, nested(500), "neither") && refuses(200, nested(501), "not JSON"),
	   "the limit of nesting");

	ok(refuses(500, "", "handler answered 500") && refuses(500, "no\nway\xff", "500: no way?"),
	   "500 with its text");
	ok(refuses(203, "{}", "203") && refuses(206, "{}", "206") && refuses(302, "", "302") &&
		   refuses(404, "{}", "404") && refuses(429, "{}", "429"),
	   "other statuses");

	result.body = "";
	result.outcome = DE_HTTP_NOBODY;
	strcpy(result.error, "connect: refused");
	ok(de_delivery_interpret(&result, last_reason, sizeof(last_reason)) == DE_VERDICT_RETRY &&
		   strcmp(last_reason, "connect: refused") == 0,
	   "nobody there");
	result.outcome = DE_HTTP_UNKNOWN;
	result.status = 204;
	ok(de_delivery_interpret(&result, last_reason, sizeof(last_reason)) == DE_VERDICT_RETRY,
	   "an unknown outcome, whatever the status");
	result.outcome = DE_HTTP_CANCELLED;
	ok(de_delivery_interpret(&result, tiny, sizeof(tiny)) == DE_VERDICT_RETRY &&
		   strlen(tiny) == 7,
	   "cancelled; a short buffer is enough");
}

/* Is the text these tokens with any whitespace around them? */
static bool
consists_of(const char *text, int len, const char *const *tokens)
{
	const char *end = text + len;

	for (;; tokens++)
	{
		while (text < end && memchr(" \t\r\n", *text, 4) != NULL)
			text++;
		if (*tokens == NULL)
			return text == end;
		if (end - text < strlen(*tokens) || memcmp(text, *tokens, strlen(*tokens)) != 0)
			return false;
		text += strlen(*tokens);
	}
}

static void
test_random_answers(void)
{
	static const char *const null_answer[] = {"null", NULL};
	static const char *const object[] = {"{", "}", NULL};
	static const char *const list[] = {"{", "\"batchItemFailures\"", ":", "[", "]", "}", NULL};
	static const char *const no_list[] = {"{", "\"batchItemFailures\"", ":", "null", "}", NULL};
	static const char *const pieces[] = {
		"{", "}", "[", "]", ":", ",", "null", "\"batchItemFailures\"", "\"batchItemFailures\":",
		" ", "\n", "{\"itemIdentifier\":\"x\"}", "\"itemIdentifier\"", "1", "\"", "\\", "{}", "[]",
		"true", "{\"batchItemFailures\":[", "]}"
	};
	static const char *const good[] = {
		"{\"batchItemFailures\":[]}", "{ }", "null", "{\"batchItemFailures\" : null}",
		"{\"batchItemFailures\":[{\"itemIdentifier\":\"a\",\"action\":\"retry\"}]}"
	};
	int			acknowledged = 0;
	int			differ = 0;

	for (int i = 0; i < RANDOM_ANSWERS; i++)
	{
		char		text[512] = "";
		int			len;
		bool		expected;

		if (i % 3 == 0)			/* random pieces */
		{
			int			n = 1 + (int) tap_random(8);

			for (int j = 0; j < n; j++)
				strcat(text, pieces[tap_random(lengthof(pieces))]);
			len = strlen(text);
		}
		else if (i % 3 == 1)	/* a good one with a byte changed, left out or cut off */
		{
			strcpy(text, good[tap_random(lengthof(good))]);
			len = strlen(text);
			switch (tap_random(4))
			{
				case 0:
					text[tap_random(len)] = (char) tap_random(256);
					break;
				case 1:
					len = (int) tap_random(len);
					break;
				case 2:
					text[len++] = (char) tap_random(256);
					break;
				default:
					break;
			}
		}
		else					/* random bytes */
		{
			len = 1 + (int) tap_random(60);
			for (int j = 0; j < len; j++)
				text[j] = (char) tap_random(256);
		}

		expected = len == 0 || consists_of(text, len, null_answer) ||
			consists_of(text, len, object) || consists_of(text, len, list) ||
			consists_of(text, len, no_list);
		acknowledged += expected;
		if ((answer_of(200, text, len, true) == DE_VERDICT_ACKNOWLEDGED) != expected &&
			differ++ < 5)
			printf("# differs: %.*s\n", len, text);
		if (!expected && last_reason[0] == '\0' && differ++ < 5)
			printf("# no reason: %.*s\n", len, text);
	}
	printf("# %d of %d random answers acknowledge\n", acknowledged, RANDOM_ANSWERS);
	ok(differ == 0 && acknowledged > 1000, "random answers acknowledge only when they say so");
}

int
main(void)
{
	const char *const json_type[] = {"content-type", "application/json", NULL};
	DeRecord	record;

	tap_seed();
	test_our_records();
	test_foreign_records();

	record = record_of(1, NULL, nested(500), json_type);
	ok(strstr(single(&record), "\"data\":[[[[") != NULL, "deep data");
	record = record_of(1, NULL, nested(501), json_type);
	ok(strstr(single(&record), "\"data_base64\":") != NULL, "too deep data goes as bytes");

	test_random_data();
	test_batches();
	test_headers_and_signatures();
	test_answers();
	test_random_answers();
	return tap_done();
}
