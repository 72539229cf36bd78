/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		Starts and supervises the workers of the listed databases: per
 *		database one relay, unless this server is in recovery, and the proxies
 *		that the settings ask for.
 *
 * A static worker that connects to no database and keeps nothing that matters:
 * each turn compares the workers that should be there with those that are, by
 * their cells in shared memory, starts the missing and sends SIGTERM to the
 * surplus.  So it may die at any time; its successor finds the children of
 * its predecessor in the cells and goes on with them.  That it knows nothing
 * for sure is allowed, too: a child started twice leaves by itself (worker.c).
 *
 * A turn comes at least each second, because promotion wakes nobody, and at
 * once when a child of ours came or went (bgw_notify_pid), when DDL is done
 * with a database, and on SIGHUP.  In the steady state a turn runs no
 * transaction: pg_database is read after an invalidation of its cache, after
 * a reload, and always before a worker is started, so that none is sent into
 * a database that was just dropped.
 *
 * The exit code is always 1: with 0 the postmaster would forget the launcher
 * after pg_terminate_backend (pitfall 6).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "extension/base/clock.h"
#include "extension/base/guc.h"
#include "extension/base/shmem.h"
#include "worker/base/backoff.h"
#include "worker/life/launcher.h"
#include "worker/life/worker.h"

/* A child that lives less than this died young: the next one has to wait. */
#define LAUNCHER_YOUNG_MS 10000
#define LAUNCHER_BACKOFF_MIN_MS 1000
#define LAUNCHER_BACKOFF_MAX_MS 30000

/* When to try again to get an entry in shared memory for a database, at the latest. */
#define LAUNCHER_ENTRY_RETRY_MS 30000

/* datconnlimit of a database whose DROP was interrupted; its macro came in a minor release */
#define LAUNCHER_INVALID_DATABASE (-2)

/* Why a listed database has no workers. */
typedef enum LauncherProblem
{
	LAUNCHER_OK,
	LAUNCHER_MISSING,
	LAUNCHER_NO_CONNECTIONS,
	LAUNCHER_INVALID,
	LAUNCHER_NO_ENTRY			/* durable_event.max_databases */
} LauncherProblem;

/* One listed database. */
typedef struct LauncherTarget
{
	char	   *name;
	Oid			dboid;			/* InvalidOid while no worker can connect */
	bool		exists;			/* in pg_database, whatever its state */
	LauncherProblem problem;	/* as last reported */
	int64		retry_at;		/* under LAUNCHER_NO_ENTRY */
} LauncherTarget;

/* What is known of one worker that is, was, or may come to be. */
typedef struct LauncherChild
{
	BackgroundWorkerHandle *handle; /* NULL: not running, or a former launcher's */
	int64		started_at;
	int64		not_before;		/* of the next start */
	int			young_ends;		/* one after the other, so far */
	bool		stopping;		/* SIGTERM was sent */
} LauncherChild;

/* The workers of one entry of de_shared->databases. */
typedef struct LauncherChildren
{
	Oid			dboid;			/* of which this is known */
	LauncherChild relay;
	LauncherChild proxies[DE_MAX_PROXY_WORKERS];
} LauncherChildren;

/* The state of one turn. */
typedef struct LauncherTurn
{
	int64		now;
	bool		catalog_is_fresh;	/* pg_database was read in this turn */
	bool		wants_catalog;	/* a worker is missing: read it, look again */
	bool		slots_are_out;
	bool		misses_relay;	/* a wanted relay is not there, for whatever reason */
	bool		misses_some;	/* a wanted worker is not there, for whatever reason */
	int64		next;			/* when a backoff ends */
} LauncherTurn;

static List *launcher_targets = NIL;	/* of LauncherTarget, in launcher_target_context */
static MemoryContext launcher_target_context = NULL;
static bool launcher_catalog_is_stale = true;
static bool launcher_slots_reported = false;
static LauncherChildren **launcher_children;	/* [max_databases]; NULL until needed */

