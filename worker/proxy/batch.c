/*-------------------------------------------------------------------------
 *
 * batch.c
 *		The body that a partition fills and sends, and the offsets in it.
 *
 * Records are encoded as they are taken and then given back.  A retry sends
 * the very same bytes, so it has the same webhook-id.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "worker/proxy/batch.h"

static TimestampTz batch_timestamp(int64 unix_ms);

void
de_batch_init(DeBatch *batch, MemoryContext parent)
{
	memset(batch, 0, sizeof(*batch));
	batch->context = AllocSetContextCreate(parent, "durable_event request body",
										   ALLOCSET_SMALL_SIZES);
}

void
de_batch_append(DeBatch *batch, const DeGroupDefinition *definition, const DeRecord *record)
{
	if (batch->nevents == 0)
	{
		MemoryContext old = MemoryContextSwitchTo(batch->context);

		de_request_begin(&batch->body, definition->mode, definition->name_utf8,
						 record->topic, record->partition);
		batch->max_offsets = Min(16, definition->batch_max_events);
		batch->offsets = palloc(sizeof(int64) * batch->max_offsets);
		batch->oldest = batch_timestamp(record->timestamp_ms);
		MemoryContextSwitchTo(old);
	}
	else if (batch->nevents >= batch->max_offsets)
	{
		batch->offsets = repalloc(batch->offsets, sizeof(int64) * 2 * batch->max_offsets);
		batch->max_offsets *= 2;
	}
	de_request_append(&batch->body, record);
	batch->offsets[batch->nevents++] = record->offset;
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
	return batch->nevents >= definition->batch_max_events ||
		(batch->nevents > 0 && batch->body.json.len >= definition->batch_max_bytes);
}

Size
de_batch_memory(const DeBatch *batch)
{
	if (batch->nevents == 0)
		return 0;
	return (Size) batch->body.json.maxlen + sizeof(int64) * batch->max_offsets;
}

void
de_batch_acknowledge(const DeBatch *batch, DeTracker *tracker)
{
	/* one that is not tracked any more is of a log that was taken back */
	for (int i = 0; i < batch->nevents; i++)
		(void) de_tracker_ack(tracker, batch->offsets[i]);
}

void
de_batch_clear(DeBatch *batch)
{
	if (batch->nevents == 0)
		return;
	de_request_free(&batch->body);
	MemoryContextReset(batch->context);
	batch->nevents = 0;
	batch->offsets = NULL;
	batch->oldest = 0;
}
