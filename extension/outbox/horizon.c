/*-------------------------------------------------------------------------
 *
 * horizon.c
 *		Ids in commit order, and the id up to which the relay may read.
 *
 * A publisher P at pre-commit does, in this order,
 *
 *		P1	mark := last_drawn			(its own cell: exclusive lower bound)
 *		P2	full barrier
 *		P3	x := last_drawn += n		(atomic; its ids are x-n+1 .. x)
 *		P4	inserts its rows, commits (WAL record, ProcArrayEndTransaction)
 *		P5	commit_lsn := max(commit_lsn, its commit record's end)
 *		P6	write barrier; mark := none
 *		P7	full barrier; wakes the relay if it sleeps
 *
 * or, if it aborts, P6 and P7 after the abort.  The relay R does
 *
 *		R1	L := last_drawn
 *		R2	full barrier
 *		R3	m := the smallest mark of a backend of this database
 *		R4	full barrier
 *		R5	flushes WAL up to commit_lsn
 *		R6	takes a snapshot, reads the ids up to safe := min(L, m)
 *
 * Claim: each id i <= safe is, for the snapshot of R6, committed and visible,
 * and its commit is on disk; or it will never be.
 *
 * Proof.  i <= L, so P3 of its owner came before R1 in the order of
 * last_drawn's changes, and by P2 and R2, R3 sees P's mark of P1 or a later
 * value of that cell.  Not the mark itself: it is less than i, and i <= m.  So
 * R3 saw what came at P6 or later.  If P committed, P4 and P5 were done by
 * then, and by the barriers at P6 and R4, R5 sees its commit_lsn (or a larger
 * one) and R6's snapshot, taken under ProcArrayLock which P4 had released,
 * sees it as committed.  If P aborted, its rows are invisible for ever.  If the
 * cell's process ended and another uses the cell, the same holds, since a mark
 * is cleared before exit; and if that one is of another database, the changed
 * dboid was written after the mark was cleared.  QED.
 *
 * Commit order (G3): ids are drawn at pre-commit, after deferred triggers, with
 * all row locks of the transaction held.  If T2 waited for a lock of T1, or
 * began its COMMIT after T1's returned, then T1 had drawn before T2 draws.
 *
 * A transaction that waits at P4 (for a synchronous standby, or for the lock
 * that NOTIFY takes at commit) holds the horizon: its events are not decided.
 * A long transaction does not: it has no mark before its COMMIT.
 *
 * Ids after a server start.  The counter is derived at first use: above every
 * id in any segment, also of dead rows (an id that reached Kafka was
 * committed and flushed; its row is there unless its segment was emptied, which
 * follows stored progress), above stored progress, and DE_START_GAP more: a
 * promoted standby may lack rows that its dead primary had sent, and must not
 * give out their ids again.  The gap is left at every start, not only when
 * the timeline has changed: that would need the former timeline stored, which
 * could itself be lost, and timelines begin anew at a pg_upgrade.  2^31 starts
 * exhaust the ids.  Two processes may derive at once: none has drawn before
 * ids_ready is set, so either result will do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"

#include "extension/base/clock.h"
#include "extension/base/compat.h"
#include "extension/base/kill_point.h"
#include "extension/outbox/horizon.h"
#include "extension/outbox/outbox.h"
#include "extension/outbox/progress.h"

/* more than a primary can be ahead of the standby that takes over from it */
#define DE_START_GAP (UINT64CONST(1) << 32)

/* the database whose mark this backend has set; NULL = none */
static DeDatabase *marked_db = NULL;

static void horizon_clear_mark(void);
static void horizon_on_exit(int code, Datum arg);

/*
 * Makes sure that the id counter is derived.
 */
void
de_horizon_derive(DeDatabase *db)
{
	int			segment;
	uint64		last;

	if (pg_atomic_read_u32(&db->ids_ready) != 0)
		return;

	last = (uint64) de_outbox_largest_id(&segment);
	last = Max(last, (uint64) de_progress_load());
	last += DE_START_GAP;

	LWLockAcquire(de_shared->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&db->ids_ready) == 0)
	{
		/*
		 * A former extension of this database may have drawn more since the
		 * start: the counter never falls.
		 */
		if (pg_atomic_read_u64(&db->last_drawn) < last)
			pg_atomic_write_u64(&db->last_drawn, last);
		pg_atomic_write_u64(&db->start_id, pg_atomic_read_u64(&db->last_drawn));
		pg_atomic_write_u32(&db->current_segment, segment);
		pg_atomic_write_u64(&db->current_since, (uint64) de_monotonic_ms());
		pg_write_barrier();
		pg_atomic_write_u32(&db->ids_ready, 1);
	}
	LWLockRelease(de_shared->lock);
}

