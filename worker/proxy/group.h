/*-------------------------------------------------------------------------
 *
 * group.h
 *		One consumer group as this worker runs it: its member, its
 *		partitions, its figures.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_GROUP_H
#define DE_GROUP_H

#include "extension/base/shmem.h"
#include "worker/proxy/partition.h"

typedef enum DeGroupPhase
{
	DE_GROUP_PHASE_WAITING,		/* no member; one is made when the timer is due */
	DE_GROUP_PHASE_MEMBER,
	DE_GROUP_PHASE_CLOSING,		/* leaves its Kafka group */
	DE_GROUP_PHASE_GONE			/* stopped: nothing left but to destroy it */
} DeGroupPhase;

/* What happens before partitions go. */
typedef enum DeGroupDrain
{
	DE_GROUP_NOT_DRAINING,
	DE_GROUP_AWAITING_ANSWERS,
	DE_GROUP_AWAITING_COMMITS
} DeGroupDrain;

struct DeGroup
{
	dlist_node	node;			/* in the proxy's list */
	DeProxy    *proxy;
	MemoryContext context;		/* of the struct */
	MemoryContext definition_context;
	const DeGroupDefinition *definition;
	DeGroupStatus *status;		/* in shared memory; NULL = none to be had yet */

	DeGroupPhase phase;
	bool		wanted;			/* is started (again) once it is not running */
	DeTimer		timer;			/* start, end of a wait, or the next tick */
	int			failed_starts;	/* in a row */
	bool		start_logged;	/* the failure of them */

	DeConsumer *consumer;
	bool		assigned;		/* since the last REVOKE, if of no partitions */
	bool		disconnected;
	int64		probe_at;		/* when to find out if that is still so */
	DePartition **partitions;	/* as the consumer's; NULL = none */
	int			npartitions;
	Size		memory_used;	/* by request bodies */

	DeGroupDrain drain;
	bool		revoking;		/* drains for Kafka */
	bool		stopping;		/* drains because we want to leave */

	/* Handler */
	bool		failing;
	bool		failure_logged;
	int64		failure_logged_at;	/* 0 = never */

	/* Figures since the start, published with each tick */
	DeGroupState reported_state;
	int64		events_delivered;
	int64		requests;
	int64		failures;
	TimestampTz last_delivered_at;
};

/* A group that joins as soon as it may. */
extern DeGroup *de_group_create(DeProxy *proxy, const DeGroupDefinition *definition);

/* Takes a changed definition, or revives a group that was to be stopped. */
extern void de_group_redefine(DeGroup *group, const DeGroupDefinition *definition);

/* Leaves Kafka's group in good order and joins anew (settings of the handle changed). */
extern void de_group_restart(DeGroup *group);

/* Leaves in good order; the group is done when its phase is GONE. */
extern void de_group_stop(DeGroup *group);

/* Does what there is to do; to be called when the member's descriptor was readable. */
extern void de_group_run(DeGroup *group);

/* Frees the group at once: no commit, no good-bye.  Never blocks. */
extern void de_group_destroy(DeGroup *group);

/* ---- between group.c and group_status.c ---- */

/* Between the attempts to find out whether Kafka is back. */
#define DE_GROUP_PROBE_INTERVAL_MS 2000

extern void de_group_continue_drain(DeGroup *group, bool timed_out);
extern void de_group_set_disconnected(DeGroup *group, bool disconnected, const char *reason);
extern void de_group_publish_state(DeGroup *group);
extern void de_group_publish_figures(DeGroup *group);

#endif							/* DE_GROUP_H */
