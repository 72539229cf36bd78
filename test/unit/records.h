/*-------------------------------------------------------------------------
 *
 * records.h
 *		Records and JSON for the tests of the delivery room.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_TEST_RECORDS_H
#define DE_TEST_RECORDS_H

#include "worker/kafka/record.h"

#define MAX_TEST_HEADERS 16

static DeKafkaHeader test_headers[MAX_TEST_HEADERS];

/* A record of topic "orders", partition 3; headers are name, value, ..., NULL. */
static inline DeRecord
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

/* what the JSON of a foreign record of record_of() begins with, and where it came from */
#define FOREIGN(offset) \
	"{\"specversion\":\"1.0\",\"id\":\"orders-3-" offset "\",\"source\":\"kafka:orders\"," \
	"\"type\":\"kafka.record\""
#define PLACE(offset) \
	",\"kafkatopic\":\"orders\",\"kafkapartition\":3,\"kafkaoffset\":\"" offset "\""

/* Nested arrays, depth of them. */
static inline const char *
nested(int depth)
{
	static char text[20001];

	memset(text, '[', depth);
	memset(text + depth, ']', depth);
	text[2 * depth] = '\0';
	return text;
}

#endif							/* DE_TEST_RECORDS_H */
