/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The life that all workers share: start, wait, reload, short
 *		transactions, exit.
 *
 * A worker is crash-only.  An ERROR that reaches the top of its loop is
 * reported by the server's own handler, which exits with code 1; the launcher
 * starts a successor, later and later when they die young.  What SIGTERM asks
 * for (stop taking work, wait a little for acknowledgements) saves repeated
 * work and nothing else: no guarantee depends on it.  Any other exit code, and
 * any fatal signal, restarts the whole server (pitfall 6).
 *
 * Who is there: the cells
 *		A worker claims its cell in shared memory by a compare-and-exchange of
 *		pid 0 with its own, so at most one relay serves a database, however
 *		many a confused launcher starts.  The cell is given back by an
 *		on_shmem_exit callback registered before the connection is made.
 *		Callbacks run last in, first out, so it runs after the callback of
 *		InitPostgres that takes this process out of the process array: an
 *		empty cell means that nobody counts us as connected any more, which is
 *		what DDL waits for.  A process that could not run the callback (SIGKILL,
 *		SIGQUIT) takes the shared memory with it, so no cell is ever stale.
 *
 * DDL against start: who goes first
 *		DDL on database D		W1 hold := D;  barrier;  R1 read cell
 *		starting worker of D	W2 cell := pid; barrier; R2 read holds
 *		Each writes, then reads what the other writes, with full barriers in
 *		between.  If R1 saw the cell empty, W2 came after R1, so R2 comes after
 *		W1 and sees the hold: the worker leaves before it connects.  Otherwise
 *		R1 sees the pid and sends SIGTERM, for which the handler was installed
 *		before the cell was claimed.  Both may happen, which is harmless;
 *		neither cannot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <pthread.h>
#include <time.h>

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "extension/base/compat.h"
#include "extension/base/kill_point.h"
#include "extension/base/shmem.h"
#include "worker/life/worker.h"

#define DE_LAUNCHER_RESTART_TIME 5	/* seconds */

/* What differs between the kinds of workers. */
typedef struct MainKind
{
	const char *type;			/* bgw_type: constant, for pg_stat_activity */
	const char *function;
	const char *wait_event;
} MainKind;

static const MainKind main_kinds[] = {
	[DE_WORKER_LAUNCHER] = {"durable_event launcher", "de_launcher_main", "DurableEventLauncher"},
	[DE_WORKER_RELAY] = {"durable_event relay", "de_relay_main", "DurableEventRelay"},
	[DE_WORKER_PROXY] = {"durable_event proxy", "de_proxy_main", "DurableEventProxy"},
};

/*
 * Settings that a worker relies on.  PGC_S_OVERRIDE beats ALTER DATABASE SET,
 * ALTER ROLE SET and every reload.
 */
