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

#include "extension/base/catalog.h"
#include "extension/base/clock.h"
#include "extension/base/compat.h"
#include "extension/base/guc.h"
#include "extension/base/kill_point.h"
#include "extension/outbox/segment.h"

/* What became of a segment that is not current. */
typedef enum SegmentFate
{
	SEGMENT_EMPTY,				/* it was */
	SEGMENT_EMPTIED,			/* just now */
	SEGMENT_KEPT,				/* not all of it is published, or not long enough ago */
	SEGMENT_LOCKED				/* could be emptied, but somebody uses it */
} SegmentFate;

static int64 outbox_target(DeDatabase *db);
static SegmentFate segment_try_empty(DeDatabase *db, int segment, int64 stored, bool regardless);
static bool segment_is_kept(TimestampTz created_at, bool regardless);
static void segment_drop_free_space_map(Relation rel);

/*
 * Moves the current segment on when it is full or old and another one is
 * empty (else it goes on growing: an event is never refused for that), and
 * empties one segment.  Near max_outbox_size sooner, and regardless of the
 * retention.  See outbox.h.
 */
bool
de_outbox_rotate(DeDatabase *db, int64 stored)
{
	int			current = (int) pg_atomic_read_u32(&db->current_segment);
	int64		now = de_monotonic_ms();
	int64		since = (int64) pg_atomic_read_u64(&db->current_since);
	int64		target = outbox_target(db);
	int64		sizes[DE_SEGMENTS];
	int64		total = 0;
	static uint32 locked_before = 0;
	uint32		locked = 0;
	bool		pressed;
	Relation	rel;
	Relation	index;

	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		sizes[i] = de_segment_bytes(db, i);
		total += sizes[i];
	}
	pressed = total >= target;
	if (!pressed)
		pg_atomic_write_u64(&db->outbox_target, 0);

	if (sizes[current] > 0 &&
		(sizes[current] >= (int64) de_segment_size * 1024 * 1024 ||
		 now - since >= (int64) de_segment_interval * 1000 ||
		 (pressed && sizes[current] >= target / DE_SEGMENTS)))
	{
		bool		moved = false;

		/*
		 * In turn; but one that somebody has locked, or that cannot be emptied,
		 * must not keep the others from being used.
		 */
		for (int i = 1; i < DE_SEGMENTS && !moved; i++)
		{
			int			next = (current + i) % DE_SEGMENTS;

			if (!de_segment_try_open(next, AccessShareLock, &rel, &index))
				continue;
			if (RelationGetNumberOfBlocks(rel) == 0)
			{
				pg_atomic_write_u64(&db->current_since, (uint64) now);
				pg_atomic_write_u32(&db->current_segment, next);
				current = next;
				moved = true;
				DE_KILL_POINT("relay-after-advance");
			}
			index_close(index, AccessShareLock);
			table_close(rel, AccessShareLock);
		}
	}

	/* the one that the pointer will come to next first */
	for (int i = 1; i < DE_SEGMENTS; i++)
	{
		int			segment = (current + i) % DE_SEGMENTS;

		switch (segment_try_empty(db, segment, stored, pressed))
		{
			case SEGMENT_EMPTIED:
				return true;
			case SEGMENT_LOCKED:
				locked |= 1 << segment;
				break;
			case SEGMENT_EMPTY:
			case SEGMENT_KEPT:
				break;
		}
	}
	/* twice in a row: not for a commit that is just ending */
	pg_atomic_write_u32(&db->locked_segments, locked & locked_before);
	locked_before = locked;
	return false;
}

/*
 * The size below which the outbox should be: three quarters of
 * max_outbox_size, as this process or some publisher has it set (for a session
 * or since we began), or as good as infinite.
 */
static int64
outbox_target(DeDatabase *db)
{
	int64		target = (int64) pg_atomic_read_u64(&db->outbox_target);
	int64		own = DE_OUTBOX_TARGET(de_max_outbox_size);

	if (target == 0)
		target = PG_INT64_MAX;
	return own > 0 ? Min(own, target) : target;
}

/*
 * Empties a segment if it has rows, all are published and the last is older
 * than the retention; "regardless" of that if so told.
 */
static SegmentFate
segment_try_empty(DeDatabase *db, int segment, int64 stored, bool regardless)
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
		return SEGMENT_LOCKED;
	empty = RelationGetNumberOfBlocks(rel) == 0;
	if (!empty)
		last = de_segment_edge(rel, index, BackwardScanDirection, &created_at);
	/* for publishers, whom we are about to lock out */
	pg_atomic_write_u64(&db->segment_last[segment], (uint64) last);
	relid = RelationGetRelid(rel);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	if (empty)
		return SEGMENT_EMPTY;
	if (last > stored || segment_is_kept(created_at, regardless))
		return SEGMENT_KEPT;

	if (!de_relation_try_lock(relid, AccessExclusiveLock))
		return SEGMENT_LOCKED;	/* a reader, pg_dump, a publisher: another time */
	rel = table_open(relid, NoLock);
	/* all who could add rows have ended or are waiting for us: look again */
	index = index_open(de_segment_index(rel), NoLock);
	last = de_segment_edge(rel, index, BackwardScanDirection, &created_at);
	index_close(index, NoLock);
	if (last > stored || segment_is_kept(created_at, regardless) ||
		segment == (int) pg_atomic_read_u32(&db->current_segment))
	{
		table_close(rel, NoLock);
		return SEGMENT_KEPT;
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
	return SEGMENT_EMPTIED;
}

/*
 * Is an event of that time to stay readable?  One of the future is not: the
 * clock was wrong when it was published, and waiting for that time might fill
 * the disk.
 */
static bool
segment_is_kept(TimestampTz created_at, bool regardless)
{
	TimestampTz now = GetCurrentTimestamp();

	return !regardless && created_at <= now &&
		now - created_at < (int64) de_retention * USECS_PER_SEC;
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
