/*-------------------------------------------------------------------------
 *
 * sender_internal.h
 *		What sender.c and sender_offer.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_SENDER_INTERNAL_H
#define DE_SENDER_INTERNAL_H

#include "worker/relay/envelope.h"
#include "worker/relay/health.h"
#include "worker/relay/link.h"
#include "worker/relay/sender.h"
#include "worker/relay/suspect.h"
#include "worker/relay/window.h"

struct DeSender
{
	DeDatabase *db;
	DeTopics   *topics;
	DeLink	   *link;
	DeWindow   *window;
	int			window_size;
	uint32		rewinds;
	DeEnvelope	envelope;
	MemoryContext context;		/* of the envelope: of one producer's life */

	DeHealth	health;
	DeSuspect	suspect;
	int64		turn;			/* when this turn began */
	bool		refused;		/* this producer dies of a refused event */
	bool		failed;			/* an event has failed in it */
	bool		topic_trouble;	/* events wait for a topic that cannot be made */
	bool		stopped;		/* a topic was shut in this round of what was held */
	bool		nameless;		/* the event at hand is of a type that has no topic */
	char		refused_topic[DE_MAX_TOPIC_LENGTH + 1]; /* of the last refusal */
	char		notice[DE_KAFKA_ERROR_SIZE];	/* the library's last word */

	/* figures, not yet in shared memory */
	uint64		events_acked;
	uint64		bytes_acked;
	uint64		produce_errors;
	TimestampTz reported_oldest;
};

/* Events do not get through: says so, in the log the first time. */
extern void de_sender_trouble(DeSender *sender, const char *reason);

extern void de_sender_refusal(char *reason, int64 id, const char *topic, const char *error);

/* An event is refused for good, and with it goes the producer. */
extern void de_sender_refused(DeSender *sender, int64 id, const char *topic, const char *error);

#endif							/* DE_SENDER_INTERNAL_H */