static const struct
{
	const char *name;
	const char *value;
}			main_settings[] = {
	/* the worker is a superuser: no name of ours may lead to somebody's object (pitfall 18) */
	{"search_path", "pg_catalog, pg_temp"},
	{"session_replication_role", "origin"},
	{"row_security", "off"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"statement_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"transaction_timeout", "0"},	/* 17 and later */
	/* or what a worker catches would end it */
	{"exit_on_error", "off"},

	/*
	 * All that a worker writes is progress, which may be repeated after a
	 * crash.  It must not wait for a synchronous standby: that wait ignores
	 * our SIGTERM.
	 */
	{"synchronous_commit", "off"},
	/* short statements only */
	{"jit", "off"},
	{"max_parallel_workers_per_gather", "0"},
};

/* Waiting longer for a lock would delay the answer to SIGTERM and SIGHUP. */
#define DE_LOCK_TIMEOUT "1s"

DeWorker   *de_worker = NULL;

static DeWorker main_worker;
static DeWorkerCell *main_cell = NULL;
static ErrorContextCallback main_error_context;
static uint32 main_wait_event = 0;

static void main_sigterm_while_starting(SIGNAL_ARGS);
static void main_override(const char *name, const char *value);
DE_NORETURN static void main_leave(void);
static void main_claim_cell(void);
static void main_connect(void);
static void main_error_callback(void *arg);
static void main_release_cell(int code, Datum arg);

/*
 * Describes a worker for registration.  All arguments travel by value
 * (pitfall 11): pointers are not good in another process.
 */
void
de_worker_describe(BackgroundWorker *worker, DeWorkerKind kind, Oid dboid, const char *dbname,
				   int index)
{
	memset(worker, 0, sizeof(BackgroundWorker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_ConsistentState;
	snprintf(worker->bgw_library_name, sizeof(worker->bgw_library_name), "durable_event");
	snprintf(worker->bgw_function_name, sizeof(worker->bgw_function_name), "%s",
			 main_kinds[kind].function);
	snprintf(worker->bgw_type, BGW_MAXLEN, "%s", main_kinds[kind].type);
	worker->bgw_main_arg = ObjectIdGetDatum(dboid);
	memcpy(worker->bgw_extra, &index, sizeof(index));

	switch (kind)
	{
		case DE_WORKER_LAUNCHER:
			snprintf(worker->bgw_name, BGW_MAXLEN, "%s", main_kinds[kind].type);
			worker->bgw_restart_time = DE_LAUNCHER_RESTART_TIME;
			worker->bgw_notify_pid = 0; /* a static worker must not ask for more */
			return;
		case DE_WORKER_RELAY:
			snprintf(worker->bgw_name, BGW_MAXLEN, "%s for database \"%s\"",
					 main_kinds[kind].type, dbname);
			break;
		case DE_WORKER_PROXY:
			snprintf(worker->bgw_name, BGW_MAXLEN, "%s %d for database \"%s\"",
					 main_kinds[kind].type, index, dbname);
			break;
	}
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	worker->bgw_notify_pid = MyProcPid;
}

/*
 * Asks the postmaster for a child; NULL when there is no slot.  That the child
 * really starts is seen by its handle or its cell.
 */
BackgroundWorkerHandle *
de_worker_launch(DeWorkerKind kind, Oid dboid, const char *dbname, int index)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle = NULL;

	Assert(kind != DE_WORKER_LAUNCHER);
	de_worker_describe(&worker, kind, dboid, dbname, index);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return NULL;
	return handle;
}

/*
 * Brings this process to the top of its loop.  Does not return when it is not
 * wanted.
 */
void
de_worker_begin(DeWorkerKind kind, Datum main_arg)
{
	DeWorker   *worker = &main_worker;

	worker->kind = kind;
	worker->dboid = DatumGetObjectId(main_arg);
	memcpy(&worker->index, MyBgworkerEntry->bgw_extra, sizeof(worker->index));
	de_worker = worker;

	/*
	 * Handlers come before signals are unblocked: the server's default one
	 * for SIGTERM exits from inside the handler (pitfall 5).  SIGUSR1 and
	 * SIGQUIT stay as they are (pitfalls 4, 7).
	 */
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, main_sigterm_while_starting);
	BackgroundWorkerUnblockSignals();

	worker->context = AllocSetContextCreate(TopMemoryContext, "durable_event worker",
											ALLOCSET_DEFAULT_SIZES);
	worker->scratch = AllocSetContextCreate(worker->context, "durable_event worker scratch",
											ALLOCSET_DEFAULT_SIZES);

	main_error_context.callback = main_error_callback;
	main_error_context.previous = error_context_stack;
	error_context_stack = &main_error_context;

	main_claim_cell();
	main_connect();

	/* from here on the loop answers SIGTERM, when it is at a good place */
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	CHECK_FOR_INTERRUPTS();
	if (de_worker_stopping() || de_worker_held())
		main_leave();

	/* a SIGHUP between fork and the handler above was lost (pitfall 16) */
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);

	MemoryContextSwitchTo(worker->scratch);
	ereport(LOG,
			(errmsg("%s started", main_kinds[kind].type)));
}

