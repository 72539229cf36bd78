/*-------------------------------------------------------------------------
 *
 * outbox.c
 *		The ring of segment tables: append, read in id order, rotate.
 *
 * Segments are insert-only, logged tables with a btree on id.  Publishers
 * insert into the current one; the relay moves the pointer on when it is full
 * or old, and empties a segment once all of it is published and older than
 * the retention.  Nothing is updated or deleted, so a pinned xmin costs
 * nothing and there is nothing to vacuum.
 *
 * Publishers and rotation
 *		A publisher locks the segment it read from the pointer (RowExclusive)
 *		and then reads the pointer again: between the two the relay may have
 *		moved on and emptied it, and rows inserted then could be taken for
 *		rows of the next round.  The lock is kept to the end of the
 *		transaction, and emptying takes AccessExclusive conditionally, so a
 *		segment with rows of an open transaction is never emptied.  A
 *		publisher may still insert into a segment that has just stopped
 *		being the current one: ids of two segments overlap at a switch, so
 *		reading merges all segments.
 *
 * Emptying gives the table new, empty files as TRUNCATE does, but without
 * its logical-decoding record: a publication FOR ALL TABLES must not empty
 * the outbox of a subscriber.  It is committed after stored progress in WAL
 * order, so a crash cannot take back the one and keep the other.
 *
 * No planner, triggers or rights are involved in appending and reading.  Index
 * entries are made by the executor's own routine all the same: only that
 * knows of an index that is just being rebuilt (REINDEX CONCURRENTLY), whose
 * later use would otherwise miss the rows inserted meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "commands/tablecmds.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "extension/base/compat.h"
#include "extension/outbox/outbox.h"

/* columns of a segment, from 1 */
enum
{
	ATTR_ID = 1,
	ATTR_EVENT_ID,
	ATTR_CREATED_AT,
	ATTR_EVENT_TYPE,
	ATTR_KEY,
	ATTR_CONTENT_TYPE,
	ATTR_HEADERS,
	ATTR_PAYLOAD
};

#define SEGMENT_NATTS ATTR_PAYLOAD

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

/* where the tables are; InvalidOid = look again */
static Oid	segment_oids[DE_SEGMENTS];
static Oid	segment_index_oids[DE_SEGMENTS];
static bool segment_callback_registered = false;

static void segments_invalidate(Datum arg, Oid relid);
static bool segments_lookup(bool missing_ok);
static void writer_flush(DeOutboxWriter *writer);
static int64 segment_edge(Relation rel, Relation index, ScanDirection direction,
						  TimestampTz *created_at);
static bool segment_lock_conditionally(Oid relid);
static bool segment_try_empty(DeDatabase *db, int segment, int64 stored, TimestampTz before);
static void read_event(TupleTableSlot *slot, DeOutboxBatch *batch);
static const char *read_bytes(TupleTableSlot *slot, int attr, int *len);

/*
 * Locks the extension against being dropped until the end of the transaction
 * and returns its OID; InvalidOid if it is not there or is being dropped.
 * Does not wait: a DROP EXTENSION in a long transaction must not hold a worker.
 */
Oid
de_extension_lock(void)
{
	Oid			oid = get_extension_oid("durable_event", true);
	LOCKTAG		tag;

	if (!OidIsValid(oid))
		return InvalidOid;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, oid, 0);
	if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return InvalidOid;
	/* it may have been dropped, or made again, until the lock was ours */
	AcceptInvalidationMessages();
	if (get_extension_oid("durable_event", true) != oid || !segments_lookup(true))
		return InvalidOid;
	return oid;
}

/*
 * Relcache callback: forgets the segments' OIDs, which may have been dropped.
 * Emptying a segment comes here too: the next use looks them up again.
 */
static void
segments_invalidate(Datum arg, Oid relid)
{
	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		if (relid == InvalidOid || relid == segment_oids[i] || relid == segment_index_oids[i])
			segment_oids[i] = InvalidOid;
	}
}

/*
 * Makes sure that the OIDs of all segments are known.  Returns false, or
 * throws undefined_table, if the extension is not there.
 */
