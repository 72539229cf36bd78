/*-------------------------------------------------------------------------
 *
 * upkeep.h
 *		What the relay does in the database beside sending: progress, segments;
 *		and what of it, or of reading, does not succeed just now.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_UPKEEP_H
#define DE_UPKEEP_H

#include "extension/base/shmem.h"

typedef enum DeChore
{
	DE_CHORE_CONFIGURE,			/* reading the configuration */
	DE_CHORE_READ,				/* reading the outbox */
	DE_CHORE_STORE,				/* storing progress */
	DE_CHORE_ROTATE,			/* moving segments on and emptying them */
	DE_CHORES
} DeChore;

typedef struct DeUpkeep DeUpkeep;

extern DeUpkeep *de_upkeep_create(MemoryContext parent, DeDatabase *db);

/* Begins anew with this stored progress. */
extern void de_upkeep_begin(DeUpkeep *upkeep, int64 stored);

/*
 * A chore failed or was done.  A failure is shown by check() and told in the
 * log once it has lasted for a while, the first success after that too.  May it
 * be tried again already?
 */
extern void de_upkeep_failed(DeUpkeep *upkeep, DeChore chore, const char *reason);
extern void de_upkeep_done(DeUpkeep *upkeep, DeChore chore);
extern bool de_upkeep_is_due(const DeUpkeep *upkeep, DeChore chore);

/*
 * Stores progress if it has moved and the last time is long enough ago ("now":
 * whenever it was).  False if the extension is not "extension" any more.
 */
extern bool de_upkeep_store(DeUpkeep *upkeep, Oid extension, int64 acked, bool now);

/*
 * Moves segments on and empties what is published: when progress was stored,
 * and from time to time since segments also grow old.  False as above.
 */
extern bool de_upkeep_rotate(DeUpkeep *upkeep, Oid extension);

/* When it has something to do again, in milliseconds. */
extern long de_upkeep_timeout(const DeUpkeep *upkeep, int64 acked);

#endif							/* DE_UPKEEP_H */