/*
 * SIGTERM before we are connected.  As in a backend it acts at the next
 * interrupt check, since the connection may wait, without end if a prepared
 * transaction has it, for the lock of somebody's DDL on the database.  That
 * is FATAL and stands in the log; not so, the first time, for DDL that holds
 * the database: it waits for us before it takes its lock, so we shall soon be
 * connected and leave quietly.
 */
static void
main_sigterm_while_starting(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (!de_worker_stopping() && de_worker_held())
		SignalHandlerForShutdownRequest(postgres_signal_arg);
	else
		die(postgres_signal_arg);
	errno = save_errno;
}

/*
 * Does somebody's DDL want this worker gone from its database?
 */
bool
de_worker_held(void)
{
	return OidIsValid(de_worker->dboid) && de_database_is_held(de_worker->dboid);
}

/*
 * Exits before the work has begun: code 0, so that the log has no complaint.
 * The launcher starts children again if need be; nobody but the postmaster
 * starts the launcher, and only after another code (pitfall 6).
 */
static void
main_leave(void)
{
	proc_exit(de_worker->kind == DE_WORKER_LAUNCHER ? 1 : 0);
}

/*
 * Takes the cell of this kind and database, or exits.
 */
static void
main_claim_cell(void)
{
	DeWorker   *worker = de_worker;
	uint32		nobody = 0;

	if (worker->kind == DE_WORKER_LAUNCHER)
		main_cell = &de_shared->launcher;
	else
	{
		Assert(OidIsValid(worker->dboid));
		worker->db = de_database_find(worker->dboid);
		if (worker->db == NULL) /* dropped since, and its entry freed */
			proc_exit(0);
		main_cell = &worker->db->relay;
		if (worker->kind == DE_WORKER_PROXY)
			main_cell = &worker->db->proxies[worker->index];
	}

	/*
	 * Registered before the cell is ours, so that it cannot be left behind,
	 * and before the connection is made (see the file's header).
	 */
	on_shmem_exit(main_release_cell, (Datum) 0);
	DE_KILL_POINT("worker-before-claim");
	if (!pg_atomic_compare_exchange_u32(&main_cell->pid, &nobody, (uint32) MyProcPid))
	{
		ereport(DEBUG1,
				(errmsg_internal("another process (PID %u) does the work of %s",
								 nobody, MyBgworkerEntry->bgw_name)));
		main_leave();
	}
	pg_atomic_write_u32(&main_cell->procno, (uint32) DE_MY_PROC_NUMBER);
	DE_KILL_POINT("worker-after-claim");
	if (worker->kind == DE_WORKER_LAUNCHER)
		return;

	/* the exchange was a full barrier already; this one is for the reader */
	pg_memory_barrier();

	/* the entry may have been given to another database before the cell was ours */
	if (worker->db->dboid != worker->dboid || de_worker_held())
		proc_exit(0);
	if (worker->kind == DE_WORKER_RELAY)
		de_relay_report_state(worker->db, DE_RELAY_STARTING);
}

/*
 * Connects as the bootstrap superuser; the launcher, to shared catalogs only.
 * FATAL when the database was dropped since the launcher saw it.
 */
static void
main_connect(void)
{
	for (int i = 0; i < lengthof(main_settings); i++)
		main_override(main_settings[i].name, main_settings[i].value);
	if (de_worker->kind == DE_WORKER_PROXY)
		main_override("application_name",
					  psprintf("%s %d", main_kinds[DE_WORKER_PROXY].type, de_worker->index));
	else
		main_override("application_name", main_kinds[de_worker->kind].type);

	if (de_worker->kind == DE_WORKER_LAUNCHER)
		BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	else
		BackgroundWorkerInitializeConnectionByOid(de_worker->dboid, InvalidOid, 0);

	/*
	 * Not before the connection, which waits for the lock of a DDL command on
	 * this database: giving up each second would fill the log.
	 */
	main_override("lock_timeout", DE_LOCK_TIMEOUT);

	/*
	 * ALTER DATABASE ... SET role or session_authorization, which the
	 * database's owner may give it, would have made another user of us.  The
	 * server lets them be set in a transaction only, not above.
	 */
	if (de_worker->kind != DE_WORKER_LAUNCHER)
	{
		StartTransactionCommand();
		main_override("session_authorization", GetUserNameFromId(BOOTSTRAP_SUPERUSERID, false));
		main_override("role", "none");
		CommitTransactionCommand();
	}
}