/*
 * Marks this backend as committing and draws n consecutive ids; returns the
 * first.  The counter must be derived.
 */
uint64
de_horizon_draw(DeDatabase *db, uint64 n)
{
	DeBackendCell *cell = &de_shared->backends[DE_MY_PROC_NUMBER];
	static bool exit_registered = false;

	Assert(marked_db == NULL);
	Assert(pg_atomic_read_u32(&db->ids_ready) != 0);
	if (!exit_registered)
	{
		/*
		 * Runs after the transaction of a dying backend was aborted
		 * (before_shmem_exit) and before its cell can get a new owner.
		 */
		on_shmem_exit(horizon_on_exit, (Datum) 0);
		exit_registered = true;
	}

	pg_atomic_write_u32(&cell->c.dboid, db->dboid);
	pg_atomic_write_u64(&cell->c.since, (uint64) de_monotonic_ms());
	pg_write_barrier();
	marked_db = db;
	pg_atomic_write_u64(&cell->c.bound, pg_atomic_read_u64(&db->last_drawn));	/* P1 */
	pg_memory_barrier();		/* P2 */
	DE_KILL_POINT("commit-after-mark");
	return pg_atomic_fetch_add_u64(&db->last_drawn, n) + 1; /* P3 */
}

/*
 * After ProcArrayEndTransaction of a commit: records its LSN, clears the mark.
 */
void
de_horizon_commit(DeDatabase *db)
{
	uint64		lsn = (uint64) XactLastCommitEnd;
	uint64		seen = pg_atomic_read_u64(&db->commit_lsn);

	while (seen < lsn && !pg_atomic_compare_exchange_u64(&db->commit_lsn, &seen, lsn))	/* P5 */
		;
	DE_KILL_POINT("commit-after-lsn");
	horizon_clear_mark();
}

/*
 * After an abort: clears the mark if there is one.
 */
void
de_horizon_abort(void)
{
	if (marked_db != NULL)
		horizon_clear_mark();
}

/*
 * P6 and P7.  Also after an abort: this mark may be all that kept others'
 * events back, and they have woken the relay in vain.
 */
static void
horizon_clear_mark(void)
{
	DeDatabase *db = marked_db;

	marked_db = NULL;
	pg_write_barrier();
	pg_atomic_write_u64(&de_shared->backends[DE_MY_PROC_NUMBER].c.bound, DE_NOT_IN_FLIGHT);
	pg_memory_barrier();
	if (pg_atomic_read_u32(&db->relay_asleep) != 0 &&
		pg_atomic_exchange_u32(&db->relay_asleep, 0) != 0)
		de_worker_cell_wake(&db->relay);
}

/*
 * Exit callback: a backend that dies with its mark set must not hold the
 * horizon for ever.
 */
static void
horizon_on_exit(int code, Datum arg)
{
	de_horizon_abort();
}

/*
 * The id up to which the relay may read; see the proof above.
 */
uint64
de_horizon_safe(DeDatabase *db)
{
	uint64		safe = pg_atomic_read_u64(&db->last_drawn); /* R1 */
	XLogRecPtr	lsn;

	Assert(!IsTransactionState());
	pg_memory_barrier();		/* R2 */
	for (int i = 0; i < DE_MAX_PROC_NUMBER; i++)	/* R3 */
	{
		DeBackendCell *cell = &de_shared->backends[i];
		uint64		bound = pg_atomic_read_u64(&cell->c.bound);

		if (bound < safe)
		{
			pg_read_barrier();
			if (pg_atomic_read_u32(&cell->c.dboid) == db->dboid)
				safe = bound;
		}
	}
	pg_memory_barrier();		/* R4 */
	lsn = (XLogRecPtr) pg_atomic_read_u64(&db->commit_lsn);
	if (!XLogRecPtrIsInvalid(lsn))
		XLogFlush(lsn);			/* R5 */
	return safe;
}

/*
 * Who holds the horizon; see horizon.h.
 */
bool
de_horizon_holder(DeDatabase *db, int *pid, int64 *held_ms)
{
	uint64		smallest = DE_NOT_IN_FLIGHT;

	for (int i = 0; i < DE_MAX_PROC_NUMBER; i++)
	{
		DeBackendCell *cell = &de_shared->backends[i];
		uint64		bound = pg_atomic_read_u64(&cell->c.bound);

		if (bound >= smallest)
			continue;
		pg_read_barrier();
		if (pg_atomic_read_u32(&cell->c.dboid) != db->dboid)
			continue;
		smallest = bound;
		/* as it is just now: for people */
		*pid = DE_GET_PROC(i)->pid;
		*held_ms = Max(0, de_monotonic_ms() - (int64) pg_atomic_read_u64(&cell->c.since));
	}
	return smallest != DE_NOT_IN_FLIGHT;
}
