/*-------------------------------------------------------------------------
 *
 * shmem.c
 *		Shared memory: its allocation, the entries of databases and groups,
 *		reports of workers about themselves.
 *
 * See shmem.h for the locking.  After a crash of any backend the postmaster
 * makes this memory anew; whatever it held is derived again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "extension/base/compat.h"
#include "extension/base/shmem.h"

#define DE_TRANCHE "durable_event"

DeShared   *de_shared = NULL;

/* the entry of this backend's database; NULL = not asked for yet */
static DeDatabase *own_database = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void shmem_request(void);
static void shmem_startup(void);
static Size shmem_size(void);
static void database_init(DeDatabase *db, Oid dboid);
static int	databases_reserved(Oid dboid);
static DeDatabase *database_allocate(Oid dboid, int reserved, bool own);
static void database_forget(int code, Datum arg);
static bool database_is_used(DeDatabase *db);
static bool database_free(DeDatabase *db, Oid dboid);
static bool databases_reclaim(void);
static void last_error_fill(DeLastError *error, const char *text);

/*
 * Installs the hooks that size and make our shared memory; from _PG_init.
 */
void
de_shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

/*
 * Throws unless the library was preloaded.
 */
void
de_shmem_require(void)
{
	if (de_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("durable_event must be loaded via shared_preload_libraries"),
				 errhint("Add durable_event to shared_preload_libraries in postgresql.conf and restart the server.")));
}

/*
 * Bytes of all that stands in our one shared structure.
 */
static Size
shmem_size(void)
{
	Size		size = CACHELINEALIGN(sizeof(DeShared));

	size = add_size(size, CACHELINEALIGN(mul_size(de_max_databases, sizeof(DeDatabase))));
	size = add_size(size, CACHELINEALIGN(mul_size(de_max_groups, sizeof(DeGroupStatus))));
	size = add_size(size, mul_size(DE_MAX_PROC_NUMBER, sizeof(DeBackendCell)));
	return size;
}

/*
 * Hook: asks for memory and the lock (MaxBackends is final by now).
 */
static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(shmem_size());
	RequestNamedLWLockTranche(DE_TRANCHE, 1);
}

/*
 * Hook: makes the structure, or attaches to it.
 */
