/*-------------------------------------------------------------------------
 *
 * link.h
 *		The life of the relay's producer: made, connected, replaced when the
 *		settings change, given up when it fails.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_LINK_H
#define DE_LINK_H

#include "storage/latch.h"

#include "worker/kafka/producer.h"

typedef enum DeLinkState
{
	DE_LINK_DOWN,				/* no producer */
	DE_LINK_CONNECTING,			/* no broker has answered it yet */
	DE_LINK_UP,
	DE_LINK_RETIRING,			/* to be replaced, finishes what is in flight */
	DE_LINK_DYING				/* has reported its death; its last words are waited for */
} DeLinkState;

typedef struct DeLink DeLink;

/* Memory below "parent"; no producer is made before de_link_enable. */
extern DeLink *de_link_create(MemoryContext parent);

/*
 * May there be a producer?  False retires it.  Reconfigure: settings changed,
 * a new producer once what is in flight is acknowledged, or soon.
 */
extern void de_link_enable(DeLink *link, bool enabled);
extern void de_link_reconfigure(DeLink *link);

extern DeLinkState de_link_state(const DeLink *link);

/* NULL in the state DOWN. */
extern DeProducer *de_link_producer(const DeLink *link);

/*
 * Does it take events?  Not before it has connected: until then nobody knows
 * whether the topics are there.
 */
static inline bool
de_link_takes(const DeLink *link)
{
	return de_link_state(link) == DE_LINK_UP;
}

/* Has a broker answered this producer? */
extern bool de_link_is_connected(const DeLink *link);

/*
 * Is a producer due that the caller has to make room for?  Throws
 * connection_failure when the former one does not end.
 */
extern bool de_link_is_due(DeLink *link, int64 now);

/* Makes it; false with the reason in error when the configuration is refused. */
extern bool de_link_make(DeLink *link, int64 now, char *error, int error_size);

/*
 * True once, when a broker has answered.  "cluster", of DE_KAFKA_CLUSTER_SIZE
 * bytes, then has what tells its cluster from others.
 */
extern bool de_link_check_connected(DeLink *link, char *cluster);

/*
 * The producer failed: it is given up when its last words have come.  Called
 * again: for a better reason.
 */
extern void de_link_fail(DeLink *link, int64 now, const char *reason);

/*
 * Lets go of a producer that is to go, when it may: nothing is in flight, or
 * no acknowledgement can be hoped for, or its time is over.  Returns the state
 * it was in, or DOWN when nothing was done.
 */
extern DeLinkState de_link_end(DeLink *link, int64 now, bool idle, bool hopeless);

/* Why it failed last. */
extern const char *de_link_reason(const DeLink *link);

/* Producers given up in a row; proved: this one does what the former ones could not. */
extern int	de_link_attempts(const DeLink *link);
extern void de_link_proved(DeLink *link);

/* When the link wants a turn again though nothing wakes it, in milliseconds. */
extern long de_link_timeout(const DeLink *link, int64 now);

/* What to wait for; changes with the producer. */
extern WaitEventSet *de_link_wait_set(DeLink *link);

/* At process exit: bounded, never throws, may be called at any time. */
extern void de_link_abandon(DeLink *link);

#endif							/* DE_LINK_H */
