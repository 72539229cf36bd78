/*
 * Bodies: as large as the group wants them and never larger, unless one event
 * is; what did not fit comes first in the next one, with the same bytes.
 *
 * links: worker/proxy/batch.c worker/proxy/tracker.c worker/delivery/request.c
 * links: worker/delivery/cloudevent.c worker/delivery/sign.c worker/delivery/text.c
 * links: worker/base/json.c extension/base/secret.c
 */
#include "postgres.h"

#include "records.h"
#include "server_stubs.h"
#include "tap.h"
#include "worker/proxy/batch.h"

#define MAX_VALUE 3000

static DeRecord
record_of_size(int64 offset, int bytes)
{
	static char value[MAX_VALUE + 1];

	memset(value, 'x', bytes);
	value[0] = value[bytes - 1] = '"';
	value[bytes] = '\0';
	return record_of(offset, "key", value, NULL);
}

/* Bytes of the body of a record alone. */
static int
alone(const DeGroupDefinition *definition, const DeRecord *record)
{
	DeBatch		batch;
	int			len;

	de_batch_init(&batch, "orders", 3);
	(void) de_batch_append(&batch, definition, record);
	de_request_finish(&batch.body);
	len = batch.body.json.len;
	de_batch_clear(&batch);
	return len;
}

static int
count(const char *s, int len, const char *part)
{
	int			n = 0;

	for (int i = 0; i + (int) strlen(part) <= len; i++)
		n += memcmp(s + i, part, strlen(part)) == 0;
	return n;
}

/* Random records into batches; false if any body is too large, or an event is not there once. */
static bool
fill(int limit, int max_events, int max_value)
{
	DeGroupDefinition definition = {0};
	DeTracker  *tracker = de_tracker_create(20000);
	DeBatch		batch;
	int64		next = 0;		/* offset of the next record to be taken */
	int64		expected = 0;	/* of the next to be sent */
	bool		good = true;

	definition.mode = DE_DELIVERY_BATCH;
	definition.name_utf8 = "g";
	definition.batch_max_events = max_events;
	definition.batch_max_bytes = limit;
	de_batch_init(&batch, "orders", 3);

	while (good && expected < 2000)
	{
		if (de_batch_take_carried(&batch, &definition))
			(void) de_tracker_add(tracker, de_batch_last_offset(&batch));
		while (!de_batch_full(&batch, &definition))
		{
			DeRecord	record = record_of_size(next, 2 + (int) tap_random(max_value));

			next++;
			if (de_batch_append(&batch, &definition, &record))
				(void) de_tracker_add(tracker, record.offset);
		}
		de_request_finish(&batch.body);
		if (batch.body.json.len > limit && batch.nevents > 1)
		{
			printf("# %d bytes in %d events, limit %d\n", batch.body.json.len, batch.nevents, limit);
			good = false;
		}
		if (batch.nevents > max_events ||
			count(batch.body.json.data, batch.body.json.len, "\"specversion\"") != batch.nevents)
			good = false;
		for (int i = 0; i < batch.nevents; i++)
			good = good && batch.offsets[i] == expected++;
		de_batch_acknowledge(&batch, tracker);
		good = good && de_tracker_position(tracker) == expected &&
			next - expected == batch.carry.filled;
		de_batch_clear(&batch);
	}
	de_tracker_destroy(tracker);
	return good;
}

