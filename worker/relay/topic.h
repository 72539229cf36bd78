/*-------------------------------------------------------------------------
 *
 * topic.h
 *		Which Kafka topic an event type goes to, and whether it is there yet.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_TOPIC_H
#define DE_TOPIC_H

#include "extension/base/clock.h"
#include "extension/base/event.h"
#include "worker/kafka/producer.h"

typedef enum DeTopicState
{
	DE_TOPIC_WANTED,			/* to be asked for */
	DE_TOPIC_ASKED,				/* an answer is due */
	DE_TOPIC_FAILED,			/* asked for again at retry_at */
	DE_TOPIC_READY				/* records may be sent */
} DeTopicState;

/* Its partitions, compared with what its row says. */
typedef enum DeTopicComparison
{
	DE_COMPARISON_NONE,			/* done, or no reason to */
	DE_COMPARISON_WANTED,		/* to be asked for, once the topic is READY */
	DE_COMPARISON_ASKED			/* an answer is due */
} DeTopicComparison;

typedef struct DeTopic
{
	char		name[DE_MAX_TOPIC_LENGTH + 1];	/* hash key */
	int			partitions;		/* 0 = durable_event.topic_partitions */
	int			replication_factor; /* 0 = durable_event.topic_replication_factor */
	const char **config;		/* name, value, ..., NULL */
	DeTopicState state;
	DeTopicComparison comparison;	/* changed by de_topic_set_comparison() only */
	int			attempts;		/* that failed in a row */
	int64		retry_at;		/* de_monotonic_ms() */
	char	   *error;			/* of the last one; NULL = none */
	DeProducerTopic *handle;	/* of the present producer; NULL = not made yet */
	uint32		number;			/* in DeTopics.numbered */
	uint32		hash;			/* of the name */
	/* hold.c's */
	int			held;			/* events that wait for it to take more */
	bool		open;			/* it may take the first of them */
	bool		sweeping;		/* they are being read again */
} DeTopic;

typedef struct DeTopics DeTopics;

/* An empty map, in a context of its own below "parent". */
extern DeTopics *de_topics_create(MemoryContext parent);

/*
 * Loads durable_event.event_type; needs a transaction and an active snapshot.
 * All DeTopic pointers become invalid.  Topics known to be there stay so.
 */
extern void de_topics_load(DeTopics *topics);

/*
 * The topic of an event type (UTF-8).  A type that is not registered goes to
 * topic_prefix and its name; NULL when that is no legal name.
 */
extern DeTopic *de_topics_find(DeTopics *topics, const char *event_type, int len);

/* By its number, of those that there are; by its name, NULL = none. */
extern uint32 de_topics_count(const DeTopics *topics);
extern DeTopic *de_topics_by_number(const DeTopics *topics, uint32 number);
extern DeTopic *de_topics_by_name(DeTopics *topics, const char *name);

/* A topic that could not be made so far, one that holds events first; NULL = none. */
extern DeTopic *de_topics_failing(const DeTopics *topics);

/*
 * Another producer: handles and answers due are void.  "forget" names a topic
 * that is to be asked for again even if it was there; may be NULL.
 */
extern void de_topics_restart(DeTopics *topics, const char *forget);

/* The producer has connected to this cluster: of another, no topic is known to be there. */
extern void de_topics_connected(DeTopics *topics, const char *cluster);

/*
 * Asks for topics that are wanted and takes answers.  Every turn, after
 * de_producer_poll, once the producer has connected.
 */
extern void de_topics_run(DeTopics *topics, DeProducer *producer);

/* When de_topics_run has something to do again without being woken; PG_INT64_MAX = never. */
extern int64 de_topics_next(DeTopics *topics);

#endif							/* DE_TOPIC_H */
