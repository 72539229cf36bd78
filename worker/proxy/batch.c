/*-------------------------------------------------------------------------
 *
 * batch.c
 *		The body that a partition fills and sends, and the offsets in it.
 *
 * Records are encoded as they are taken and then given back.  A retry sends
 * the very same bytes, so it has the same webhook-id.
 *
 * How large an event is, its encoding tells; and a record once taken cannot be
 * put back.  So what would make a body too large is carried, encoded, into the
 * next one: a handler (or the ingress in front of it) that refuses larger
 * bodies would refuse the same one for ever.  The first event of a body is
 * never too large: there is no smaller body that holds it.
 *
 * Pure: no state of its own; linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "datatype/timestamp.h"

#include "worker/proxy/batch.h"

/* Memory that is kept for the next event to be encoded. */
#define BATCH_MAX_IDLE_CARRY (64 * 1024)

static void batch_begin(DeBatch *batch, const DeGroupDefinition *definition, TimestampTz oldest);
static void batch_add_carried(DeBatch *batch);
static void batch_note_offset(DeBatch *batch, int64 offset);
static TimestampTz batch_timestamp(int64 unix_ms);

void
de_batch_init(DeBatch *batch, const char *topic, int32 partition)
{
	memset(batch, 0, sizeof(*batch));
	batch->topic = topic;
	batch->partition = partition;
}

bool
de_batch_append(DeBatch *batch, const DeGroupDefinition *definition, const DeRecord *record)
{
	DeBatchCarry *carry = &batch->carry;
	Size		bytes;

	Assert(!de_batch_full(batch, definition));
	if (batch->nevents == 0)
	{
		batch_begin(batch, definition, batch_timestamp(record->timestamp_ms));
		de_request_append(&batch->body, record);
		batch_note_offset(batch, record->offset);
		return true;
	}

	if (carry->json.data == NULL)
		initStringInfo(&carry->json);
	resetStringInfo(&carry->json);
	de_cloudevent_append(&carry->json, record, &carry->event);
	carry->filled = true;
	carry->offset = record->offset;
	carry->timestamp = batch_timestamp(record->timestamp_ms);

	/* with a comma before and the bracket behind */
	bytes = (Size) batch->body.json.len + 1 + carry->json.len + 1;
	if (bytes > definition->batch_max_bytes || carry->offset <= de_batch_last_offset(batch))
		return false;
	batch_add_carried(batch);
	return true;
}

bool
de_batch_take_carried(DeBatch *batch, const DeGroupDefinition *definition)
{
	if (!batch->carry.filled)
		return false;
	Assert(batch->nevents == 0);
	batch_begin(batch, definition, batch->carry.timestamp);
	batch_add_carried(batch);
	return true;
}

/*
 * Begins a body.
 */
static void
batch_begin(DeBatch *batch, const DeGroupDefinition *definition, TimestampTz oldest)
{
	de_request_begin(&batch->body, definition->mode, definition->name_utf8,
					 batch->topic, batch->partition);
	batch->max_offsets = Min(16, definition->batch_max_events);
	batch->offsets = palloc(sizeof(int64) * batch->max_offsets);
	batch->oldest = oldest;
}

/*
 * Moves the carried event into the body.
 */
static void
batch_add_carried(DeBatch *batch)
{
	DeBatchCarry *carry = &batch->carry;

	de_request_add(&batch->body, carry->json.data, carry->json.len, carry->offset,
				   &carry->event);
	carry->filled = false;
	if (carry->json.maxlen > BATCH_MAX_IDLE_CARRY)
	{
		pfree(carry->json.data);
		carry->json.data = NULL;
	}
	batch_note_offset(batch, carry->offset);
}

static void
batch_note_offset(DeBatch *batch, int64 offset)
{
	if (batch->nevents >= batch->max_offsets)
	{
		batch->offsets = repalloc(batch->offsets, sizeof(int64) * 2 * batch->max_offsets);
		batch->max_offsets *= 2;
	}
	batch->offsets[batch->nevents++] = offset;
}

/*
 * A record's timestamp as the server's; 0 = it has none.
 */
static TimestampTz
batch_timestamp(int64 unix_ms)
{
	const int64 epoch_ms = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000;

	return unix_ms < 0 ? 0 : (unix_ms - epoch_ms) * 1000;
}

bool
de_batch_full(const DeBatch *batch, const DeGroupDefinition *definition)
{
	return batch->carry.filled || batch->nevents >= definition->batch_max_events ||
		(batch->nevents > 0 && batch->body.json.len + 1 >= definition->batch_max_bytes);
}

Size
de_batch_memory(const DeBatch *batch)
{
	Size		bytes = batch->carry.json.data != NULL ? batch->carry.json.maxlen : 0;

	if (batch->nevents > 0)
		bytes += (Size) batch->body.json.maxlen + batch->body.identity.maxlen +
			sizeof(int64) * batch->max_offsets;
	return bytes;
}

int64
de_batch_last_offset(const DeBatch *batch)
{
	return batch->offsets[batch->nevents - 1];
}

void
de_batch_acknowledge(const DeBatch *batch, DeTracker *tracker)
{
	for (int i = 0; i < batch->nevents; i++)
		(void) de_tracker_ack(tracker, batch->offsets[i]);
}

void
de_batch_clear(DeBatch *batch)
{
	if (batch->nevents == 0)
		return;
	de_request_free(&batch->body);
	pfree(batch->offsets);
	batch->nevents = 0;
	batch->offsets = NULL;
	batch->oldest = 0;
	/* who has no event has no memory: hundreds of partitions may be idle */
	if (!batch->carry.filled && batch->carry.json.data != NULL)
	{
		pfree(batch->carry.json.data);
		batch->carry.json.data = NULL;
	}
}