static void launcher_turn(LauncherTurn *turn);
static bool launcher_read_catalog(void);
static void launcher_judge_target(LauncherTarget *target, LauncherProblem problem);
static void launcher_ensure_entries(int64 now);
static LauncherTarget *launcher_find_target(List *targets, Oid dboid, const char *name);
static void launcher_tend_database(LauncherTurn *turn, int slot, DeWorkerKind kind, int wanted);
static void launcher_tend_child(LauncherTurn *turn, LauncherChild *child, DeWorkerKind kind,
								int index, DeDatabase *db, LauncherTarget *target, bool wanted);
static void launcher_child_ended(LauncherTurn *turn, LauncherChild *child, Oid dboid);
static void launcher_forget_children(LauncherChildren *children);
static void launcher_forget_backoff(void);
static int	launcher_proxies_here(bool in_recovery);
static void launcher_catalog_callback(Datum arg, int cacheid, uint32 hashvalue);

/*
 * Registers the launcher; without effect outside of shared_preload_libraries
 * and under pg_upgrade, whose servers must publish nothing (pitfall 13).
 */
void
de_launcher_register(void)
{
	BackgroundWorker worker;

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	de_worker_describe(&worker, DE_WORKER_LAUNCHER, InvalidOid, NULL, 0);
	RegisterBackgroundWorker(&worker);
}

/*
 * Entry point of the launcher.
 */
void
de_launcher_main(Datum main_arg)
{
	WaitEventSet *set;

	de_worker_begin(DE_WORKER_LAUNCHER, main_arg);
	launcher_children = MemoryContextAllocZero(de_worker->context,
											   mul_size(sizeof(LauncherChildren *),
														de_shared->max_databases));
	CacheRegisterSyscacheCallback(DATABASEOID, launcher_catalog_callback, (Datum) 0);
	set = de_worker_create_wait_set(0, NULL);

	while (!de_worker_stopping())
	{
		LauncherTurn turn = {0};

		turn.now = de_monotonic_ms();
		turn.next = turn.now + DE_MAX_WAIT_MS;
		launcher_turn(&turn);
		if (de_worker_wait(set, turn.next - turn.now, "supervising workers"))
		{
			/* what could not run may be able to with the new settings */
			launcher_forget_backoff();
			launcher_catalog_is_stale = true;
		}
	}

	/* the children get their own SIGTERM at a shutdown, and a successor otherwise */
	proc_exit(1);
}

/*
 * Compares what should run with what runs, and acts on the difference.
 */
static void
launcher_turn(LauncherTurn *turn)
{
	if (launcher_catalog_is_stale)
		turn->catalog_is_fresh = launcher_read_catalog();

	for (;;)
	{
		bool		in_recovery = RecoveryInProgress();
		int			relays = de_relay && !in_recovery ? 1 : 0;
		int			proxies = launcher_proxies_here(in_recovery);

		if (relays + proxies > 0)
			launcher_ensure_entries(turn->now);
		turn->wants_catalog = false;
		turn->misses_relay = false;
		turn->misses_some = false;

		/* the relays of all databases before any proxy: background worker slots may run out */
		for (int slot = 0; slot < de_shared->max_databases; slot++)
			launcher_tend_database(turn, slot, DE_WORKER_RELAY, relays);
		for (int slot = 0; slot < de_shared->max_databases; slot++)
			launcher_tend_database(turn, slot, DE_WORKER_PROXY, proxies);

		if (!turn->wants_catalog || turn->catalog_is_fresh)
			break;
		turn->catalog_is_fresh = launcher_read_catalog();
		if (!turn->catalog_is_fresh)
			break;
	}

	/* told once, not with every try */
	if (turn->slots_are_out && !launcher_slots_reported)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start all workers of durable_event: out of background worker slots"),
				 errhint("You might need to increase max_worker_processes.")));
	else if (!turn->misses_some && launcher_slots_reported)
		ereport(LOG,
				(errmsg("durable_event has enough background worker slots again")));
	launcher_slots_reported = turn->misses_some &&
		(turn->slots_are_out || launcher_slots_reported);
}

