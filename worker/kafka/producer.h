/*-------------------------------------------------------------------------
 *
 * producer.h
 *		An idempotent, gapless producer (kafka_producer.c).  kafka.h has what
 *		holds for all of its functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_PRODUCER_H
#define DE_PRODUCER_H

#include "worker/kafka/kafka.h"

typedef struct DeProducer DeProducer;
typedef struct DeProducerTopic DeProducerTopic;

typedef struct DeProduceReport
{
	uint64		token;			/* as given to de_producer_send */
	const char *topic;
	DeKafkaOutcome outcome;
	char		error[DE_KAFKA_ERROR_SIZE]; /* empty when OK */
} DeProduceReport;

/*
 * An idempotent, gapless producer on bootstrap_servers and kafka_config.
 * NULL with the reason in error when the configuration is refused.
 */
extern DeProducer *de_producer_create(char *error, int error_size);

/* becomes readable when de_producer_poll has something to return */
extern int	de_producer_fd(DeProducer *producer);

/* Has any broker answered since the producer was made?  Never asks one. */
extern bool de_producer_has_connected(DeProducer *producer);

/* The handle of a topic, cached by the producer and gone with it; NULL = name refused. */
extern DeProducerTopic *de_producer_topic(DeProducer *producer, const char *name);

/*
 * Queues a copy of a record.  OK; RETRIABLE = queue is full: poll, wait, send
 * again; REFUSED (too large, ...) or FATAL with the reason in error.  Keyed
 * records go to murmur2 of the key.
 */
extern DeKafkaOutcome de_producer_send(DeProducer *producer, DeProducerTopic *topic,
									   const char *key, int key_len,
									   const char *payload, int payload_len,
									   const DeKafkaHeader *headers, int nheaders,
									   uint64 token, char *error, int error_size);

/*
 * Drains what has happened: calls delivered for each delivery report (in
 * batches), notice for each client-level error.  Both run on this thread and
 * must not destroy the producer.
 */
typedef void (*DeProduceCallback)(void *arg, const DeProduceReport *delivery);
typedef void (*DeNoticeCallback)(void *arg, const DeKafkaNotice *notice);
extern void de_producer_poll(DeProducer *producer, DeProduceCallback delivered,
							 DeNoticeCallback notice, void *arg);

/* Drops queued and in-flight records without reports and tears down in the background. */
extern void de_producer_destroy(DeProducer *producer);

#endif							/* DE_PRODUCER_H */
