/*-------------------------------------------------------------------------
 *
 * attempt.c
 *		A transaction whose failure does not end the worker.
 *
 * By default an ERROR ends a worker, and its successor begins anew (pitfall
 * 17).  That is wrong for what it does beside its work: a relay that dies since
 * a segment cannot be emptied on a full disk will never send what is in it.
 *
 * The abort releases locks, buffers, LWLocks and waits as it does for a
 * backend's statement; what it does not know of are contexts and the state
 * that pg_stat_activity shows.  FATAL, and so a wanted exit, goes its way.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "worker/life/attempt.h"
#include "worker/life/worker.h"

/*
 * Tries; see attempt.h.
 */
bool
de_worker_attempt(const char *activity, bool snapshot, void (*work)(void *arg), void *arg,
				  DeFailure *failure)
{
	volatile bool done = false;

	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		pgstat_report_activity(STATE_RUNNING, activity);
		StartTransactionCommand();
		if (snapshot)
			PushActiveSnapshot(GetTransactionSnapshot());
		work(arg);
		if (snapshot)
			PopActiveSnapshot();
		CommitTransactionCommand();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		/* not in ErrorContext, which is about to be reset */
		MemoryContextSwitchTo(de_worker->scratch);
		error = CopyErrorData();
		failure->sqlerrcode = error->sqlerrcode;
		snprintf(failure->message, sizeof(failure->message), "%s%s%s",
				 error->message != NULL ? error->message : "no message",
				 error->detail != NULL ? ": " : "",
				 error->detail != NULL ? error->detail : "");
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(de_worker->scratch);
	return done;
}