/*
 * Sets a setting for good; nothing happens if this server does not have it.
 */
static void
main_override(const char *name, const char *value)
{
	if (GetConfigOption(name, true, false) != NULL)
		SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Makes the wait set of a worker.
 */
WaitEventSet *
de_worker_create_wait_set(int nfds, const int *fds)
{
	WaitEventSet *set;

	Assert(nfds <= DE_MAX_WAIT_FDS);
	set = de_compat_create_wait_event_set(de_worker->context, nfds + 2);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < nfds; i++)
		AddWaitEventToSet(set, WL_SOCKET_READABLE, fds[i], NULL, NULL);
	return set;
}

/*
 * Waits, then does what every turn of a worker's loop begins with.  Which
 * descriptor was ready is not told: a latch that is set hides the others for
 * one turn, so the caller looks at all of them anyway.
 */
bool
de_worker_wait(WaitEventSet *set, long timeout_ms, const char *activity)
{
	WaitEvent	occurred[DE_MAX_WAIT_FDS + 2];
	bool		stats_pending = false;
	bool		reloaded = false;

	Assert(!IsTransactionState());

	pgstat_report_activity(STATE_IDLE, activity);
	if (OidIsValid(MyDatabaseId))
		stats_pending = pgstat_report_stat(false) > 0;

	if (WaitEventSetWait(set, Max(0, Min(timeout_ms, DE_MAX_WAIT_MS)), occurred, lengthof(occurred),
						 DE_WAIT_EVENT(main_wait_event,
									   main_kinds[de_worker->kind].wait_event)) == 0 &&
		stats_pending)
	{
		/* nothing to do: the time to hand over what was too early above */
		pgstat_report_stat(true);
	}

	/* reset before any flag is looked at, or what is set meanwhile waits for the next turn */
	ResetLatch(MyLatch);

	/* also absorbs barriers, for which every DROP DATABASE of the server waits (pitfall 4) */
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		reloaded = true;
	}
	AcceptInvalidationMessages();

	MemoryContextReset(de_worker->scratch);
	MemoryContextSwitchTo(de_worker->scratch);
	return reloaded;
}

/*
 * Begins a short transaction.
 */
void
de_worker_start_transaction(const char *activity)
{
	/* each is a statement of its own to the timestamps that views show (pitfall 10) */
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, activity);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/*
 * Ends it.  CommitTransactionCommand leaves us in TopMemoryContext, where a
 * stray palloc would stay for good.
 */
void
de_worker_commit_transaction(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(de_worker->scratch);
}

/*
 * Says in every message of a worker which one it is.
 */
static void
main_error_callback(void *arg)
{
	if (de_worker->kind != DE_WORKER_LAUNCHER)
		errcontext("%s", MyBgworkerEntry->bgw_name);
}

/*
 * on_shmem_exit: gives the cell back if it is ours.  Runs after this process
 * left the process array and before it gives back its PGPROC.  Atomics and
 * a spinlock only.
 */
static void
main_release_cell(int code, Datum arg)
{
	uint32		mine = (uint32) MyProcPid;

	if (pg_atomic_read_u32(&main_cell->pid) != mine)
		return;
	if (de_worker->kind == DE_WORKER_RELAY)
		de_relay_report_state(de_worker->db, DE_RELAY_STOPPED);
	pg_memory_barrier();
	pg_atomic_compare_exchange_u32(&main_cell->pid, &mine, 0);
}
