/*-------------------------------------------------------------------------
 *
 * segment.c
 *		The ring of segment tables: where they are, their edges and sizes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "extension/base/catalog.h"
#include "extension/base/clock.h"
#include "extension/base/compat.h"
#include "extension/outbox/segment.h"

/* Twice what an idle relay lets pass between two rounds. */
#define ROOM_TRUST_MS 10000

/* where the tables and their indexes on id are; InvalidOid = look again */
static Oid	segment_oids[DE_SEGMENTS];
static Oid	segment_index_oids[DE_SEGMENTS];

static void segments_invalidate(Datum arg, Oid relid);
static Oid	segment_oid(int segment);
static void segment_check(Relation rel);
static void segment_note(pg_atomic_uint64 *known, int64 value);
static bool segment_is_going(DeDatabase *db, int segment);

/* what the columns are, from the first */
static const Oid segment_types[SEGMENT_NATTS] = {
	INT8OID, UUIDOID, TIMESTAMPTZOID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID
};

/*
 * Relcache callback: forgets a segment, which may have been dropped, altered or
 * given to somebody, or whose indexes may have changed.  Emptying it comes here,
 * too: the next use looks again.
 */
static void
segments_invalidate(Datum arg, Oid relid)
{
	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		if (relid == InvalidOid || relid == segment_oids[i] || relid == segment_index_oids[i])
		{
			segment_oids[i] = InvalidOid;
			segment_index_oids[i] = InvalidOid;
		}
	}
}

/*
 * OID of a segment; throws if there is none to be trusted (catalog.h).
 */
static Oid
segment_oid(int segment)
{
	static bool registered = false;
	char		name[NAMEDATALEN];
	Oid			relid;

	if (!registered)
	{
		CacheRegisterRelcacheCallback(segments_invalidate, (Datum) 0);
		registered = true;
	}
	if (OidIsValid(segment_oids[segment]))
		return segment_oids[segment];
	snprintf(name, sizeof(name), "outbox_%d", segment);
	relid = de_relation_oid(name, RELKIND_RELATION, false);
	segment_oids[segment] = relid;
	return relid;
}

/*
 * Opens a segment with a lock; throws undefined_table if it was dropped.
 */
Relation
de_segment_open(int segment, LOCKMODE lockmode)
{
	Oid			relid = segment_oid(segment);

	for (;;)
	{
		Relation	rel;
		Oid			again;

		/* a loop that others' DDL can prolong must be left on an interrupt */
		CHECK_FOR_INTERRUPTS();
		rel = try_table_open(relid, lockmode);

		/*
		 * Waiting for the lock may have told us that the name means another
		 * table by now.  The name counts, not that there was an
		 * invalidation: those may come with each look (debug_discard_caches).
		 */
		again = segment_oid(segment);
		if (rel != NULL && again == relid)
		{
			segment_check(rel);
			return rel;
		}
		if (rel != NULL)
			table_close(rel, lockmode);
		relid = again;
	}
}

/*
 * Throws unless events can be stored in the table.
 */
static void
segment_check(Relation rel)
{
	de_relation_check_columns(rel, SEGMENT_NATTS, segment_types);
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not permanent, so a crash would lose its events",
						RelationGetRelationName(rel)),
				 errhint("Use ALTER TABLE ... SET LOGGED.")));
}

/*
 * Opens a segment and its index on id without waiting for a lock; see
 * segment.h.
 */
bool
de_segment_try_open(int segment, LOCKMODE lockmode, Relation *rel, Relation *index)
{
	for (;;)
	{
		Oid			relid = segment_oid(segment);
		Oid			indexid;

		CHECK_FOR_INTERRUPTS();
		if (!ConditionalLockRelationOid(relid, lockmode))
			return false;
		/* as above: taking a lock may tell us that the name means another one */
		if (segment_oid(segment) != relid)
		{
			UnlockRelationOid(relid, lockmode);
			continue;
		}
		*rel = table_open(relid, NoLock);
		segment_check(*rel);
		if (index == NULL)
			return true;
		indexid = de_segment_index(*rel);
		if (!ConditionalLockRelationOid(indexid, lockmode))
		{
			table_close(*rel, lockmode);
			return false;
		}
		if (de_segment_index(*rel) == indexid)
		{
			*index = index_open(indexid, NoLock);
			return true;
		}
		UnlockRelationOid(indexid, lockmode);
		table_close(*rel, lockmode);
	}
}

/*
 * OID of a segment's index on id; see segment.h.
 */
Oid
de_segment_index(Relation rel)
{
	Oid			indexid = InvalidOid;

	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		if (segment_oids[i] == RelationGetRelid(rel))
			indexid = segment_index_oids[i];
	}
	if (OidIsValid(indexid))
		return indexid;

	indexid = de_relation_index(rel, ATTR_ID);
	if (!OidIsValid(indexid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" has no valid index on column id",
						RelationGetRelationName(rel)),
				 errhint("Use REINDEX INDEX if its index is invalid, else CREATE INDEX ON %s.%s (id).",
						 DE_SCHEMA, RelationGetRelationName(rel))));
	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		if (segment_oids[i] == RelationGetRelid(rel))
			segment_index_oids[i] = indexid;
	}
	return indexid;
}

/*
 * The first or last id of a segment and when its event was made, counting
 * rows dead or alive (a dead one's id was drawn too); 0 if it has none.
 */
