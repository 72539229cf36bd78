/*-------------------------------------------------------------------------
 *
 * admin.h
 *		Topics, asked for and compared asynchronously on a producer's handle
 *		(kafka_admin.c).  kafka.h has what holds for all of its functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_ADMIN_H
#define DE_ADMIN_H

#include "worker/kafka/producer.h"

typedef struct DeTopicSpec
{
	const char *name;
	int			partitions;
	int			replication_factor; /* -1 = the broker's default */
	const char *const *config;	/* name, value, name, value, ..., NULL */
} DeTopicSpec;

typedef struct DeTopicResult
{
	uint64		token;
	DeKafkaOutcome outcome;		/* OK also when the topic was there already */
	bool		existed;
	bool		compared;		/* of de_producer_compare_partitions: OK = it has fewer */
	char		error[DE_KAFKA_ERROR_SIZE]; /* with OK: why it could not be created but may exist */
} DeTopicResult;

/*
 * Asks for the topic to be created; the result comes by
 * de_producer_poll_topics.  Only once the producer has connected.
 */
extern void de_producer_create_topic(DeProducer *producer, const DeTopicSpec *spec, uint64 token);

/*
 * Asks whether an existing topic has fewer partitions than that; changes
 * nothing.  False when there is nobody to ask: no result comes.
 */
extern bool de_producer_compare_partitions(DeProducer *producer, const char *name,
										   int partitions, uint64 token);
typedef void (*DeTopicCallback)(void *arg, const DeTopicResult *result);
extern void de_producer_poll_topics(DeProducer *producer, DeTopicCallback callback, void *arg);

#endif							/* DE_ADMIN_H */
