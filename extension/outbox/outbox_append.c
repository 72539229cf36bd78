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
 * No planner, triggers or rights are involved.  Entries of the segment's own
 * index are made directly, as the server does for TOAST tables, provided that
 * it is the only one and ready.  Else the executor's own routine makes them:
 * an operator may have added indexes, and REINDEX CONCURRENTLY builds a second
 * one, which must get the rows that come in meanwhile.  Once it counts as ready
 * nobody looks back: rows that are not in it are lost to all who read through
 * it.  That the indexes cannot change before we commit is the lock's merit:
 * REINDEX waits for all who hold it before each step that would matter to
 * them, and the list of indexes is read after the lock was taken.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "extension/base/compat.h"
#include "extension/outbox/segment.h"

/* as many rows and bytes at a time as COPY inserts */
#define WRITER_MAX_ROWS 1000
#define WRITER_MAX_BYTES 65535

/* a row is at most that much longer than the columns that its event has */
#define WRITER_ROW_OVERHEAD (SizeofHeapTupleHeader + 64)

struct DeOutboxWriter
{
	Relation	rel;
	Relation	toast;			/* NULL = no row needs it */
	Relation	index;			/* the one on id; NULL = see "estate" */
	EState	   *estate;			/* for indexes beside that one, or unlike it */
	ResultRelInfo *result;
	CommandId	cid;
	MemoryContext flush_context;	/* of what an insertion leaves; NULL = not made yet */
	TupleTableSlot **slots;
	int			max;			/* allocated in slots */
	int			nslots;			/* made so far */
	int			nused;			/* filled and not yet inserted */
	Size		bytes;			/* of those */
};

static void writer_open_indexes(DeOutboxWriter *writer);
static bool writer_is_own_index(Relation index);
static void writer_flush(DeOutboxWriter *writer);

/*
 * Begins appending; see outbox.h.
 */
DeOutboxWriter *
de_outbox_writer_open(DeDatabase *db, Size largest)
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
	if (largest + WRITER_ROW_OVERHEAD > TOAST_TUPLE_THRESHOLD &&
		OidIsValid(writer->rel->rd_rel->reltoastrelid))
		writer->toast = table_open(writer->rel->rd_rel->reltoastrelid, RowExclusiveLock);
	writer_open_indexes(writer);
	writer->cid = GetCurrentCommandId(true);
	return writer;
}

/*
 * Opens the indexes of the locked segment.
 */
static void
writer_open_indexes(DeOutboxWriter *writer)
{
	List	   *indexes = RelationGetIndexList(writer->rel);

	if (list_length(indexes) == 1)
	{
		Relation	index = index_open(linitial_oid(indexes), RowExclusiveLock);

		if (writer_is_own_index(index))
			writer->index = index;
		else
			index_close(index, NoLock);
	}
	list_free(indexes);
	if (writer->index != NULL)
		return;
	writer->estate = CreateExecutorState();
	writer->result = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->result, writer->rel, 1, NULL, 0);
	ExecOpenIndices(writer->result, false);
}

/*
 * Is this what the extension's script has made: on id alone, and nothing to
 * think about?
 */
static bool
writer_is_own_index(Relation index)
{
	Form_pg_index form = index->rd_index;

	return index->rd_rel->relam == BTREE_AM_OID &&
		form->indisready && form->indisvalid && form->indislive &&
		form->indnatts == 1 && form->indkey.values[0] == ATTR_ID &&
		!form->indisunique && !form->indisexclusion &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

/*
 * Appends one event; ids must ascend.
 */
void
de_outbox_writer_append(DeOutboxWriter *writer, int64 id, const DePendingEvent *event)
{
	TupleTableSlot *slot;

	if (writer->nused == WRITER_MAX_ROWS || writer->bytes >= WRITER_MAX_BYTES)
	{
		/* the table's access method leaves toasted copies behind, as COPY knows */
		if (writer->flush_context == NULL)
			writer->flush_context = AllocSetContextCreate(CurrentMemoryContext,
														  "durable_event insert",
														  ALLOCSET_DEFAULT_SIZES);
		writer_flush(writer);
	}
	if (writer->nused == writer->max)
	{
		int			max = Max(writer->max * 4, 4);

		if (writer->slots == NULL)
			writer->slots = palloc(max * sizeof(TupleTableSlot *));
		else
			writer->slots = repalloc(writer->slots, max * sizeof(TupleTableSlot *));
		writer->max = max;
	}
	if (writer->nused == writer->nslots)
		writer->slots[writer->nslots++] = table_slot_create(writer->rel, NULL);
	slot = writer->slots[writer->nused++];

	ExecClearTuple(slot);
	/* columns that somebody has added, dropped again or not, stay empty */
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
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
	MemoryContext old_context = NULL;

	if (writer->nused == 0)
		return;
	if (writer->flush_context != NULL)
		old_context = MemoryContextSwitchTo(writer->flush_context);
	if (writer->nused == 1)
		table_tuple_insert(writer->rel, writer->slots[0], writer->cid, 0, NULL);
	else
		table_multi_insert(writer->rel, writer->slots, writer->nused, writer->cid, 0, NULL);
	for (int i = 0; i < writer->nused; i++)
	{
		TupleTableSlot *slot = writer->slots[i];

		if (writer->index != NULL)
		{
			bool		isnull;
			Datum		id = slot_getattr(slot, ATTR_ID, &isnull);

			(void) index_insert(writer->index, &id, &isnull, &slot->tts_tid, writer->rel,
								UNIQUE_CHECK_NO, false, NULL);
		}
		else
			(void) de_compat_insert_index_tuples(writer->result, slot, writer->estate);
		ExecClearTuple(slot);
	}
	if (old_context != NULL)
	{
		MemoryContextSwitchTo(old_context);
		MemoryContextReset(writer->flush_context);
	}
	if (writer->estate != NULL)
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
	if (writer->index != NULL)
		index_close(writer->index, NoLock);
	else
	{
		ExecCloseIndices(writer->result);
		FreeExecutorState(writer->estate);
	}
	if (writer->toast != NULL)
		table_close(writer->toast, NoLock);
	table_close(writer->rel, NoLock);
}