static void
shmem_startup(void)
{
	bool		found;
	char	   *p;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	de_shared = NULL;			/* in case this is a restart within the postmaster */
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	p = ShmemInitStruct("durable_event", shmem_size(), &found);
	de_shared = (DeShared *) p;
	if (!found)
	{
		memset(p, 0, shmem_size());
		de_shared->lock = &(GetNamedLWLockTranche(DE_TRANCHE))->lock;
		pg_atomic_init_u32(&de_shared->launcher.pid, 0);
		pg_atomic_init_u32(&de_shared->launcher.procno, 0);
		de_shared->max_databases = de_max_databases;
		de_shared->max_groups = de_max_groups;
		p += CACHELINEALIGN(sizeof(DeShared));
		de_shared->databases = (DeDatabase *) p;
		p += CACHELINEALIGN(mul_size(de_max_databases, sizeof(DeDatabase)));
		de_shared->groups = (DeGroupStatus *) p;
		p += CACHELINEALIGN(mul_size(de_max_groups, sizeof(DeGroupStatus)));
		de_shared->backends = (DeBackendCell *) p;

		for (int i = 0; i < de_max_databases; i++)
			database_init(&de_shared->databases[i], InvalidOid);
		for (int i = 0; i < de_max_groups; i++)
			SpinLockInit(&de_shared->groups[i].mutex);
		for (int i = 0; i < DE_MAX_PROC_NUMBER; i++)
		{
			pg_atomic_init_u64(&de_shared->backends[i].c.bound, DE_NOT_IN_FLIGHT);
			pg_atomic_init_u32(&de_shared->backends[i].c.dboid, InvalidOid);
			pg_atomic_init_u64(&de_shared->backends[i].c.since, 0);
			pg_atomic_init_u32(&de_shared->backends[i].c.held_dboid, InvalidOid);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * Brings an entry to its first state; nobody else may be using it.
 */
static void
database_init(DeDatabase *db, Oid dboid)
{
	memset(db, 0, sizeof(DeDatabase));
	pg_atomic_init_u32(&db->ids_ready, 0);
	pg_atomic_init_u32(&db->current_segment, 0);
	pg_atomic_init_u64(&db->current_since, 0);
	pg_atomic_init_u64(&db->last_drawn, 0);
	pg_atomic_init_u64(&db->start_id, 0);
	pg_atomic_init_u64(&db->commit_lsn, InvalidXLogRecPtr);
	pg_atomic_init_u32(&db->relay_asleep, 0);
	pg_atomic_init_u64(&db->acked_id, 0);
	pg_atomic_init_u64(&db->read_id, 0);
	pg_atomic_init_u64(&db->stored_id, 0);
	pg_atomic_init_u32(&db->locked_segments, 0);
	pg_atomic_init_u64(&db->room_at, 0);
	pg_atomic_init_u64(&db->outbox_target, 0);
	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		pg_atomic_init_u64(&db->segment_bytes[i], 0);
		pg_atomic_init_u64(&db->segment_last[i], PG_INT64_MAX);
	}
	pg_atomic_init_u32(&db->flush_waiters, 0);
	ConditionVariableInit(&db->acked_cv);
	pg_atomic_init_u64(&db->events_acked, 0);
	pg_atomic_init_u64(&db->bytes_acked, 0);
	pg_atomic_init_u64(&db->produce_errors, 0);
	pg_atomic_init_u32(&db->relay.pid, 0);
	pg_atomic_init_u32(&db->relay.procno, 0);
	for (int i = 0; i < DE_MAX_PROXY_WORKERS; i++)
	{
		pg_atomic_init_u32(&db->proxies[i].pid, 0);
		pg_atomic_init_u32(&db->proxies[i].procno, 0);
	}
	SpinLockInit(&db->mutex);
	pg_write_barrier();
	db->dboid = dboid;
}

/*
 * The entry of a database, if it has one.  Without the lock: an entry's dboid
 * is written last when it is made.  Of another database than one's own it may
 * be taken away at any time.
 */
DeDatabase *
de_database_find(Oid dboid)
{
	for (int i = 0; i < de_shared->max_databases; i++)
	{
		if (de_shared->databases[i].dboid == dboid)
		{
			pg_read_barrier();
			return &de_shared->databases[i];
		}
	}
	return NULL;
}

/*
 * The entry of a database, made if need be; see shmem.h.
 */
DeDatabase *
de_database_get(Oid dboid)
{
	bool		own = OidIsValid(MyDatabaseId) && dboid == MyDatabaseId;
	DeDatabase *db;
	int			reserved;

	if (own && own_database != NULL)
		return own_database;
	reserved = databases_reserved(dboid);
	db = database_allocate(dboid, reserved, own);
	if (db == NULL && databases_reclaim())
		db = database_allocate(dboid, reserved, own);
	if (db == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many databases use durable_event"),
				 errhint("You might need to increase durable_event.max_databases.")));
	return db;
}

/*
 * How many free entries must be left to others: none by a listed database, by
 * another one those that listed databases are still to get.  Otherwise any
 * database where somebody creates the extension could keep a listed one from
 * being served.
 */
static int
databases_reserved(Oid dboid)
{
	List	   *names = de_listed_databases();
	int			reserved = 0;
	ListCell   *cell;

	foreach(cell, names)
	{
		Oid			listed = get_database_oid(lfirst(cell), true);

		if (listed == dboid)
		{
			reserved = 0;
			break;
		}
		if (!OidIsValid(listed) || de_database_find(listed) == NULL)
			reserved++;
	}
	list_free_deep(names);
	return reserved;
}

/*
 * Finds the entry, or takes one if more than "reserved" are free; NULL if
 * not.  "own": this backend remembers it.
 */
static DeDatabase *
database_allocate(Oid dboid, int reserved, bool own)
{
	static bool exit_registered = false;
	DeDatabase *db;

	if (own && !exit_registered)
	{
		/* before the callback of horizon.c, so that it runs after that one */
		on_shmem_exit(database_forget, (Datum) 0);
		exit_registered = true;
	}
	LWLockAcquire(de_shared->lock, LW_EXCLUSIVE);
	db = de_database_find(dboid);
	if (db == NULL)
	{
		int			free = 0;

		for (int i = 0; i < de_shared->max_databases; i++)
		{
			if (!OidIsValid(de_shared->databases[i].dboid))
			{
				free++;
				db = &de_shared->databases[i];
			}
		}
		if (free > reserved)
			database_init(db, dboid);
		else
			db = NULL;
	}
	if (db != NULL && own)
	{
		db->users++;
		own_database = db;
	}
	LWLockRelease(de_shared->lock);
	return db;
}

/*
 * on_shmem_exit: this backend remembers its entry no more.
 */
static void
database_forget(int code, Datum arg)
{
	if (own_database == NULL)
		return;
	LWLockAcquire(de_shared->lock, LW_EXCLUSIVE);
	own_database->users--;
	LWLockRelease(de_shared->lock);
	own_database = NULL;
}

/*
 * Is the entry in use, by a backend or by a worker?
 */
static bool
database_is_used(DeDatabase *db)
{
	bool		used = db->users > 0 || pg_atomic_read_u32(&db->relay.pid) != 0;

	for (int i = 0; i < DE_MAX_PROXY_WORKERS && !used; i++)
		used = pg_atomic_read_u32(&db->proxies[i].pid) != 0;
	return used;
}

/*
 * Frees entries that nobody uses, of databases that no longer exist or are not
 * listed; true if there was one.  What is lost is derived again, as after a
 * start.  The catalog is read without our lock (a cache miss takes heavyweight
 * locks).
 */
static bool
databases_reclaim(void)
{
	bool		freed = false;

	for (int i = 0; i < de_shared->max_databases; i++)
	{
		Oid			dboid = de_shared->databases[i].dboid;
		char	   *name;

		if (!OidIsValid(dboid))
			continue;
		name = get_database_name(dboid);
		if (name == NULL || !de_database_is_listed(name))
			freed |= database_free(&de_shared->databases[i], dboid);
	}
	return freed;
}

/*
 * Frees the entry of that database if nobody uses it.
 */
static bool
database_free(DeDatabase *db, Oid dboid)
{
	bool		freed = false;

	LWLockAcquire(de_shared->lock, LW_EXCLUSIVE);
	if (db->dboid == dboid && !database_is_used(db))
	{
		/*
		 * A worker writes its pid first and then looks whose the entry is, with
		 * a barrier between (worker.c).  So do we, the other way round: one of
		 * the two sees the other, or it would go on with another's ids.
		 */
		db->dboid = InvalidOid;
		pg_memory_barrier();
		freed = !database_is_used(db);
		if (!freed)
			db->dboid = dboid;
	}
	LWLockRelease(de_shared->lock);
	return freed;
}

/*
 * Gives a listed database its entry; see shmem.h.
 */
bool
de_database_reserve(Oid dboid, List *listed)
{
	if (database_allocate(dboid, 0, false) != NULL)
		return true;
	for (int i = 0; i < de_shared->max_databases; i++)
	{
		Oid			other = de_shared->databases[i].dboid;

		if (OidIsValid(other) && !list_member_oid(listed, other))
			(void) database_free(&de_shared->databases[i], other);
	}
	return database_allocate(dboid, 0, false) != NULL;
}

/*
 * Sets the latch of a worker.  A cell that was just given up or taken over
 * wakes the wrong process or nobody, which a latch allows.
 */
void
de_worker_cell_wake(DeWorkerCell *cell)
{
	if (pg_atomic_read_u32(&cell->pid) != 0)
		SetLatch(&DE_GET_PROC(pg_atomic_read_u32(&cell->procno))->procLatch);
}

/*
 * Does the DDL of some backend want our workers gone from this database?
 */
bool
de_database_is_held(Oid dboid)
{
	for (int i = 0; i < DE_MAX_PROC_NUMBER; i++)
	{
		if (pg_atomic_read_u32(&de_shared->backends[i].c.held_dboid) == dboid)
			return true;
	}
	return false;
}

/*
 * The relay says what it is doing; the time of the change is kept.
 */
void
de_relay_report_state(DeDatabase *db, DeRelayState state)
{
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&db->mutex);
	if (db->relay_state != state || db->relay_state_since == 0)
	{
		db->relay_state = state;
		db->relay_state_since = now;
	}
	SpinLockRelease(&db->mutex);
}

