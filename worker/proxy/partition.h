/*-------------------------------------------------------------------------
 *
 * partition.h
 *		One assigned partition of a consumer group: batches its records,
 *		has them delivered, knows what may be committed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_PARTITION_H
#define DE_PARTITION_H

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "extension/base/clock.h"
#include "worker/base/timer.h"
#include "worker/delivery/request.h"
#include "worker/http/http.h"
#include "worker/kafka/consumer.h"
#include "worker/proxy/registry.h"
#include "worker/proxy/tracker.h"

/* What all groups of a proxy worker share. */
typedef struct DeProxy
{
	DeHttp	   *http;
	int			epoll_fd;		/* of the members' descriptors, with the DeGroup as data */
	pairingheap *timers;		/* of DeTimer */
	int64		now;			/* de_monotonic_ms() of this turn of the loop */
	int			ngroups;		/* that it has */
	int			ngroups_everywhere; /* that the registry has for all workers */
	int			ndisconnected;	/* groups that have lost Kafka */
	int64		next_join_at;	/* members are made some time apart */
	Size		memory_used;	/* bytes of request bodies */
	Size		memory_limit;
	bool		memory_freed;	/* since the starved were served */
	dlist_head	starved;		/* of DePartition: wait for memory, longest first */
} DeProxy;

typedef enum DePartitionState
{
	DE_PARTITION_IDLE,			/* no body */
	DE_PARTITION_STARVED,		/* no body, and no memory for one */
	DE_PARTITION_FILLING,		/* body grows until full or linger is over */
	DE_PARTITION_SENDING,		/* request under way */
	DE_PARTITION_BACKOFF,		/* waits to send the same body again */
	DE_PARTITION_QUIET			/* about to go: takes and sends nothing any more */
} DePartitionState;

typedef struct DePartition DePartition;
typedef struct DeGroup DeGroup;

struct DePartition
{
	DeProxy    *proxy;
	DeGroup    *group;
	Size	   *group_memory;	/* bytes of request bodies of the group */
	const DeGroupDefinition *definition;	/* of the group; exchanged by it in place */
	DeSource *source;
	int32		generation;		/* of the assignment: the fencing token */
	MemoryContext context;		/* of the struct */
	MemoryContext body_context; /* of body and offsets */

	DePartitionState state;
	DeTracker  *tracker;
	DeTimer		timer;			/* end of linger or of backoff */
	dlist_node	starved_node;	/* in state STARVED */

	/* The body, unless IDLE or STARVED */
	DeRequest body;
	bool		has_body;
	Size		charged;		/* of proxy->memory_used and *group_memory */
	int64	   *offsets;		/* [body.nevents] */
	int			max_offsets;
	TimestampTz oldest;			/* of its first record; 0 = unknown */
	int64		sent_at;		/* first attempt with this or the last body; 0 = none yet */
	int			attempt;		/* of the request under way or the last one */
	DeHttpRequest *request;		/* in state SENDING, or QUIET with an answer to come */

	/* Commits; offsets of the next record wanted, -1 = none yet */
	int64		committed;		/* confirmed by the broker in this assignment */
	int64		committing;		/* in a request under way */
};

extern DePartition *de_partition_create(DeProxy *proxy, DeGroup *group, Size *group_memory,
										const DeGroupDefinition *definition,
										DeSource *source, int32 generation);

/*
 * Forgets the partition.  A request under way is given up: its outcome
 * stays unknown, so its events come again to whoever owns the partition next.
 * Does not touch "source", which may be gone already.
 */
extern void de_partition_destroy(DePartition *partition);

/* Takes records if it can; to be called when the group's descriptor was readable. */
extern void de_partition_run(DePartition *partition);

/* The group's definition has changed in place: holds from the next request on. */
extern void de_partition_redefine(DePartition *partition, const DeGroupDefinition *definition);

/* Stops taking and sending; what is under way may still be answered. */
extern void de_partition_quiesce(DePartition *partition);

/* Is there an answer to wait for? */
extern bool de_partition_busy(DePartition *partition);

/* A request of the partition is finished.  Called by the proxy. */
extern void de_partition_finished(DePartition *partition);

/* The offset that may be committed now, -1 = none. */
extern int64 de_partition_position(DePartition *partition);

/* Serves the partitions that wait for memory, the longest first. */
extern void de_partition_feed_starved(DeProxy *proxy);

/* Implemented by group.c: what became of a request of one of its partitions. */
extern void de_group_note_delivered(DeGroup *group, int nevents);
extern void de_group_note_failed(DeGroup *group, const char *reason);

#endif							/* DE_PARTITION_H */
