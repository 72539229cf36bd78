/*-------------------------------------------------------------------------
 *
 * shmem.h
 *		What backends and workers share: per database the id counter, the
 *		in-flight marks, the relay's and the proxies' state; per group its
 *		figures.
 *
 * Everything here is derived anew after a server start: a crash loses it and
 * nothing depends on that.
 *
 * Locking
 *		Atomics are atomics.  Fields under "mutex" are read and written with
 *		that spinlock held, for a few instructions (no call that can throw or
 *		allocate).  DeShared.lock (LWLock) guards the allocation of database
 *		and group entries.  An entry keeps its database while a worker serves
 *		it or a backend remembers it (users), so a pointer to the entry of
 *		one's own database stays good for the life of a process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_SHMEM_H
#define DE_SHMEM_H

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "extension/base/guc.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#define DE_SEGMENTS 8			/* tables durable_event.outbox_0 .. outbox_7 */
#define DE_ERROR_SIZE 512		/* bytes of a last_error, with its NUL */
#define DE_GROUP_NAME_SIZE 128	/* bytes of a group's name, with its NUL */

typedef enum DeWorkerKind
{
	DE_WORKER_LAUNCHER,
	DE_WORKER_RELAY,
	DE_WORKER_PROXY
} DeWorkerKind;

/* Why the relay is doing what it does; names in stats.c, shown by stat_relay. */
typedef enum DeRelayState
{
	DE_RELAY_STOPPED,			/* no relay process */
	DE_RELAY_STARTING,
	DE_RELAY_NO_EXTENSION,		/* waits for CREATE EXTENSION */
	DE_RELAY_UNCONFIGURED,		/* source or bootstrap_servers unset */
	DE_RELAY_SOURCE_MISMATCH,	/* configured source is not the stored one */
	DE_RELAY_PAUSED,			/* pause_relay() */
	DE_RELAY_CONNECTING,		/* Kafka has not answered since start, or is away */
	DE_RELAY_RUNNING
} DeRelayState;

/* the same for one consumer group on this server; shown by stat_group */
typedef enum DeGroupState
{
	DE_GROUP_STARTING,
	DE_GROUP_JOINING,			/* no assignment yet */
	DE_GROUP_RUNNING,
	DE_GROUP_RETRYING,			/* at least one partition waits to redeliver */
	DE_GROUP_BLOCKED,			/* at least one meets what cannot be delivered; see last_error */
	DE_GROUP_DISCONNECTED,		/* Kafka is away */
	DE_GROUP_INVALID,			/* its definition cannot be run; see last_error */
	DE_GROUP_STOPPING
} DeGroupState;

/* a text and when it was set; under the owner's mutex */
typedef struct DeLastError
{
	TimestampTz at;				/* 0 = never */
	char		text[DE_ERROR_SIZE];
} DeLastError;

/* A worker process of one database: pid 0 = none.  Set and cleared by itself. */
typedef struct DeWorkerCell
{
	pg_atomic_uint32 pid;
	pg_atomic_uint32 procno;	/* valid while pid is not 0 */
} DeWorkerCell;

#define DE_OWN_CACHE_LINE pg_attribute_aligned(PG_CACHE_LINE_SIZE)

/*
 * Fields are grouped by who writes them, each group on cache lines of its own:
 * every commit that publishes writes the second, the relay the third, and
 * either would take the line away from the other.
 */
typedef struct DeDatabase
{
	Oid			dboid;			/* InvalidOid = free; under DeShared.lock */
	int			users;			/* backends that remember the entry; under DeShared.lock */

	/* Seldom written (see horizon.c) */
	pg_atomic_uint32 ids_ready; /* 1 once last_drawn is derived */
	pg_atomic_uint32 current_segment;	/* where publishers insert; moved by the relay */
	pg_atomic_uint64 current_since; /* when it became current: de_monotonic_ms() */
	pg_atomic_uint64 start_id;	/* last_drawn when derived: no event has it */
	pg_atomic_uint64 outbox_target; /* bytes that publishers want it to be below; 0 = none */

	/* Written by each commit that publishes */
	DE_OWN_CACHE_LINE pg_atomic_uint64 last_drawn;	/* the largest id given out */
	pg_atomic_uint64 commit_lsn;	/* largest XactLastCommitEnd of a publisher */

	/* Wake-up: 1 = the relay is about to sleep or sleeps; who resets it to 0 sets the latch */
	DE_OWN_CACHE_LINE pg_atomic_uint32 relay_asleep;

	/* Progress, written by the relay only */
	pg_atomic_uint64 acked_id;	/* every event up to here is acknowledged or gone */
	pg_atomic_uint64 read_id;	/* every event up to here was handed to the producer */
	pg_atomic_uint64 stored_id; /* what a restart would begin after */
	pg_atomic_uint32 locked_segments;	/* bit by number: could be emptied, but somebody uses it */
	pg_atomic_uint64 room_at;	/* when it last could make room: de_monotonic_ms(); 0 = it cannot */

	/* Figures, written by the relay only */
	pg_atomic_uint64 events_acked;
	pg_atomic_uint64 bytes_acked;
	pg_atomic_uint64 produce_errors;

	/* flush() */
	pg_atomic_uint32 flush_waiters; /* backends in flush() */
	ConditionVariable acked_cv; /* broadcast when acked_id moved and somebody waits */

	/* Segments as they were last seen, by the relay or a publisher (segment.c) */
	DE_OWN_CACHE_LINE pg_atomic_uint64 segment_bytes[DE_SEGMENTS];
	pg_atomic_uint64 segment_last[DE_SEGMENTS]; /* largest id; PG_INT64_MAX = not seen yet */

	DE_OWN_CACHE_LINE DeWorkerCell relay;
	DeWorkerCell proxies[DE_MAX_PROXY_WORKERS];

	slock_t		mutex;			/* guards the fields below */
	DeRelayState relay_state;
	TimestampTz relay_state_since;
	DeLastError relay_error;
	DeLastError outbox_error;	/* what the relay cannot do in the outbox just now */
	TimestampTz last_acked_at;
	TimestampTz oldest_unacked_at;	/* created_at of the oldest event in flight; 0 = none */
} DeDatabase;