/*
 * Makes the targets anew from durable_event.databases and pg_database, and
 * reports what changed.  False if pg_database is locked: then next turn.
 */
static bool
launcher_read_catalog(void)
{
	MemoryContext context;
	List	   *targets = NIL;
	List	   *names;
	ListCell   *cell;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	/*
	 * Whatever changes from now on sets it again.  Read in a context of its
	 * own, which takes the former one's place when it is complete.
	 */
	launcher_catalog_is_stale = false;
	context = AllocSetContextCreate(de_worker->context, "durable_event launcher targets",
									ALLOCSET_DEFAULT_SIZES);

	de_worker_start_transaction("reading pg_database");

	/* waiting behind VACUUM FULL would keep us from answering SIGTERM */
	if (!ConditionalLockRelationOid(DatabaseRelationId, AccessShareLock))
	{
		de_worker_commit_transaction();
		MemoryContextDelete(context);
		launcher_catalog_is_stale = true;
		return false;
	}

	MemoryContextSwitchTo(context);
	names = de_listed_databases();
	foreach(cell, names)
	{
		LauncherTarget *target;
		LauncherTarget *former;

		if (launcher_find_target(targets, InvalidOid, lfirst(cell)) != NULL)
			continue;			/* listed twice */
		target = palloc0(sizeof(LauncherTarget));
		target->name = lfirst(cell);
		former = launcher_find_target(launcher_targets, InvalidOid, target->name);
		if (former != NULL)
			target->problem = former->problem;
		targets = lappend(targets, target);
	}

	rel = table_open(DatabaseRelationId, NoLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		LauncherTarget *target = launcher_find_target(targets, InvalidOid, NameStr(form->datname));

		if (target == NULL)
			continue;
		target->exists = true;
		if (form->datconnlimit == LAUNCHER_INVALID_DATABASE)
			launcher_judge_target(target, LAUNCHER_INVALID);
		else if (!form->datallowconn)
			launcher_judge_target(target, LAUNCHER_NO_CONNECTIONS);
		else
		{
			target->dboid = form->oid;
			if (target->problem != LAUNCHER_NO_ENTRY)
				launcher_judge_target(target, LAUNCHER_OK);
		}
	}
	table_endscan(scan);
	table_close(rel, NoLock);
	de_worker_commit_transaction(); /* releases the lock */

	foreach(cell, targets)
	{
		LauncherTarget *target = lfirst(cell);

		if (!target->exists)
			launcher_judge_target(target, LAUNCHER_MISSING);
	}

	if (launcher_target_context != NULL)
		MemoryContextDelete(launcher_target_context);
	launcher_target_context = context;
	launcher_targets = targets;
	return true;
}

/*
 * Notes and logs that a listed database cannot be served, or can be again;
 * nothing when that is known.
 */
static void
launcher_judge_target(LauncherTarget *target, LauncherProblem problem)
{
	if (target->problem == problem)
		return;
	target->problem = problem;
	switch (problem)
	{
		case LAUNCHER_OK:
			ereport(LOG,
					(errmsg("database \"%s\" can be served by durable_event now", target->name)));
			break;
		case LAUNCHER_MISSING:
			ereport(WARNING,
					(errcode(ERRCODE_UNDEFINED_DATABASE),
					 errmsg("database \"%s\" listed in durable_event.databases does not exist",
							target->name),
					 errhint("Its workers start when it is created.")));
			break;
		case LAUNCHER_NO_CONNECTIONS:
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("database \"%s\" listed in durable_event.databases does not allow connections",
							target->name),
					 errhint("Use ALTER DATABASE ... ALLOW_CONNECTIONS, or remove it from durable_event.databases.")));
			break;
		case LAUNCHER_INVALID:
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("database \"%s\" listed in durable_event.databases is invalid",
							target->name),
					 errhint("Use DROP DATABASE to drop invalid databases.")));
			break;
		case LAUNCHER_NO_ENTRY:
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("database \"%s\" listed in durable_event.databases has no place in shared memory",
							target->name),
					 errhint("You might need to increase durable_event.max_databases.")));
			break;
	}
}