/*
 * The relay says what went wrong last.
 */
void
de_relay_report_error(DeDatabase *db, const char *text)
{
	DeLastError error;

	last_error_fill(&error, text);
	SpinLockAcquire(&db->mutex);
	db->relay_error = error;
	SpinLockRelease(&db->mutex);
}

/*
 * The relay says what it cannot do in the outbox just now; NULL = all is well.
 */
void
de_relay_report_outbox(DeDatabase *db, const char *text)
{
	DeLastError error = {0};

	if (text != NULL)
		last_error_fill(&error, text);
	SpinLockAcquire(&db->mutex);
	db->outbox_error = error;
	SpinLockRelease(&db->mutex);
}

/*
 * Makes an error of now, cut between characters.  Outside of any spinlock: what
 * looks at characters may take its time, or one day throw.
 */
static void
last_error_fill(DeLastError *error, const char *text)
{
	int			len = pg_mbcliplen(text, strlen(text), DE_ERROR_SIZE - 1);

	memcpy(error->text, text, len);
	error->text[len] = '\0';
	error->at = GetCurrentTimestamp();
}

/*
 * Takes a group entry for this process: the one of that name (left by a crashed proxy),
 * else a free one.  NULL when all are in use.
 */
DeGroupStatus *
de_group_status_claim(Oid dboid, const char *name)
{
	DeGroupStatus *status = NULL;
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(de_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < de_shared->max_groups; i++)
	{
		DeGroupStatus *candidate = &de_shared->groups[i];

		if (candidate->dboid == dboid && strcmp(candidate->name, name) == 0)
		{
			status = candidate;
			break;
		}
		if (status == NULL && !OidIsValid(candidate->dboid))
			status = candidate;
	}
	if (status != NULL)
	{
		SpinLockAcquire(&status->mutex);
		status->pid = MyProcPid;
		status->state = DE_GROUP_STARTING;
		status->state_since = now;
		status->error.at = 0;
		status->error.text[0] = '\0';
		status->partitions = 0;
		status->position = 0;
		status->lag = -1;
		status->in_flight = 0;
		status->oldest_unacked_at = 0;
		status->events_delivered = 0;
		status->requests = 0;
		status->failures = 0;
		status->last_delivered_at = 0;
		strlcpy(status->name, name, DE_GROUP_NAME_SIZE);
		status->dboid = dboid;
		SpinLockRelease(&status->mutex);
	}
	LWLockRelease(de_shared->lock);
	return status;
}

/*
 * Gives a group entry back, unless another process has taken it over.
 */
void
de_group_status_release(DeGroupStatus *status)
{
	LWLockAcquire(de_shared->lock, LW_EXCLUSIVE);
	SpinLockAcquire(&status->mutex);
	if (status->pid == MyProcPid)
	{
		status->dboid = InvalidOid;
		status->pid = 0;
	}
	SpinLockRelease(&status->mutex);
	LWLockRelease(de_shared->lock);
}

/*
 * A proxy says what a group is doing; the time of the change is kept.
 */
void
de_group_report_state(DeGroupStatus *status, DeGroupState state)
{
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&status->mutex);
	if (status->state != state)
	{
		status->state = state;
		status->state_since = now;
	}
	SpinLockRelease(&status->mutex);
}

/*
 * A proxy says what went wrong last with a group.
 */
void
de_group_report_error(DeGroupStatus *status, const char *text)
{
	DeLastError error;

	last_error_fill(&error, text);
	SpinLockAcquire(&status->mutex);
	status->error = error;
	SpinLockRelease(&status->mutex);
}
