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

#include "worker/proxy/partition.h"

/* What the groups of a worker share. */
typedef struct DeGroupPool
{
	DeLoop	   *loop;
	int			ngroups;		/* that this worker has */
	int			ngroups_everywhere; /* that the registry has for all workers */
	int			ndisconnected;	/* groups that have lost Kafka */
	int64		next_join_at;	/* members are made some time apart */
} DeGroupPool;

typedef struct DeGroup DeGroup;

/* A group that joins as soon as it may. */
extern DeGroup *de_group_create(DeGroupPool *pool, const DeGroupDefinition *definition);

extern const char *de_group_name(DeGroup *group);

/* Is it running, or to be started (again)? */
extern bool de_group_wanted(DeGroup *group);

/* Has it stopped?  Nothing is left then but to destroy it. */
extern bool de_group_gone(DeGroup *group);

/* Takes a changed definition, or revives a group that was to be stopped. */
extern void de_group_redefine(DeGroup *group, const DeGroupDefinition *definition);

/* Leaves Kafka's group in good order and joins anew (settings of the handle changed). */
extern void de_group_restart(DeGroup *group);

/* What blocks a partition may have been taken away by a changed setting: reads it again. */
extern void de_group_retry_blocked(DeGroup *group);

/* Leaves in good order; see de_group_gone(). */
extern void de_group_stop(DeGroup *group);

/* Does what there is to do; to be called when the member's descriptor was readable. */
extern void de_group_run(DeGroup *group);

/* A request of one of its partitions is finished; partitions may be gone afterwards. */
extern void de_group_answered(DeGroup *group, DePartition *partition,
							  const DePartitionAnswer *answer);

/* Frees the group at once: no commit, no good-bye.  Never blocks. */
extern void de_group_destroy(DeGroup *group);

#endif							/* DE_GROUP_H */
