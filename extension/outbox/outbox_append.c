/*-------------------------------------------------------------------------
 *
 * outbox_append.c
 *		Appends events to the current segment, at the publisher's commit.
 *
 * A publisher locks the segment it read from the pointer (RowExclusive) and
 * then reads the pointer again: between the two the relay may have moved on
 * and emptied it, and rows inserted then could be taken for rows of the next
 * round.  The lock is kept to the end of the transaction, and emptying takes
 * AccessExclusive conditionally, so a segment with rows of an open transaction
 * is never emptied.  A publisher may still insert into a segment that has just
 * stopped being the current one: ids of two segments overlap at a switch, so
 * reading merges all segments.
 *
 * No planner, triggers or rights are involved.  Index entries are made by the
 * executor's own routine all the same: only that knows of an index that is
 * just being rebuilt (REINDEX CONCURRENTLY), whose later use would otherwise
 * miss the rows inserted meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "extension/base/compat.h"
#include "extension/outbox/segment.h"

/* as many rows and bytes at a time as COPY inserts */
#define WRITER_MAX_ROWS 1000
#define WRITER_MAX_BYTES 65535

struct DeOutboxWriter
{
	Relation	rel;
	Relation	toast;			/* NULL = the segment has none */
	EState	   *estate;			/* for the indexes; its per-tuple context is the flush's */
	ResultRelInfo *result;		/* all indexes: also those of an operator, or being rebuilt */
	CommandId	cid;
	int			nslots;			/* made so far */
	int			nused;			/* filled and not yet inserted */
	Size		bytes;			/* of those */
	TupleTableSlot *slots[WRITER_MAX_ROWS];
};

static void writer_flush(DeOutboxWriter *writer);

/*
 * Begins appending: locks the current segment until the end of the
 * transaction.  The writer lives in the current memory context.
 */
DeOutboxWriter *
de_outbox_writer_open(DeDatabase *db)
{
	DeOutboxWriter *writer = palloc0(sizeof(DeOutboxWriter));

	for (;;)
	{
		uint32		segment = pg_atomic_read_u32(&db->current_segment);

		writer->rel = de_segment_open(segment, RowExclusiveLock);
		/* the lock taken, is it still the one?  See the head of this file. */
		if (pg_atomic_read_u32(&db->current_segment) == segment)
			break;
		table_close(writer->rel, RowExclusiveLock);
	}
	/* now, and not when the first value is toasted: ids are drawn by then */
	if (OidIsValid(writer->rel->rd_rel->reltoastrelid))
		writer->toast = table_open(writer->rel->rd_rel->reltoastrelid, RowExclusiveLock);
	writer->estate = CreateExecutorState();
	writer->result = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->result, writer->rel, 1, NULL, 0);
	ExecOpenIndices(writer->result, false);
	writer->cid = GetCurrentCommandId(true);
	return writer;
}

/*
 * Appends one event; ids must ascend.
 */
void
de_outbox_writer_append(DeOutboxWriter *writer, int64 id, const DePendingEvent *event)
{
	TupleTableSlot *slot;

	if (writer->nused == WRITER_MAX_ROWS || writer->bytes >= WRITER_MAX_BYTES)
		writer_flush(writer);
	if (writer->nused == writer->nslots)
		writer->slots[writer->nslots++] = table_slot_create(writer->rel, NULL);
	slot = writer->slots[writer->nused++];

	ExecClearTuple(slot);
	memset(slot->tts_isnull, false, SEGMENT_NATTS * sizeof(bool));
	slot->tts_values[ATTR_ID - 1] = Int64GetDatum(id);
	slot->tts_values[ATTR_EVENT_ID - 1] = UUIDPGetDatum(&event->event_id);
	slot->tts_values[ATTR_CREATED_AT - 1] = TimestampTzGetDatum(event->created_at);
	slot->tts_values[ATTR_EVENT_TYPE - 1] = PointerGetDatum(event->event_type);
	slot->tts_values[ATTR_KEY - 1] = PointerGetDatum(event->key);
	slot->tts_isnull[ATTR_KEY - 1] = event->key == NULL;
	slot->tts_values[ATTR_CONTENT_TYPE - 1] = PointerGetDatum(event->content_type);
	slot->tts_isnull[ATTR_CONTENT_TYPE - 1] = event->content_type == NULL;
	slot->tts_values[ATTR_HEADERS - 1] = PointerGetDatum(event->headers);
	slot->tts_isnull[ATTR_HEADERS - 1] = event->headers == NULL;
	slot->tts_values[ATTR_PAYLOAD - 1] = PointerGetDatum(event->payload);
	slot->tts_isnull[ATTR_PAYLOAD - 1] = event->payload == NULL;
	ExecStoreVirtualTuple(slot);
	/* the caller's memory may be used again for the next event */
	ExecMaterializeSlot(slot);
	writer->bytes += VARSIZE(event->event_type) +
		(event->key != NULL ? VARSIZE(event->key) : 0) +
		(event->headers != NULL ? VARSIZE(event->headers) : 0) +
		(event->payload != NULL ? VARSIZE(event->payload) : 0);
}

/*
 * Inserts the rows collected, then their index entries.
 */
static void
writer_flush(DeOutboxWriter *writer)
{
	MemoryContext old_context;

	if (writer->nused == 0)
		return;
	/* the table's access method leaves toasted copies behind, as COPY knows */
	old_context = MemoryContextSwitchTo(GetPerTupleMemoryContext(writer->estate));
	if (writer->nused == 1)
		table_tuple_insert(writer->rel, writer->slots[0], writer->cid, 0, NULL);
	else
		table_multi_insert(writer->rel, writer->slots, writer->nused, writer->cid, 0, NULL);
	for (int i = 0; i < writer->nused; i++)
	{
		TupleTableSlot *slot = writer->slots[i];

		(void) de_compat_insert_index_tuples(writer->result, slot, writer->estate);
		ExecClearTuple(slot);
	}
	MemoryContextSwitchTo(old_context);
	ResetPerTupleExprContext(writer->estate);
	writer->nused = 0;
	writer->bytes = 0;
}

/*
 * Inserts what is left and frees the writer; the segment stays locked.
 */
void
de_outbox_writer_close(DeOutboxWriter *writer)
{
	writer_flush(writer);
	for (int i = 0; i < writer->nslots; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	ExecCloseIndices(writer->result);
	FreeExecutorState(writer->estate);
	if (writer->toast != NULL)
		table_close(writer->toast, NoLock);
	table_close(writer->rel, NoLock);
	pfree(writer);
}