static bool
segments_lookup(bool missing_ok)
{
	Oid			schema = InvalidOid;

	if (!segment_callback_registered)
	{
		CacheRegisterRelcacheCallback(segments_invalidate, (Datum) 0);
		segment_callback_registered = true;
	}
	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		char		name[NAMEDATALEN];
		Oid			relid;
		Oid			indexid;

		if (OidIsValid(segment_oids[i]))
			continue;
		if (!OidIsValid(schema))
			schema = get_namespace_oid("durable_event", true);
		snprintf(name, sizeof(name), "outbox_%d", i);
		relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
		snprintf(name, sizeof(name), "outbox_%d_id_idx", i);
		indexid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
		if (!OidIsValid(relid) || !OidIsValid(indexid))
		{
			if (missing_ok)
				return false;
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("outbox of durable_event does not exist in database \"%s\"",
							get_database_name(MyDatabaseId)),
					 errhint("The extension was dropped; create it with CREATE EXTENSION durable_event.")));
		}
		segment_index_oids[i] = indexid;
		segment_oids[i] = relid;
	}
	return true;
}

/*
 * Opens a segment with a lock; throws undefined_table if it was dropped.
 */
static Relation
segment_open(int segment, LOCKMODE lockmode)
{
	Relation	rel = NULL;

	/* taking the lock may tell us that the OID is no longer right: look again */
	while (rel == NULL)
	{
		segments_lookup(false);
		if (OidIsValid(segment_oids[segment]))
			rel = try_table_open(segment_oids[segment], lockmode);
		/* invalidated while we waited: its index may be another one by now */
		if (rel != NULL && segment_oids[segment] != RelationGetRelid(rel))
		{
			table_close(rel, lockmode);
			rel = NULL;
		}
	}
	return rel;
}

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

		writer->rel = segment_open(segment, RowExclusiveLock);
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

/*
 * Reads committed events in the order of their ids; see outbox.h.
 */
void
de_outbox_read(int64 after, int64 upto, int max_events, Size max_bytes, DeOutboxBatch *batch)
{
	Relation	rels[DE_SEGMENTS];
	Relation	indexes[DE_SEGMENTS];
	IndexScanDesc scans[DE_SEGMENTS];
	TupleTableSlot *slots[DE_SEGMENTS];
	int64		heads[DE_SEGMENTS]; /* id in slots[i]; PG_INT64_MAX = at the end */
	ScanKeyData keys[2];
	Snapshot	snapshot = GetActiveSnapshot();

	batch->n = 0;
	batch->max = Min(max_events, 64);
	batch->events = palloc(batch->max * sizeof(DeOutboxEvent));
	batch->bytes = 0;
	batch->upto = upto;

	ScanKeyInit(&keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(upto));
	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		rels[i] = segment_open(i, AccessShareLock);
		indexes[i] = index_open(segment_index_oids[i], AccessShareLock);
		slots[i] = table_slot_create(rels[i], NULL);
		scans[i] = index_beginscan(rels[i], indexes[i], snapshot, 2, 0);
		index_rescan(scans[i], keys, 2, NULL, 0);
		heads[i] = PG_INT64_MIN;	/* not looked at yet */
	}

	for (;;)
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
		if (batch->n >= max_events || (batch->n > 0 && batch->bytes >= max_bytes))
		{
			/* what is left begins at heads[first]; this batch covers all before it */
			batch->upto = batch->events[batch->n - 1].id;
			break;
		}
		read_event(slots[first], batch);
		heads[first] = PG_INT64_MIN;
	}

	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		index_endscan(scans[i]);
		ExecDropSingleTupleTableSlot(slots[i]);
		index_close(indexes[i], AccessShareLock);
		table_close(rels[i], AccessShareLock);
	}
}

/*
 * Copies the row in the slot to the end of the batch.
 */
