/*-------------------------------------------------------------------------
 *
 * registry.h
 *		Which consumer groups a proxy worker has to run, and how.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_REGISTRY_H
#define DE_REGISTRY_H

#include "nodes/pg_list.h"
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
} DeGroupDefinition;

typedef enum DeRegistryState
{
	DE_REGISTRY_NO_EXTENSION,	/* not (or no longer) there */
	DE_REGISTRY_UNCONFIGURED,	/* source or bootstrap_servers unset */
	DE_REGISTRY_NOT_ADOPTED,	/* the stored source is none yet, another, or another database's */
	DE_REGISTRY_READY
} DeRegistryState;

typedef struct DeRegistry
{
	MemoryContext context;		/* holds all of this: delete it to free */
	DeRegistryState state;
	const char *stored_source;	/* NULL = none */
	bool		copied;			/* the database is a copy of the one that stored it */
	List	   *groups;			/* of DeGroupDefinition, by name; only this worker's */
	int			total;			/* groups of all workers */
} DeRegistry;

/*
 * Reads the registry in a transaction of its own.  NULL when it cannot be
 * read just now (a standby's recovery conflict, a lock, a cancel): keep what
 * was read before and try again.
 */
extern DeRegistry *de_registry_read(int index, int nworkers);

/* A copy in the current context, since a registry is replaced as a whole. */
extern DeGroupDefinition *de_definition_copy(const DeGroupDefinition *definition);

/* Can what runs with the old definition go on with the new one as it is? */
extern bool de_definition_fits(const DeGroupDefinition *old, const DeGroupDefinition *new);
extern bool de_definition_same_topics(const DeGroupDefinition *a, const DeGroupDefinition *b);
extern bool de_definition_equal(const DeGroupDefinition *a, const DeGroupDefinition *b);

#endif							/* DE_REGISTRY_H */