int64
de_segment_edge(Relation rel, Relation index, ScanDirection direction, TimestampTz *created_at)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = de_compat_index_beginscan(rel, index, SnapshotAny, 0);
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
		Relation	rel = de_segment_open(i, AccessShareLock);
		Relation	index = index_open(de_segment_index(rel), AccessShareLock);
		TimestampTz created_at;
		int64		id = de_segment_edge(rel, index, BackwardScanDirection, &created_at);

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
 * Bytes on disk of a segment; see segment.h.
 */
int64
de_segment_bytes(DeDatabase *db, int segment)
{
	pg_atomic_uint64 *known = &db->segment_bytes[segment];
	Relation	rel;
	Oid			toastid;
	int64		blocks;
	bool		seen = true;

	if (!de_segment_try_open(segment, AccessShareLock, &rel, NULL))
		return (int64) pg_atomic_read_u64(known);
	blocks = RelationGetNumberOfBlocks(rel);
	toastid = rel->rd_rel->reltoastrelid;
	if (OidIsValid(toastid))
	{
		seen = ConditionalLockRelationOid(toastid, AccessShareLock);
		if (seen)
		{
			Relation	toast = table_open(toastid, NoLock);

			blocks += RelationGetNumberOfBlocks(toast);
			table_close(toast, AccessShareLock);
		}
	}
	table_close(rel, AccessShareLock);
	if (seen)
		segment_note(known, blocks * BLCKSZ);
	return (int64) pg_atomic_read_u64(known);
}

/*
 * The largest id of a segment; see segment.h.
 */
int64
de_segment_last(DeDatabase *db, int segment)
{
	pg_atomic_uint64 *known = &db->segment_last[segment];
	Relation	rel;
	Relation	index;
	TimestampTz created_at;

	if (!de_segment_try_open(segment, AccessShareLock, &rel, &index))
		return (int64) pg_atomic_read_u64(known);
	segment_note(known, de_segment_edge(rel, index, BackwardScanDirection, &created_at));
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return (int64) pg_atomic_read_u64(known);
}

/*
 * Notes what was seen of a segment.  Two who look at the same time may write it
 * in the other order; the next look, a moment later, is right again.
 */
static void
segment_note(pg_atomic_uint64 *known, int64 value)
{
	/* most looks see nothing new, and need not take the line from others */
	if ((int64) pg_atomic_read_u64(known) != value)
		pg_atomic_write_u64(known, (uint64) value);
}

/*
 * Bytes on disk of all segments with their TOAST tables, without their indexes,
 * that count for max_outbox_size; see outbox.h.
 *
 * The rule: all that is on disk counts, but what the relay is about to give
 * back.  That is a segment whose events are all acknowledged by Kafka, if no
 * lock has kept the relay from emptying it, and, of the current one, if another
 * is empty or such a segment, so that the relay can move on.  The relay is
 * believed for ROOM_TRUST_MS after it last did its rounds with progress stored;
 * not once either has failed, nor when it has ended.
 *
 * So the files exceed the limit by what is published while it is found out that
 * they do not shrink, a second or two, or ROOM_TRUST_MS if the relay stands
 * still.  Counting all would refuse events while everything is delivered, until
 * the relay comes to it; counting no acknowledged ones would let the files grow
 * for as long as somebody reads the outbox.
 */
int64
de_outbox_size(DeDatabase *db, int limit)
{
	int64		sizes[DE_SEGMENTS];
	int64		size = 0;
	int			current;
	uint64		room_at;
	bool		current_goes = false;
	bool		place = false;	/* to move on to */

	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		sizes[i] = de_segment_bytes(db, i);
		size += sizes[i];
	}
	if (size < DE_OUTBOX_TARGET(limit))
		return size;

	/* the relay need not know of the limit: it may be this session's */
	pg_atomic_write_u64(&db->outbox_target, (uint64) DE_OUTBOX_TARGET(limit));
	de_worker_cell_wake(&db->relay);
	room_at = pg_atomic_read_u64(&db->room_at);
	if (room_at == 0 || de_monotonic_ms() - (int64) room_at >= ROOM_TRUST_MS ||
		pg_atomic_read_u32(&db->relay.pid) == 0)
		return size;			/* nobody will empty anything */

	/* after the sizes: if the relay has moved on since, it was to an empty one */
	pg_read_barrier();
	current = (int) pg_atomic_read_u32(&db->current_segment);
	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		bool		goes = segment_is_going(db, i);

		if (i == current)
		{
			current_goes = goes;
			continue;
		}
		place |= goes;
		if (goes)
			size -= sizes[i];
	}
	return current_goes && place ? size - sizes[current] : size;
}

/*
 * Will the relay, when it comes to it, find nothing in the segment that it must
 * keep, and nobody who keeps it from emptying it?
 */
static bool
segment_is_going(DeDatabase *db, int segment)
{
	return (pg_atomic_read_u32(&db->locked_segments) & (1 << segment)) == 0 &&
		de_segment_last(db, segment) <= (int64) pg_atomic_read_u64(&db->acked_id);
}

void
de_outbox_room(DeDatabase *db, bool possible)
{
	pg_atomic_write_u64(&db->room_at, possible ? (uint64) de_monotonic_ms() : 0);
}

/*
 * Has a publisher asked for room?
 */
bool
de_outbox_is_pressed(DeDatabase *db)
{
	return pg_atomic_read_u64(&db->outbox_target) != 0;
}
