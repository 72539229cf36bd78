/*-------------------------------------------------------------------------
 *
 * feed.h
 *		Reads the outbox and offers its events to the sender.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_FEED_H
#define DE_FEED_H

#include "worker/relay/sender.h"

typedef enum DeFeedResult
{
	DE_FEED_IDLE,				/* nothing to read */
	DE_FEED_BLOCKED,			/* something to send, when the sender can */
	DE_FEED_LOCKED,				/* somebody's lock is in the way: try again soon */
	DE_FEED_MORE,				/* go on at once */
	DE_FEED_LINGERS,			/* go on after de_feed_linger_ms() */
	DE_FEED_GONE				/* the extension is not the one it was */
} DeFeedResult;

typedef struct DeFeed DeFeed;

/* Memory below "parent". */
extern DeFeed *de_feed_create(MemoryContext parent, DeDatabase *db, DeSender *sender);

/*
 * Hands over as much as there is and the sender takes, at most one batch.
 * Outside of transactions.
 */
extern DeFeedResult de_feed_run(DeFeed *feed, Oid extension);

/*
 * How long de_feed_run will not read for the sake of larger batches
 * (relay_linger), in milliseconds, rounded up; 0 = it will.
 */
extern long de_feed_linger_ms(const DeFeed *feed);

/*
 * Is there anything that de_feed_run would read, as far as the horizon says?
 * Brings the horizon up to date.
 */
extern bool de_feed_has_more(DeFeed *feed);

/* The event at hand, for the error context; NULL = none. */
extern const DeOutboxEvent *de_feed_event(const DeFeed *feed);

#endif							/* DE_FEED_H */
