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
	HTAB	   *by_name;
	DeTopic   **numbered;
	uint32		n;
	uint32		max;			/* allocated in numbered */
	uint32		generation;		/* upper half of tokens; grows with each reload or restart */
	int			pending;		/* topics that are not READY */
	int			asked;			/* of those, ASKED */
	char		cluster[DE_KAFKA_CLUSTER_SIZE];	/* that they are of; empty = none yet */
	int			comparing;		/* topics to be compared, and answers about that due */
};

#endif							/* DE_TOPIC_INTERNAL_H */
