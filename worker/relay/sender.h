/*-------------------------------------------------------------------------
 *
 * sender.h
 *		The relay's Kafka side: a producer that is rebuilt when it fails, the
 *		window of events in flight, and what is wrong just now.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_SENDER_H
#define DE_SENDER_H

#include "extension/outbox/outbox.h"
#include "extension/base/shmem.h"
#include "worker/relay/topic.h"

typedef struct DeSender DeSender;

/* Memory below "parent"; no producer is made before de_sender_enable. */
extern DeSender *de_sender_create(DeDatabase *db, MemoryContext parent, DeTopics *topics);

/* Begins anew after an id: what was in flight is forgotten. */
extern void de_sender_begin(DeSender *sender, int64 position);

/* The topics were loaded anew. */
extern void de_sender_topics_loaded(DeSender *sender);

/* May there be a producer?  False lets go of it when what is in flight is acknowledged. */
extern void de_sender_enable(DeSender *sender, bool enabled);

/* Settings changed: a new producer, once what is in flight is acknowledged (or soon). */
extern void de_sender_reconfigure(DeSender *sender);

/*
 * Takes what came from Kafka, notices failures, makes and gives up producers.
 * Every turn, outside of transactions.
 */
extern void de_sender_run(DeSender *sender);

/*
 * Takes the next event, in the order of ids: hands it over, or holds it while
 * its topic takes none.  False: not now; offer it again after something
 * happened.
 */
extern bool de_sender_offer(DeSender *sender, const DeOutboxEvent *event);

/*
 * What is held is to be read again when its topic takes more: first come the
 * ids between which it is (false = there is nothing), then which of them are
 * wanted, which are offered in the order of ids (false as above), and at last
 * from which to which id all were (false = not all of them were taken).  One
 * round ends before the next begins.
 */
extern bool de_sender_sweep(DeSender *sender, int64 *first, int64 *last);
extern bool de_sender_wants(DeSender *sender, int64 id);
extern bool de_sender_offer_held(DeSender *sender, const DeOutboxEvent *event);
extern bool de_sender_swept(DeSender *sender, int64 first, int64 upto);

/* No event is between the last one offered and "position". */
extern void de_sender_advance(DeSender *sender, int64 position);

/*
 * Everything up to here was handed over.  It falls back to the acknowledged
 * position when a producer fails, and then rewinds grows.
 */
extern int64 de_sender_position(DeSender *sender);
extern uint32 de_sender_rewinds(DeSender *sender);

/* Everything up to here is acknowledged or gone. */
extern int64 de_sender_acked(DeSender *sender);

/* Read no further than this. */
extern int64 de_sender_limit(DeSender *sender);

/* Can it take another event, as far as can be said without seeing it? */
extern bool de_sender_has_credit(DeSender *sender);

/* Events in flight. */
extern int	de_sender_unacked(DeSender *sender);

/* Has Kafka answered, and does it still? */
extern bool de_sender_is_connected(DeSender *sender);

/* Is there any point in waiting for acknowledgements? */
extern bool de_sender_is_away(DeSender *sender);

/* Figures for shared memory. */
extern void de_sender_report(DeSender *sender);

/* When de_sender_run wants to be called again at the latest, in milliseconds. */
extern long de_sender_timeout(DeSender *sender);

/* What to wait for; changes with the producer. */
extern WaitEventSet *de_sender_wait_set(DeSender *sender);

/* At process exit: bounded, never throws, may be called at any time. */
extern void de_sender_abandon(DeSender *sender);

#endif							/* DE_SENDER_H */