/*
 * Sees to it that every target has its entry in shared memory.
 */
static void
launcher_ensure_entries(int64 now)
{
	List	   *listed = NIL;
	ListCell   *cell;

	foreach(cell, launcher_targets)
		listed = lappend_oid(listed, ((LauncherTarget *) lfirst(cell))->dboid);
	foreach(cell, launcher_targets)
	{
		LauncherTarget *target = lfirst(cell);
		bool		done = true;

		if (!OidIsValid(target->dboid))
			continue;
		if (de_database_find(target->dboid) == NULL)
		{
			if (target->retry_at > now)
				continue;
			done = de_database_reserve(target->dboid, listed);
		}
		target->retry_at = done ? 0 : now + LAUNCHER_ENTRY_RETRY_MS;
		launcher_judge_target(target, done ? LAUNCHER_OK : LAUNCHER_NO_ENTRY);
	}
	list_free(listed);
}

/*
 * The target of that database, or of that name (if not NULL); NULL when there is none.
 */
static LauncherTarget *
launcher_find_target(List *targets, Oid dboid, const char *name)
{
	ListCell   *cell;

	foreach(cell, targets)
	{
		LauncherTarget *target = lfirst(cell);

		if (name != NULL ? strcmp(target->name, name) == 0 : target->dboid == dboid)
			return target;
	}
	return NULL;
}

/*
 * Looks at all workers of one kind of one entry in shared memory, also of
 * databases that are not listed any more.
 */
static void
launcher_tend_database(LauncherTurn *turn, int slot, DeWorkerKind kind, int wanted)
{
	DeDatabase *db = &de_shared->databases[slot];
	LauncherChildren *children = launcher_children[slot];
	Oid			dboid = db->dboid;
	LauncherTarget *target;

	/* the entry went to another database: so did the processes that were its workers */
	if (children != NULL && children->dboid != dboid)
		launcher_forget_children(children);
	if (!OidIsValid(dboid))
		return;
	if (children == NULL)
	{
		children = MemoryContextAllocZero(de_worker->context, sizeof(LauncherChildren));
		launcher_children[slot] = children;
	}
	children->dboid = dboid;

	target = launcher_find_target(launcher_targets, dboid, NULL);
	if (kind == DE_WORKER_RELAY)
		launcher_tend_child(turn, &children->relay, DE_WORKER_RELAY, 0, db, target,
							target != NULL && wanted > 0);
	else
	{
		for (int i = 0; i < DE_MAX_PROXY_WORKERS; i++)
			launcher_tend_child(turn, &children->proxies[i], DE_WORKER_PROXY, i, db, target,
								target != NULL && i < wanted);
	}
}

/*
 * Starts the worker if it is wanted and not there, stops it if it is there
 * and not wanted.
 */