static void
read_event(TupleTableSlot *slot, DeOutboxBatch *batch)
{
	DeOutboxEvent *event;

	if (batch->n == batch->max)
	{
		batch->max *= 2;
		batch->events = repalloc(batch->events, batch->max * sizeof(DeOutboxEvent));
	}
	event = &batch->events[batch->n++];

	slot_getallattrs(slot);
	event->id = DatumGetInt64(slot->tts_values[ATTR_ID - 1]);
	event->event_id = *DatumGetUUIDP(slot->tts_values[ATTR_EVENT_ID - 1]);
	event->created_at = DatumGetTimestampTz(slot->tts_values[ATTR_CREATED_AT - 1]);
	event->event_type = read_bytes(slot, ATTR_EVENT_TYPE, &event->event_type_len);
	event->key = read_bytes(slot, ATTR_KEY, &event->key_len);
	event->content_type = read_bytes(slot, ATTR_CONTENT_TYPE, &event->content_type_len);
	if (event->content_type == NULL)
	{
		event->content_type = DE_JSON_CONTENT_TYPE;
		event->content_type_len = strlen(DE_JSON_CONTENT_TYPE);
	}
	event->headers = read_bytes(slot, ATTR_HEADERS, &event->headers_len);
	event->payload = read_bytes(slot, ATTR_PAYLOAD, &event->payload_len);
	batch->bytes += sizeof(DeOutboxEvent) + event->event_type_len + event->key_len +
		event->headers_len + event->payload_len;
}

/*
 * A column's bytes, copied (the slot's page may go); NULL and 0 if it is null.
 */
static const char *
read_bytes(TupleTableSlot *slot, int attr, int *len)
{
	bytea	   *stored;
	char	   *copy;

	*len = 0;
	if (slot->tts_isnull[attr - 1])
		return NULL;
	stored = DatumGetByteaPP(slot->tts_values[attr - 1]);
	*len = VARSIZE_ANY_EXHDR(stored);
	if ((Pointer) stored != DatumGetPointer(slot->tts_values[attr - 1]))
		return VARDATA_ANY(stored); /* detoasting has copied it */
	copy = palloc(*len + 1);	/* never of no bytes: NULL would mean null */
	memcpy(copy, VARDATA_ANY(stored), *len);
	return copy;
}

/*
 * The first or last id of a segment and when its event was made, counting
 * rows dead or alive (a dead one's id was drawn too); 0 if it has none.
 */
static int64
segment_edge(Relation rel, Relation index, ScanDirection direction, TimestampTz *created_at)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = index_beginscan(rel, index, SnapshotAny, 0, 0);
	int64		id = 0;

	index_rescan(scan, NULL, 0, NULL, 0);
	if (index_getnext_slot(scan, direction, slot))
	{
		bool		isnull;

		id = DatumGetInt64(slot_getattr(slot, ATTR_ID, &isnull));
		*created_at = DatumGetTimestampTz(slot_getattr(slot, ATTR_CREATED_AT, &isnull));
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return id;
}

/*
 * The largest id in any segment and the segment that has it; 0 and segment 0
 * if all are empty.
 */
int64
de_outbox_largest_id(int *segment)
{
	int64		largest = 0;

	*segment = 0;
	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		Relation	rel = segment_open(i, AccessShareLock);
		Relation	index = index_open(segment_index_oids[i], AccessShareLock);
		TimestampTz created_at;
		int64		id = segment_edge(rel, index, BackwardScanDirection, &created_at);

		if (id > largest)
		{
			largest = id;
			*segment = i;
		}
		index_close(index, AccessShareLock);
		table_close(rel, AccessShareLock);
	}
	return largest;
}

/*
 * Bytes on disk of all segments with their TOAST tables, without their indexes.
 */
int64
de_outbox_size(void)
{
	int64		size = 0;

	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		Relation	rel = segment_open(i, AccessShareLock);

		size += (int64) RelationGetNumberOfBlocks(rel) * BLCKSZ;
		if (OidIsValid(rel->rd_rel->reltoastrelid))
		{
			Relation	toast = table_open(rel->rd_rel->reltoastrelid, AccessShareLock);

			size += (int64) RelationGetNumberOfBlocks(toast) * BLCKSZ;
			table_close(toast, AccessShareLock);
		}
		table_close(rel, AccessShareLock);
	}
	return size;
}

/*
 * Moves the current segment on when it is full or old and the next one is
 * empty (else it goes on growing: an event is never refused for that), and
 * empties one segment.  See outbox.h.
 */