/* One consumer group run by a proxy of this server.  Written by that proxy only. */
typedef struct DeGroupStatus
{
	slock_t		mutex;			/* guards all below but dboid and name */
	Oid			dboid;			/* InvalidOid = free; under DeShared.lock */
	char		name[DE_GROUP_NAME_SIZE];
	pid_t		pid;
	DeGroupState state;
	TimestampTz state_since;
	DeLastError error;
	int32		partitions;		/* assigned to this member */
	int64		position;		/* sum over them of the next offset to commit */
	int64		lag;			/* events between position and the end; -1 = unknown */
	int64		in_flight;		/* events in requests now */
	TimestampTz oldest_unacked_at;	/* timestamp of the oldest unacknowledged record; 0 = none */
	int64		events_delivered;	/* acknowledged by the handler */
	int64		requests;		/* POSTs finished, whatever the answer */
	int64		failures;		/* of those, not acknowledged */
	TimestampTz last_delivered_at;
} DeGroupStatus;

/* One per process that may run a transaction, indexed by DE_MY_PROC_NUMBER; own cache line. */
typedef union DeBackendCell
{
	struct
	{
		/*
		 * Exclusive lower bound of the ids that this backend's commit under
		 * way has drawn or will draw; DE_NOT_IN_FLIGHT when none is.
		 * Written by its owner only.
		 */
		pg_atomic_uint64 bound;
		pg_atomic_uint32 dboid; /* whose ids; written before bound */
		pg_atomic_uint64 since; /* when bound was set: de_monotonic_ms(); written before it */

		/*
		 * The database that this backend's DDL needs our workers gone from;
		 * InvalidOid when none.  Written by its owner only.
		 */
		pg_atomic_uint32 held_dboid;
	}			c;
	char		pad[PG_CACHE_LINE_SIZE];
} DeBackendCell;

#define DE_NOT_IN_FLIGHT PG_UINT64_MAX

typedef struct DeShared
{
	LWLock	   *lock;			/* allocation of databases and groups */
	DeWorkerCell launcher;
	int			max_databases;
	int			max_groups;
	DeDatabase *databases;		/* [max_databases] */
	DeGroupStatus *groups;		/* [max_groups] */
	DeBackendCell *backends;	/* [DE_MAX_PROC_NUMBER] */
} DeShared;

/* NULL unless the library is in shared_preload_libraries */
extern DeShared *de_shared;

extern void de_shmem_init(void);

/* Throws object_not_in_prerequisite_state with a hint unless preloaded. */
extern void de_shmem_require(void);

/*
 * The entry of a database, allocated at first use; a backend remembers that of
 * its own.  Places are kept for databases that are listed; when none is left,
 * entries of dropped databases, and of unlisted ones that nobody is using, are
 * taken over.  Needs a transaction (it may look at pg_database).  Throws
 * configuration_limit_exceeded when there is no place.
 */
extern DeDatabase *de_database_get(Oid dboid);

/*
 * For the launcher, which can read no catalog by an index: sees to it that a
 * listed database has its entry; "listed" has the OIDs of all of them.  False
 * when there is no place.
 */
extern bool de_database_reserve(Oid dboid, List *listed);

/* The entry if there is one, else NULL.  Never throws, needs no transaction. */
extern DeDatabase *de_database_find(Oid dboid);

/* Sets the latch of the worker in the cell; harmless when it is gone. */
extern void de_worker_cell_wake(DeWorkerCell *cell);

/* Is some backend's DDL waiting for our workers to be out of this database? */
extern bool de_database_is_held(Oid dboid);

/* Relay's report about itself; detail may be NULL (keeps the last error). */
extern void de_relay_report_state(DeDatabase *db, DeRelayState state);
extern void de_relay_report_error(DeDatabase *db, const char *text);
extern void de_relay_report_outbox(DeDatabase *db, const char *text);

/* A free group entry claimed for this process; NULL when max_groups are in use. */
extern DeGroupStatus *de_group_status_claim(Oid dboid, const char *name);
extern void de_group_status_release(DeGroupStatus *status);
extern void de_group_report_state(DeGroupStatus *status, DeGroupState state);
extern void de_group_report_error(DeGroupStatus *status, const char *text);

#endif							/* DE_SHMEM_H */