static void
launcher_tend_child(LauncherTurn *turn, LauncherChild *child, DeWorkerKind kind, int index,
					DeDatabase *db, LauncherTarget *target, bool wanted)
{
	DeWorkerCell *cell = kind == DE_WORKER_RELAY ? &db->relay : &db->proxies[index];
	pid_t		pid = (pid_t) pg_atomic_read_u32(&cell->pid);
	pid_t		unused;
	bool		alive = pid != 0;

	/* our child may be on its way to its cell, or on its way out after giving it up */
	if (child->handle != NULL)
	{
		if (GetBackgroundWorkerPid(child->handle, &unused) == BGWH_STOPPED)
			launcher_child_ended(turn, child, db->dboid);
		else
			alive = true;
	}
	if (!alive)
		child->stopping = false;

	if (alive && !wanted && !child->stopping)
	{
		if (child->handle != NULL)
			TerminateBackgroundWorker(child->handle);
		else
			kill(pid, SIGTERM); /* started by a former launcher */
		child->stopping = true;
	}
	else if (!alive && wanted)
	{
		turn->misses_some = true;
		if (kind == DE_WORKER_RELAY)
			turn->misses_relay = true;
		if (turn->slots_are_out)
			return;

		/* while slots are short, one that is freed is kept for a relay that waits to start */
		if (kind == DE_WORKER_PROXY && turn->misses_relay && launcher_slots_reported)
			return;
		if (child->not_before > turn->now)
			turn->next = Min(turn->next, child->not_before);
		else if (de_database_is_held(db->dboid))
			child->young_ends = 0;	/* whoever holds it will wake us */
		else if (!turn->catalog_is_fresh)
			turn->wants_catalog = true;
		else
		{
			MemoryContext oldcontext = MemoryContextSwitchTo(de_worker->context);

			child->handle = de_worker_launch(kind, db->dboid, target->name, index);
			child->started_at = turn->now;
			turn->slots_are_out = child->handle == NULL;
			MemoryContextSwitchTo(oldcontext);
		}
	}
}

/*
 * Notes that a child of ours ended, and when the next may start: at once if it
 * had a long life or was sent away, else later and later, so that a worker that
 * cannot run fills neither the processor nor the log.
 */
static void
launcher_child_ended(LauncherTurn *turn, LauncherChild *child, Oid dboid)
{
	if (child->stopping || turn->now - child->started_at >= LAUNCHER_YOUNG_MS ||
		de_database_is_held(dboid))
	{
		child->young_ends = 0;
		child->not_before = turn->now;
	}
	else
	{
		/* from the upper half: a worker that cannot run must not come back at once */
		double		random = 0.5 + pg_prng_double(&pg_global_prng_state) / 2;

		child->not_before = turn->now;
		child->not_before += de_backoff_ms(++child->young_ends, LAUNCHER_BACKOFF_MIN_MS,
										   LAUNCHER_BACKOFF_MAX_MS, random);
	}
	child->stopping = false;
	pfree(child->handle);
	child->handle = NULL;
}

/*
 * Forgets the workers of a database that lost its entry.
 */
static void
launcher_forget_children(LauncherChildren *children)
{
	if (children->relay.handle != NULL)
		pfree(children->relay.handle);
	for (int i = 0; i < DE_MAX_PROXY_WORKERS; i++)
	{
		if (children->proxies[i].handle != NULL)
			pfree(children->proxies[i].handle);
	}
	memset(children, 0, sizeof(LauncherChildren));
}

/*
 * Lets every worker that waits for its next start begin at once.
 */
static void
launcher_forget_backoff(void)
{
	for (int slot = 0; slot < de_shared->max_databases; slot++)
	{
		LauncherChildren *children = launcher_children[slot];

		if (children == NULL)
			continue;
		children->relay.not_before = 0;
		children->relay.young_ends = 0;
		for (int i = 0; i < DE_MAX_PROXY_WORKERS; i++)
		{
			children->proxies[i].not_before = 0;
			children->proxies[i].young_ends = 0;
		}
	}
}

/*
 * How many proxies each listed database has on this server now.
 */
static int
launcher_proxies_here(bool in_recovery)
{
	switch ((DeProxyWhere) de_proxy)
	{
		case DE_PROXY_OFF:
			return 0;
		case DE_PROXY_PRIMARY:
			return in_recovery ? 0 : de_proxy_workers;
		case DE_PROXY_STANDBY:
			return in_recovery ? de_proxy_workers : 0;
		case DE_PROXY_ANY:
			return de_proxy_workers;
	}
	return 0;
}

/*
 * Invalidation callback: some database was created, altered or dropped.
 */
static void
launcher_catalog_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	launcher_catalog_is_stale = true;
}
