/*
 * Records as CloudEvents, byte by byte; random JSON held against a second opinion.
 *
 * links: worker/delivery/cloudevent.c worker/delivery/text.c worker/base/json.c
 */
#include "postgres.h"

#include "extension/base/compat.h"
#include "records.h"
#include "server_stubs.h"
#include "tap.h"
#include "worker/base/json.h"
#include "worker/delivery/cloudevent.h"

#define RANDOM_RECORDS 100000

/* One record's JSON, to be used before the next call. */
static const char *
single(const DeRecord *record)
{
	static StringInfoData json;
	DeCloudEvent event;

	if (json.data == NULL)
		initStringInfo(&json);
	resetStringInfo(&json);
	de_cloudevent_append(&json, record, &event);
	return json.data;
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
#define JSON_TYPE ",\"datacontenttype\":\"application/json\""
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
is_expanded(const DeRecord *record, const char *name)
{
	Size		size = strlen(single(record));
	Size		limit = DE_EVENT_EXPANSION * de_record_size(record) + DE_EVENT_OVERHEAD;

	if (!ok(size <= limit, name))
		printf("# %zu bytes, limit %zu\n", size, limit);
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

	record = record_of(12, NULL, "[\"\\ud83d\"]", plain);
	ok(strstr(single(&record), "\"data_base64\":\"WyJcdWQ4M2QiXQ==\"}") != NULL,
	   "and an unpaired surrogate, which strict readers refuse");

	record = record_of(12, NULL, "[1e999]", plain);
	ok(strstr(single(&record), "\"data_base64\":\"WzFlOTk5XQ==\"}") != NULL,
	   "and a number that is infinite to most");

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

/* The worst there is: bytes that need six each, the key in two places. */
static void
test_expansion(void)
{
	static DeKafkaHeader worst[200];
	static char bytes[3000];
	static char topic[250];
	static char names[200][21];
	DeRecord	record = record_of(PG_INT64_MAX, bytes, NULL, NULL);
	Size		limit;

	memset(bytes, 1, sizeof(bytes));
	memset(topic, 't', sizeof(topic) - 1);
	record.topic = topic;
	record.partition = PG_INT32_MAX;
	record.key_len = sizeof(bytes);
	record.headers = worst;
	ok(de_record_size(&record) == sizeof(bytes), "a record's size: its key");
	is_expanded(&record, "a key");

	for (int i = 0; i < lengthof(worst); i++)
	{
		snprintf(names[i], sizeof(names[i]), "averyveryverylong%d", i);
		worst[i].name = names[i];
		worst[i].name_len = strlen(names[i]);
		worst[i].value = bytes;
		worst[i].value_len = i % 7;
	}
	record.nheaders = lengthof(worst);
	record.value = "";
	is_expanded(&record, "many headers");
	record.value = bytes;
	record.value_len = sizeof(bytes);
	limit = de_record_size(&record);
	record.headers = NULL;
	record.nheaders = 0;
	ok(limit > de_record_size(&record) + lengthof(worst) * 18, "their names count");
	is_expanded(&record, "a value");
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
		JsonLexContext lex;
		bool		expected;
		DeRecord	record;
		bool		got;

		for (int j = 0; j < ntokens; j++)
			strcat(text, tokens[tap_random(lengthof(tokens))]);

		de_compat_json_lex_begin(&lex, text, strlen(text));
		expected = pg_encoding_verifymbstr(PG_UTF8, text, strlen(text)) == strlen(text) &&
			pg_parse_json(&lex, &nullSemAction) == JSON_SUCCESS;

		record = record_of(1, NULL, text, headers);
		got = strstr(single(&record), "\"data\":") != NULL;
		valid += expected;
		if (got != expected && differ++ < 5)
			printf("# differs: %s\n", text);
	}
	printf("# %d of %d random texts were JSON\n", valid, RANDOM_RECORDS);
	ok(differ == 0 && valid > 1000, "random data is JSON for us when it is for the server");
}

/* Whatever is in a record, what is made of it is JSON that every reader takes. */
static void
test_random_records(void)
{
	static const char *const names[] = {
		"ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "ce_sequence", "ce_dataschema",
		"content-type", "traceparent", "ce_traceparent", "tenant", "data", "ce_data", "x-y", ""
	};
	static const char *const types[] = {"application/json", "a/b+json; x=1", "text/plain", ""};
	static const char *const pieces[] = {
		"a", "\"", "\\", "\n", "\x01", "\x7f", "\xc3\xa9", "\xc3", "\xff", "{", "}", "[1]", "\\u0000",
		"\\ud83d", "1e999", "{\"a\":1}", "\xed\xa0\x80", "00-", "x"
	};
	int			differ = 0;

	for (int i = 0; i < RANDOM_RECORDS; i++)
	{
		DeKafkaHeader headers[12];
		char		texts[14][64];
		DeRecord	record = record_of((int64) tap_random(UINT64CONST(1) << 62), NULL, NULL, NULL);
		StringInfoData json;
		DeCloudEvent event;

		for (int j = 0; j < lengthof(texts); j++)
		{
			texts[j][0] = '\0';
			for (int k = (int) tap_random(8); k > 0; k--)
				strcat(texts[j], pieces[tap_random(lengthof(pieces))]);
		}
		record.nheaders = (int) tap_random(lengthof(headers) + 1);
		record.headers = headers;
		for (int j = 0; j < record.nheaders; j++)
		{
			const char *value = texts[j];

			headers[j].name = names[tap_random(lengthof(names))];
			headers[j].name_len = strlen(headers[j].name);
			if (strcmp(headers[j].name, "content-type") == 0)
				value = types[tap_random(lengthof(types))];
			headers[j].value = tap_random(8) == 0 ? NULL : value;
			/* with its NUL, now and then */
			headers[j].value_len = headers[j].value == NULL ? 0 :
															  strlen(value) + (tap_random(16) == 0);
		}
		if (tap_random(4) > 0)
		{
			record.key = texts[12];
			record.key_len = strlen(texts[12]);
		}
		if (tap_random(4) > 0)
		{
			record.value = texts[13];
			record.value_len = strlen(texts[13]);
		}
		record.timestamp_ms = (int64) tap_random(UINT64CONST(1) << (1 + tap_random(62))) - 1;

		/* one of its own: the sanitizer sees its bounds */
		initStringInfo(&json);
		de_cloudevent_append(&json, &record, &event);
		if ((!de_json_interoperable(json.data, json.len) || json.len != strlen(json.data) ||
			 event.id_len <= 0 || event.id_start + event.id_len > json.len ||
			 json.data[event.id_start + event.id_len] != '"') &&
			differ++ < 5)
			printf("# differs: %s\n", json.data);
		pfree(json.data);
	}
	ok(differ == 0, "whatever is in a record, it makes JSON");
}

int
main(void)
{
	const char *const json_type[] = {"content-type", "application/json", NULL};
	DeRecord	record;

	tap_seed();
	test_our_records();
	test_foreign_records();
	test_expansion();

	record = record_of(1, NULL, nested(500), json_type);
	ok(strstr(single(&record), "\"data\":[[[[") != NULL, "deep data");
	record = record_of(1, NULL, nested(501), json_type);
	ok(strstr(single(&record), "\"data_base64\":") != NULL, "too deep data goes as bytes");

	test_random_data();
	test_random_records();
	return tap_done();
}
