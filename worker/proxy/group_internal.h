/*-------------------------------------------------------------------------
 *
 * group_internal.h
 *		What the group*.c files share.  group.c (membership) calls the others:
 *		group_drain.c (giving partitions back), group_commit.c, group_status.c
 *		(what a group tells); none of them calls it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_GROUP_INTERNAL_H
#define DE_GROUP_INTERNAL_H

#include "extension/base/shmem.h"
#include "worker/proxy/group.h"

/* Between the attempts to find out whether Kafka is back. */
#define DE_GROUP_PROBE_INTERVAL_MS 2000

typedef enum GroupPhase
{
	GROUP_WAITING,				/* no member; one is made when the timer is due */
	GROUP_MEMBER,
	GROUP_CLOSING,				/* leaves its Kafka group */
	GROUP_GONE					/* stopped: nothing left but to destroy it */
} GroupPhase;

/* What happens before partitions go. */
typedef enum GroupDrain
{
	GROUP_NOT_DRAINING,
	GROUP_AWAITING_ANSWERS,
	GROUP_AWAITING_COMMITS
} GroupDrain;

/* What it has done since its start, published with each tick. */
typedef struct GroupFigures
{
	int64		events_delivered;
	int64		requests;
	int64		failures;
	TimestampTz last_delivered_at;
} GroupFigures;

struct DeGroup
{
	DeGroupPool *pool;
	MemoryContext context;		/* of the struct */
	MemoryContext definition_context;
	const DeGroupDefinition *definition;

	/* Membership */
	GroupPhase	phase;
	bool		wanted;			/* is started (again) once it is not running */
	DeTimer		timer;			/* start, end of a wait, or the next tick */
	int			failed_starts;	/* in a row */
	bool		start_logged;	/* the failure of them */
	DeConsumer *consumer;
	bool		assigned;		/* since the last REVOKE, if of no partitions */
	DePartition **partitions;	/* as the consumer's sources; NULL = none */
	int			npartitions;
	DeBudgetShare share;		/* of the memory for request bodies */

	/* Giving back */
	GroupDrain	drain;
	bool		revoking;		/* drains for Kafka */
	bool		stopping;		/* drains because we want to leave */

	/* What it tells */
	DeGroupStatus *status;		/* in shared memory; NULL = none to be had yet */
	DeGroupState reported_state;
	GroupFigures figures;
	bool		disconnected;
	int64		probe_at;		/* when to find out if that is still so */
	bool		failing;		/* its handler */
	bool		failure_logged;
	int64		failure_logged_at;	/* 0 = never */
	bool		blocked_shown;	/* last_error says what blocks a partition */
};

/* ---- group_drain.c ---- */

typedef enum DeGroupDrainEvent
{
	DE_DRAIN_BEGUN,
	DE_DRAIN_ANSWER,			/* a request is finished */
	DE_DRAIN_COMMITTED,			/* the result of a commit */
	DE_DRAIN_TIMEOUT			/* the timer has expired */
} DeGroupDrainEvent;

extern void de_group_begin_drain(DeGroup *group);

/* Goes on; true when there is nothing left to wait for, or no time: the partitions may go. */
extern bool de_group_drained(DeGroup *group, DeGroupDrainEvent event);

/* ---- group_commit.c ---- */

extern void de_group_commit(DeGroup *group, DeCommitMode mode);
extern void de_group_note_committed(DeGroup *group, const DeConsumerEvent *event);
extern bool de_group_committing(DeGroup *group);

/* Each second: commits what has moved; what has not, too, if that may tell that Kafka is back. */
extern void de_group_commit_regularly(DeGroup *group);

/* ---- group_status.c ---- */

extern void de_group_set_disconnected(DeGroup *group, bool disconnected, const char *reason);
extern void de_group_note_answer(DeGroup *group, const DePartitionAnswer *answer);

/* To be called when a partition has run. */
extern void de_group_note_blocked(DeGroup *group, DePartition *partition);

/* One that takes nothing any more; NULL = none. */
extern DePartition *de_group_blocked_partition(DeGroup *group);
extern void de_group_publish_state(DeGroup *group);
extern void de_group_publish_figures(DeGroup *group);

#endif							/* DE_GROUP_INTERNAL_H */
