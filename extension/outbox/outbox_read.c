/*-------------------------------------------------------------------------
 *
 * outbox_read.c
 *		Reads committed events of all segments in the order of their ids.
 *
 * Ids of two segments overlap at a switch, so all are merged.  No planner,
 * triggers or rights are involved.
 *
 * No lock is waited for, nor is one that REINDEX or VACUUM FULL takes an error:
 * the relay tries again a moment later, with its producer as it is.  A segment
 * that is locked cannot be left out, since nobody can say that it has no events
 * in the range.  TOAST tables are locked when the first value that lies in one
 * is met, as most events have none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "extension/base/catalog.h"
#include "extension/base/compat.h"
#include "extension/outbox/segment.h"

static bool read_needs_toast(TupleTableSlot *slot);
static void read_event(TupleTableSlot *slot, DeOutboxBatch *batch);
static const char *read_bytes(TupleTableSlot *slot, int attr, char **room, int *len);

/*
 * Reads committed events in the order of their ids; see outbox.h.
 */
bool
de_outbox_read(int64 after, int64 upto, const DeOutboxFilter *filter, int max_events,
			   Size max_bytes, DeOutboxBatch *batch)
{
	Relation	rels[DE_SEGMENTS];
	Relation	indexes[DE_SEGMENTS];
	IndexScanDesc scans[DE_SEGMENTS];
	TupleTableSlot *slots[DE_SEGMENTS];
	int64		heads[DE_SEGMENTS]; /* id in slots[i]; PG_INT64_MAX = at the end */
	bool		toast_locked[DE_SEGMENTS] = {false};
	ScanKeyData keys[2];
	Snapshot	snapshot = GetActiveSnapshot();
	int			opened = 0;
	bool		locked = false;

	batch->n = 0;
	batch->max = Min(max_events, 64);
	batch->events = palloc(batch->max * sizeof(DeOutboxEvent));
	batch->bytes = 0;
	batch->upto = upto;

	ScanKeyInit(&keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(upto));
	for (int i = 0; i < DE_SEGMENTS && !locked; i++)
	{
		if (!de_segment_try_open(i, AccessShareLock, &rels[i], &indexes[i]))
		{
			locked = true;
			break;
		}
		opened++;
		slots[i] = table_slot_create(rels[i], NULL);
		scans[i] = de_compat_index_beginscan(rels[i], indexes[i], snapshot, 2);
		index_rescan(scans[i], keys, 2, NULL, 0);
		heads[i] = PG_INT64_MIN;	/* not looked at yet */
	}

	while (!locked)
	{
		int			first = -1;

		for (int i = 0; i < DE_SEGMENTS; i++)
		{
			if (heads[i] == PG_INT64_MIN)
			{
				bool		isnull;

				heads[i] = PG_INT64_MAX;
				if (index_getnext_slot(scans[i], ForwardScanDirection, slots[i]))
					heads[i] = DatumGetInt64(slot_getattr(slots[i], ATTR_ID, &isnull));
			}
			if (heads[i] != PG_INT64_MAX && (first < 0 || heads[i] < heads[first]))
				first = i;
		}
		if (first < 0)
			break;
		if (filter != NULL && !filter->wanted(filter->arg, heads[first]))
		{
			heads[first] = PG_INT64_MIN;
			continue;
		}
		if (batch->n >= max_events || (batch->n > 0 && batch->bytes >= max_bytes))
		{
			/* what is left begins at heads[first]; this batch covers all before it */
			batch->upto = batch->events[batch->n - 1].id;
			break;
		}
		slot_getallattrs(slots[first]);
		if (!toast_locked[first] && read_needs_toast(slots[first]))
		{
			if (!de_relation_try_lock(rels[first]->rd_rel->reltoastrelid, AccessShareLock))
			{
				locked = true;
				if (batch->n > 0)
					batch->upto = batch->events[batch->n - 1].id;
				break;
			}
			toast_locked[first] = true;
		}
		read_event(slots[first], batch);
		heads[first] = PG_INT64_MIN;
	}

	for (int i = 0; i < opened; i++)
	{
		index_endscan(scans[i]);
		ExecDropSingleTupleTableSlot(slots[i]);
		index_close(indexes[i], AccessShareLock);
		table_close(rels[i], AccessShareLock);
	}
	return !locked || batch->n > 0;
}

/*
 * Does any value of the row lie in the TOAST table?
 */
static bool
read_needs_toast(TupleTableSlot *slot)
{
	for (int attr = ATTR_EVENT_TYPE; attr <= ATTR_PAYLOAD; attr++)
	{
		if (!slot->tts_isnull[attr - 1] &&
			VARATT_IS_EXTERNAL(DatumGetPointer(slot->tts_values[attr - 1])))
			return true;
	}
	return false;
}

/*
 * Copies the row in the slot, deformed, to the end of the batch.
 */
static void
read_event(TupleTableSlot *slot, DeOutboxBatch *batch)
{
	DeOutboxEvent *event;
	Size		size = 0;
	char	   *room;

	if (batch->n == batch->max)
	{
		batch->events = repalloc(batch->events, 2 * batch->max * sizeof(DeOutboxEvent));
		batch->max *= 2;
	}
	event = &batch->events[batch->n++];

	/* the slot's page may go; one allocation for all columns, for they cost more than the copies */
	for (int attr = ATTR_EVENT_TYPE; attr <= ATTR_PAYLOAD; attr++)
	{
		if (!slot->tts_isnull[attr - 1])
			size += VARSIZE_ANY(DatumGetPointer(slot->tts_values[attr - 1]));
	}
	room = palloc(size);

	event->id = DatumGetInt64(slot->tts_values[ATTR_ID - 1]);
	event->event_id = *DatumGetUUIDP(slot->tts_values[ATTR_EVENT_ID - 1]);
	event->created_at = DatumGetTimestampTz(slot->tts_values[ATTR_CREATED_AT - 1]);
	event->event_type = read_bytes(slot, ATTR_EVENT_TYPE, &room, &event->event_type_len);
	event->key = read_bytes(slot, ATTR_KEY, &room, &event->key_len);
	event->content_type = read_bytes(slot, ATTR_CONTENT_TYPE, &room, &event->content_type_len);
	if (event->content_type == NULL)
	{
		event->content_type = DE_JSON_CONTENT_TYPE;
		event->content_type_len = strlen(DE_JSON_CONTENT_TYPE);
	}
	event->headers = read_bytes(slot, ATTR_HEADERS, &room, &event->headers_len);
	event->payload = read_bytes(slot, ATTR_PAYLOAD, &room, &event->payload_len);
	batch->bytes += sizeof(DeOutboxEvent) + event->event_type_len + event->key_len +
		event->headers_len + event->payload_len;
}

/*
 * A column's bytes, copied to *room, which moves on, or where detoasting has
 * put them; NULL and 0 if it is null.  Of no bytes it is not NULL.
 */
static const char *
read_bytes(TupleTableSlot *slot, int attr, char **room, int *len)
{
	bytea	   *stored;
	char	   *copy = *room;

	*len = 0;
	if (slot->tts_isnull[attr - 1])
		return NULL;
	stored = DatumGetByteaPP(slot->tts_values[attr - 1]);
	*len = VARSIZE_ANY_EXHDR(stored);
	if ((Pointer) stored != DatumGetPointer(slot->tts_values[attr - 1]))
		return VARDATA_ANY(stored); /* detoasting has copied it */
	memcpy(copy, VARDATA_ANY(stored), *len);
	*room += *len;
	return copy;
}
