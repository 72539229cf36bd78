/*-------------------------------------------------------------------------
 *
 * outbox_rotate.c
 *		Moves the current segment on, and empties segments: the relay's part.
 *
 * Publishers insert into the current segment; the relay moves the pointer on
 * when it is full or old, and empties a segment once all of it is published
 * and older than the retention.  Nothing is updated or deleted, so a pinned
 * xmin costs nothing and there is nothing to vacuum.
 *
 * Emptying gives the table new, empty files as TRUNCATE does, but without
 * its logical-decoding record: a publication FOR ALL TABLES must not empty
 * the outbox of a subscriber.  It is committed after stored progress in WAL
 * order, so a crash cannot take back the one and keep the other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/smgr.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "extension/base/compat.h"
#include "extension/base/guc.h"
#include "extension/base/kill_point.h"
#include "extension/outbox/segment.h"

static bool segment_lock_conditionally(Oid relid);
static void segment_drop_free_space_map(Relation rel);
static bool segment_try_empty(DeDatabase *db, int segment, int64 stored, TimestampTz before);

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
	Relation	rel;
	Relation	index;
	int64		bytes;

	if (!de_segment_try_open(current, AccessShareLock, &rel, &index))
		return false;
	bytes = de_segment_bytes(rel);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	if (bytes > 0 &&
		(bytes >= (int64) de_segment_size * 1024 * 1024 ||
		 now - since >= (int64) de_segment_interval * USECS_PER_SEC))
	{
		int			next = (current + 1) % DE_SEGMENTS;

		if (!de_segment_try_open(next, AccessShareLock, &rel, &index))
			return false;
		if (RelationGetNumberOfBlocks(rel) == 0)
		{
			pg_atomic_write_u64(&db->current_since, (uint64) now);
			pg_atomic_write_u32(&db->current_segment, next);
			current = next;
			DE_KILL_POINT("relay-after-advance");
		}
		index_close(index, AccessShareLock);
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
	int64		last = 0;
	bool		empty;

	/* a cheap look first: without the lock that keeps others out */
	if (!de_segment_try_open(segment, AccessShareLock, &rel, &index))
		return false;
	empty = RelationGetNumberOfBlocks(rel) == 0;
	if (!empty)
		last = de_segment_edge(rel, index, BackwardScanDirection, &created_at);
	relid = RelationGetRelid(rel);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	if (empty || last > stored || created_at > before)
		return false;

	if (!segment_lock_conditionally(relid))
		return false;			/* a reader, pg_dump, a publisher: another time */
	rel = table_open(relid, NoLock);
	/* all who could add rows have ended or are waiting for us: look again */
	index = index_open(de_segment_index(rel), NoLock);
	last = de_segment_edge(rel, index, BackwardScanDirection, &created_at);
	index_close(index, NoLock);
	if (last > stored || created_at > before ||
		segment == (int) pg_atomic_read_u32(&db->current_segment))
	{
		table_close(rel, NoLock);
		return false;
	}

	DE_KILL_POINT("relay-after-segment-lock");
	CheckTableNotInUse(rel, "empty outbox segment");
	toastid = rel->rd_rel->reltoastrelid;
	segment_drop_free_space_map(rel);
	de_compat_set_new_relfilenode(rel);
	DE_KILL_POINT("relay-after-new-file");
	if (OidIsValid(toastid))
	{
		Relation	toast = table_open(toastid, AccessExclusiveLock);

		segment_drop_free_space_map(toast);
		de_compat_set_new_relfilenode(toast);
		table_close(toast, NoLock);
	}
	de_compat_reindex_relation(relid, REINDEX_REL_PROCESS_TOAST, &params);
	DE_KILL_POINT("relay-after-emptying");
	table_close(rel, NoLock);
	ereport(DEBUG1,
			(errmsg_internal("durable_event emptied outbox segment %d up to id %lld",
							 segment, (long long) last)));
	return true;
}

/*
 * Gives the space of a relation's free space map back at once, not only when
 * the transaction has committed.  The new files need a block for each index, and
 * on a disk that is full there may be none but these: then nothing could ever
 * be emptied, though it is what would make room.  The map goes with the old
 * files anyway; should the transaction fail, it is only a hint that is missing.
 */
static void
segment_drop_free_space_map(Relation rel)
{
	SMgrRelation smgr = RelationGetSmgr(rel);
	ForkNumber	fork = FSM_FORKNUM;
	BlockNumber from;
	BlockNumber to = 0;

	if (!smgrexists(smgr, fork))
		return;
	from = smgrnblocks(smgr, fork);
	if (from > to)
		de_compat_truncate_fork(smgr, &fork, &from, &to);
}
