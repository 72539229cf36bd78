/*-------------------------------------------------------------------------
 *
 * registry.h
 *		Which consumer groups a proxy worker has to run, and how.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_REGISTRY_H
#define DE_REGISTRY_H

#include "extension/base/identity.h"
#include "nodes/pg_list.h"
#include "worker/proxy/definition.h"

typedef enum DeRegistryState
{
	DE_REGISTRY_NO_EXTENSION,	/* not (or no longer) there */
	DE_REGISTRY_UNCONFIGURED,	/* source or bootstrap_servers unset, or no secret to sign with */
	DE_REGISTRY_NOT_ADOPTED,	/* the stored source is none yet, another, or another database's */
	DE_REGISTRY_READY
} DeRegistryState;

typedef struct DeRegistry
{
	MemoryContext context;		/* holds all of this: delete it to free */
	DeRegistryState state;
	const char *stored_source;	/* NULL = none */
	DeIdentity	identity;		/* meaningful if the extension is there */
	List	   *groups;			/* of DeGroupDefinition, by name; only this worker's */
	int			total;			/* groups of all workers */
} DeRegistry;

/*
 * Reads the registry in a transaction of its own.  NULL when it cannot be
 * read just now (a standby's recovery conflict, a lock, a cancel): keep what
 * was read before and try again.
 */
extern DeRegistry *de_registry_read(int index, int nworkers);

#endif							/* DE_REGISTRY_H */
