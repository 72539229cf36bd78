/*-------------------------------------------------------------------------
 *
 * definition.h
 *		How one consumer group is to be run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_DEFINITION_H
#define DE_DEFINITION_H

#include "worker/delivery/request.h"

/* One row of durable_event.consumer_group, ready to use; all memory is the registry's. */
typedef struct DeGroupDefinition
{
	const char *name;			/* in the server's encoding */
	const char *name_utf8;		/* as handlers and Kafka see it */
	const char *invalid;		/* why it cannot be run; NULL = it can */
	const char *const *topics;	/* sorted, each once */
	int			ntopics;
	const char *handler_url;
	const char *const *handler_headers; /* "name: value" */
	int			nhandler_headers;
	DeDeliveryMode mode;
	int			batch_max_events;	/* 1 in mode single */
	int			batch_max_bytes;
	int			linger_ms;
	int			timeout_ms;
	int64		backoff_min_ms;
	int64		backoff_max_ms;
	bool		from_latest;
	int64		created_at_ms;	/* unix: where "latest" begins */
} DeGroupDefinition;

/* A copy in the current context, since a registry is replaced as a whole. */
extern DeGroupDefinition *de_definition_copy(const DeGroupDefinition *definition);

/* Can what runs with the old definition go on with the new one as it is? */
extern bool de_definition_fits(const DeGroupDefinition *old, const DeGroupDefinition *new);
extern bool de_definition_same_topics(const DeGroupDefinition *a, const DeGroupDefinition *b);
extern bool de_definition_equal(const DeGroupDefinition *a, const DeGroupDefinition *b);

#endif							/* DE_DEFINITION_H */