int
main(void)
{
	DeGroupDefinition definition = {0};
	DeBatch		batch;
	DeRecord	record = record_of_size(7, 500);
	int			len;

	tap_seed();
	definition.mode = DE_DELIVERY_BATCH;
	definition.name_utf8 = "g";
	definition.batch_max_events = 100;
	definition.batch_max_bytes = 1000000;
	len = alone(&definition, &record);

	/* to the byte: brackets and comma count */
	for (int i = -1; i <= 1; i++)
	{
		bool		fits = i >= 0;
		bool		added;

		definition.batch_max_bytes = 2 * len - 1 + i;
		de_batch_init(&batch, "orders", 3);
		record = record_of_size(7, 500);
		(void) de_batch_append(&batch, &definition, &record);
		record = record_of_size(8, 500);
		added = de_batch_append(&batch, &definition, &record);
		ok(added == fits && batch.nevents == (fits ? 2 : 1) && batch.carry.filled == !fits,
		   i < 0 ? "one byte too many: carried" :
			   i == 0 ? "just as large as allowed: added" :
						"room for a byte more: added");
		de_request_finish(&batch.body);
		ok(batch.body.json.len <= definition.batch_max_bytes, "no larger than allowed");
		if (i == 0)
			ok(batch.body.json.len == definition.batch_max_bytes, "but as large");
		de_batch_clear(&batch);
		if (!fits && batch.carry.filled)
		{
			ok(de_batch_take_carried(&batch, &definition) && batch.nevents == 1 &&
				   de_batch_last_offset(&batch) == 8 && !batch.carry.filled,
			   "the carried one begins the next body");
			ok(!de_batch_full(&batch, &definition), "which may have more");
			de_request_finish(&batch.body);
			ok(batch.body.json.len == alone(&definition, &record) &&
				   count(batch.body.json.data, batch.body.json.len, "\"kafkaoffset\":\"8\"") == 1,
			   "its bytes are what it has alone");
			de_batch_clear(&batch);
			ok(!de_batch_take_carried(&batch, &definition), "once");
		}
	}

	/* one that is too large by itself */
	definition.batch_max_bytes = 1024;
	de_batch_init(&batch, "orders", 3);
	record = record_of_size(7, 2000);
	ok(de_batch_append(&batch, &definition, &record) && de_batch_full(&batch, &definition),
	   "an event larger than the limit goes alone");
	de_batch_clear(&batch);

	/* offsets that were taken back: never two of the same in a body */
	de_batch_init(&batch, "orders", 3);
	definition.batch_max_bytes = 1000000;
	record = record_of_size(110, 10);
	(void) de_batch_append(&batch, &definition, &record);
	record = record_of_size(105, 10);
	ok(!de_batch_append(&batch, &definition, &record) && batch.carry.filled,
	   "an offset that does not ascend is carried");
	de_batch_clear(&batch);
	ok(batch.carry.filled, "and stays when the body goes");

	/* its memory counts for as long as there is any */
	de_batch_init(&batch, "orders", 3);
	definition.batch_max_bytes = 4000;
	ok(de_batch_memory(&batch) == 0, "an empty one has no memory");
	record = record_of_size(1, 2000);
	(void) de_batch_append(&batch, &definition, &record);
	len = (int) de_batch_memory(&batch);
	record = record_of_size(2, 3000);
	ok(!de_batch_append(&batch, &definition, &record) &&
		   de_batch_memory(&batch) >= (Size) len + batch.carry.json.len,
	   "what is carried counts beside the body");
	de_batch_clear(&batch);
	ok(de_batch_memory(&batch) >= (Size) batch.carry.json.len &&
		   de_batch_memory(&batch) < (Size) len + batch.carry.json.len,
	   "and without it");
	(void) de_batch_take_carried(&batch, &definition);
	ok(de_batch_memory(&batch) >= (Size) batch.body.json.len, "in the next body, too");
	de_batch_clear(&batch);
	ok(de_batch_memory(&batch) == 0, "nothing is kept when there is no event");

	/* single mode */
	definition.mode = DE_DELIVERY_SINGLE;
	definition.batch_max_events = 1;
	de_batch_init(&batch, "orders", 3);
	ok(de_batch_append(&batch, &definition, &record) && de_batch_full(&batch, &definition),
	   "single mode: one event");
	de_batch_clear(&batch);

	ok(fill(1024, 100, 20), "small limit, small events");
	ok(fill(1024, 100, 2900), "small limit, events above and below it");
	ok(fill(5000, 100, 2900), "some events a body");
	ok(fill(100000, 7, 2900), "limited by number");
	ok(fill(100000, 10000, 300), "many");
	return tap_done();
}
