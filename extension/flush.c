/*-------------------------------------------------------------------------
 *
 * flush.c
 *		flush(): waits until Kafka has what was committed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "extension/base/clock.h"
#include "extension/base/compat.h"
#include "extension/base/shmem.h"
#include "extension/outbox/horizon.h"

PG_FUNCTION_INFO_V1(durable_event_flush);

static uint32 flush_wait_event = 0;

static pg_noinline int64 flush_deadline(Interval *timeout);
static void flush_forget(int code, Datum arg);
static bool flush_wait(DeDatabase *db, uint64 target, int64 deadline);

/*
 * SQL: flush(timeout interval) returns boolean: waits until every event
 * committed before the call is acknowledged by Kafka; false at the timeout.
 */
Datum
durable_event_flush(PG_FUNCTION_ARGS)
{
	DeDatabase *db;
	int64		deadline;
	bool		done;

	de_shmem_require();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot flush the outbox during recovery"),
				 errhint("Call durable_event.flush() on the primary.")));
	deadline = flush_deadline(PG_GETARG_INTERVAL_P(0));
	db = de_database_get(MyDatabaseId);
	PushActiveSnapshot(GetTransactionSnapshot());
	de_horizon_derive(db);
	PopActiveSnapshot();

	pg_atomic_fetch_add_u32(&db->flush_waiters, 1);
	PG_ENSURE_ERROR_CLEANUP(flush_forget, PointerGetDatum(db));
	{
		done = flush_wait(db, pg_atomic_read_u64(&db->last_drawn), deadline);
	}
	PG_END_ENSURE_ERROR_CLEANUP(flush_forget, PointerGetDatum(db));
	flush_forget(0, PointerGetDatum(db));
	PG_RETURN_BOOL(done);
}

/*
 * When an interval from now is over, on the clock that nobody sets; the calendar
 * has to say how long a month is.  Not inlined: its variables need not survive
 * the caller's longjmp.
 */
static pg_noinline int64
flush_deadline(Interval *timeout)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
															  TimestampTzGetDatum(now),
															  IntervalPGetDatum(timeout)));

	if (TIMESTAMP_IS_NOEND(end))
		return PG_INT64_MAX;
	if (TIMESTAMP_IS_NOBEGIN(end))
		return 0;
	return de_monotonic_ms() + (end - now + 999) / 1000;
}

/*
 * No longer counts this backend among those that wait in flush().
 */
static void
flush_forget(int code, Datum arg)
{
	DeDatabase *db = (DeDatabase *) DatumGetPointer(arg);

	pg_atomic_fetch_sub_u32(&db->flush_waiters, 1);
}

/*
 * Waits until acked_id reaches target or the deadline passes.
 */
static bool
flush_wait(DeDatabase *db, uint64 target, int64 deadline)
{
	bool		done;

	/* the relay may be asleep with nothing new to read but progress to report */
	de_worker_cell_wake(&db->relay);
	ConditionVariablePrepareToSleep(&db->acked_cv);
	for (;;)
	{
		int64		left = deadline - de_monotonic_ms();

		done = pg_atomic_read_u64(&db->acked_id) >= target;
		if (done || left <= 0)
			break;
		/* a second at most, so that nothing depends on one broadcast */
		ConditionVariableTimedSleep(&db->acked_cv, (long) Min(left, 1000),
									DE_WAIT_EVENT(flush_wait_event, "DurableEventFlush"));
	}
	ConditionVariableCancelSleep();
	return done;
}
