/*-------------------------------------------------------------------------
 *
 * topic_internal.h
 *		What topic.c and topic_create.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_TOPIC_INTERNAL_H
#define DE_TOPIC_INTERNAL_H

#include "utils/hsearch.h"

#include "worker/relay/topic.h"

struct DeTopics
{
	MemoryContext parent;
	MemoryContext context;		/* of all below; replaced by a reload */
	HTAB	   *types;
	struct TopicType *last;		/* that was asked for: the next event's is mostly the same */
	HTAB	   *by_name;
	DeTopic   **numbered;
	uint32		n;
	uint32		max;			/* allocated in numbered */
	uint32		generation;		/* upper half of tokens; grows with each reload or restart */
	int			pending;		/* topics that are not READY */
	int			asked;			/* of those, ASKED */
	char		cluster[DE_KAFKA_CLUSTER_SIZE];	/* that they are of; empty = none yet */
	int			comparisons[DE_COMPARISON_ASKED + 1];	/* topics in each state but NONE */
	int64		compare_at;		/* not before, de_monotonic_ms() */
};

/* Says what becomes of a topic's comparison. */
extern void de_topic_set_comparison(DeTopics *topics, DeTopic *topic, DeTopicComparison to);

#endif							/* DE_TOPIC_INTERNAL_H */