bool
de_outbox_rotate(DeDatabase *db, int64 stored)
{
	int			current = (int) pg_atomic_read_u32(&db->current_segment);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz since = (TimestampTz) pg_atomic_read_u64(&db->current_since);
	Relation	rel = segment_open(current, AccessShareLock);
	int64		bytes = (int64) RelationGetNumberOfBlocks(rel) * BLCKSZ;

	if (OidIsValid(rel->rd_rel->reltoastrelid))
	{
		Relation	toast = table_open(rel->rd_rel->reltoastrelid, AccessShareLock);

		bytes += (int64) RelationGetNumberOfBlocks(toast) * BLCKSZ;
		table_close(toast, AccessShareLock);
	}
	table_close(rel, AccessShareLock);

	if (bytes > 0 &&
		(bytes >= (int64) de_segment_size * 1024 * 1024 ||
		 now - since >= (int64) de_segment_interval * USECS_PER_SEC))
	{
		int			next = (current + 1) % DE_SEGMENTS;

		rel = segment_open(next, AccessShareLock);
		if (RelationGetNumberOfBlocks(rel) == 0)
		{
			pg_atomic_write_u64(&db->current_since, (uint64) now);
			pg_atomic_write_u32(&db->current_segment, next);
			current = next;
		}
		table_close(rel, AccessShareLock);
	}

	/* the oldest first: the one that the pointer will come to next */
	for (int i = 1; i < DE_SEGMENTS; i++)
	{
		if (segment_try_empty(db, (current + i) % DE_SEGMENTS, stored,
							  now - (int64) de_retention * USECS_PER_SEC))
			return true;
	}
	return false;
}

/*
 * Locks a segment, its TOAST table and their indexes against everybody, or
 * returns false without waiting (what was locked goes with the transaction).
 * False too if the segment was dropped.
 */
static bool
segment_lock_conditionally(Oid relid)
{
	Relation	rel;
	Oid			toastid;
	List	   *indexes;
	ListCell   *cell;

	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return false;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		return false;
	toastid = rel->rd_rel->reltoastrelid;
	indexes = RelationGetIndexList(rel);
	relation_close(rel, NoLock);
	foreach(cell, indexes)
	{
		if (!ConditionalLockRelationOid(lfirst_oid(cell), AccessExclusiveLock))
			return false;
	}
	return !OidIsValid(toastid) || segment_lock_conditionally(toastid);
}

/*
 * Empties a segment if it has rows, all are published and the last is older
 * than "before"; true if it did.
 */
static bool
segment_try_empty(DeDatabase *db, int segment, int64 stored, TimestampTz before)
{
	ReindexParams params = {0};
	Relation	rel;
	Relation	index;
	Oid			relid;
	Oid			toastid;
	TimestampTz created_at = 0;
	int64		last;

	/* a cheap look first: without the lock that keeps others out */
	rel = segment_open(segment, AccessShareLock);
	if (RelationGetNumberOfBlocks(rel) == 0)
	{
		table_close(rel, AccessShareLock);
		return false;
	}
	index = index_open(segment_index_oids[segment], AccessShareLock);
	last = segment_edge(rel, index, BackwardScanDirection, &created_at);
	index_close(index, AccessShareLock);
	relid = RelationGetRelid(rel);
	table_close(rel, AccessShareLock);
	if (last > stored || created_at > before)
		return false;

	if (!segment_lock_conditionally(relid))
		return false;			/* a reader, pg_dump, a publisher: another time */
	rel = table_open(relid, NoLock);
	/* all who could add rows have ended or are waiting for us: look again */
	index = index_open(segment_index_oids[segment], NoLock);
	last = segment_edge(rel, index, BackwardScanDirection, &created_at);
	index_close(index, NoLock);
	if (last > stored || created_at > before ||
		segment == (int) pg_atomic_read_u32(&db->current_segment))
	{
		table_close(rel, NoLock);
		return false;
	}

	CheckTableNotInUse(rel, "empty outbox segment");
	toastid = rel->rd_rel->reltoastrelid;
	de_compat_set_new_relfilenode(rel);
	if (OidIsValid(toastid))
	{
		Relation	toast = table_open(toastid, AccessExclusiveLock);

		de_compat_set_new_relfilenode(toast);
		table_close(toast, NoLock);
	}
	de_compat_reindex_relation(relid, REINDEX_REL_PROCESS_TOAST, &params);
	table_close(rel, NoLock);
	ereport(DEBUG1,
			(errmsg_internal("durable_event emptied outbox segment %d up to id %lld",
							 segment, (long long) last)));
	return true;
}
