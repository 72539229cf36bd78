/*-------------------------------------------------------------------------
 *
 * worker.h
 *		The life that all workers share: start, wait, reload, short
 *		transactions, exit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_WORKER_H
#define DE_WORKER_H

#include "extension/base/shmem.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"

/* No wait is longer than this, whatever the caller asks: invalidations of a standby wake nobody. */
#define DE_MAX_WAIT_MS 1000

/* Descriptors that one wait set can take besides the latch and postmaster death. */
#define DE_MAX_WAIT_FDS 16

/* set by SIGTERM; the loop stops taking work, drains <= shutdown_timeout, returns */
#define de_worker_stopping() (ShutdownRequestPending != 0)

/* This process, valid after de_worker_begin(). */
typedef struct DeWorker
{
	DeWorkerKind kind;
	Oid			dboid;
	int			index;			/* of a proxy, from 0 */
	DeDatabase *db;				/* NULL in the launcher */
	MemoryContext context;		/* life of the process */
	MemoryContext scratch;		/* reset by de_worker_wait() */
} DeWorker;

extern DeWorker *de_worker;

/* Entry points of the workers, by name in their registration. */
extern PGDLLEXPORT void de_launcher_main(Datum main_arg);
extern PGDLLEXPORT void de_relay_main(Datum main_arg);
extern PGDLLEXPORT void de_proxy_main(Datum main_arg);

/*
 * Fills in a registration (library, function, names, flags); the launcher's
 * when dboid is InvalidOid.
 */
extern void de_worker_describe(BackgroundWorker *worker, DeWorkerKind kind, Oid dboid,
							   const char *dbname, int index);

/*
 * Registers a child of the launcher; NULL when no background worker slot is
 * free (max_worker_processes).  Children are never restarted by the
 * postmaster: the launcher does it, with backoff.  The handle is palloc'd in
 * the current context.
 */
extern BackgroundWorkerHandle *de_worker_launch(DeWorkerKind kind, Oid dboid, const char *dbname,
												int index);

/*
 * First call of every worker: installs signal handlers, claims its cell in
 * shared memory, connects to the database (the launcher: to none), sets
 * search_path, isolation, lock_timeout, synchronous_commit, application name
 * and error context, logs the start.  Exits with code 0 when another process
 * holds the cell or DDL wants us out.
 */
extern void de_worker_begin(DeWorkerKind kind, Datum main_arg);

/*
 * Does somebody's DDL wait for this worker to be gone from its database?
 * Then a stopping worker must not wait for acknowledgements.
 */
extern bool de_worker_held(void);

/*
 * A wait set of the latch, postmaster death and up to nfds descriptors
 * (readable).  Lives until process exit.
 */
extern WaitEventSet *de_worker_create_wait_set(int nfds, const int *fds);

/*
 * Waits until something happens or timeout_ms (capped at DE_MAX_WAIT_MS)
 * passed, resets the latch, processes interrupts, reloads settings on SIGHUP,
 * accepts invalidations, resets de_worker->scratch and makes it current.
 * Outside of transactions only.  Returns true if settings were reloaded.
 */
extern bool de_worker_wait(WaitEventSet *set, long timeout_ms, const char *activity);

/*
 * A short transaction, READ COMMITTED, with an active snapshot.  The
 * activity is what pg_stat_activity shows.  After commit the current context is
 * de_worker->scratch again.
 */
extern void de_worker_start_transaction(const char *activity);
extern void de_worker_commit_transaction(void);

#endif							/* DE_WORKER_H */
