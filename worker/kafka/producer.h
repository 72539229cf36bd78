/*-------------------------------------------------------------------------
 *
 * producer.h
 *		A producer of records (kafka_producer.c).  kafka.h has what holds for
 *		all of its functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_PRODUCER_H
#define DE_PRODUCER_H

#include "worker/kafka/kafka.h"

#define DE_KAFKA_CLUSTER_SIZE 1024

typedef struct DeProducer DeProducer;
typedef struct DeProducerTopic DeProducerTopic;

typedef struct DeProduceReport
{
	uint64		token;			/* as given to de_producer_send */
	const char *topic;
	DeProducerTopic *handle;	/* of the topic */
	DeKafkaOutcome outcome;
	bool		doubtful;		/* FATAL, since it was acknowledged without an offset */
	bool		opened;			/* what was BUSY for this topic may be sent again */
	char		error[DE_KAFKA_ERROR_SIZE]; /* empty when OK */
} DeProduceReport;

/*
 * What a producer finds out about topics and records that its successors are
 * to be made with; the caller keeps it, zeroed before the first.
 */
typedef struct DeProducerLearned
{
	int			record_bytes;	/* room in a request that a record has needed; 0 = as configured */
	int			batch_bytes;	/* size of batches that no topic has refused; 0 = as configured */
} DeProducerLearned;

/* How a producer is to be; strings need last only for the call. */
typedef struct DeProducerOptions
{
	const char *bootstrap_servers;
	const char *properties;		/* more of librdkafka's, as in durable_event.kafka_config */
	const char *client_id;		/* unless properties say another */
	bool		idempotent;		/* no duplicates by retries, no overtaking within a partition */
	bool		gapless;		/* dead when a record is refused, so that none follows it */
	int			buffer_kb;		/* of records, besides two of the largest */
	int			record_kb;		/* largest record that is expected */
	int			socket_timeout_ms;	/* for an answer, unless properties say another */
	int			request_timeout_ms; /* of that, for the replicas; the same */
	DeProducerLearned *learned;
} DeProducerOptions;

/*
 * A producer that has acks of all replicas in sync and gives nothing up by
 * time.  NULL with the reason in error when the configuration is refused.
 */
extern DeProducer *de_producer_create(const DeProducerOptions *options,
									  char *error, int error_size);

/* becomes readable when de_producer_poll has something to return */
extern int	de_producer_fd(DeProducer *producer);

/*
 * Has any broker answered since the producer was made?  Never asks one.  The
 * cluster's id goes into "cluster", DE_KAFKA_CLUSTER_SIZE bytes; empty if the
 * cluster does not say.
 */
extern bool de_producer_cluster(DeProducer *producer, char *cluster);

/* The handle of a topic, cached by the producer and gone with it; NULL = name refused. */
extern DeProducerTopic *de_producer_topic(DeProducer *producer, const char *name);

/* A record to be sent; borrowed. */
typedef struct DeProducerRecord
{
	const char *key;			/* NULL = no key */
	const char *payload;		/* NULL = tombstone */
	int			key_len;
	int			payload_len;
	const DeKafkaHeader *headers;
	int			nheaders;
	uint64		turn;			/* without a key, the partition is this modulo their number */
	uint64		token;			/* comes back in its report */
} DeProducerRecord;

/*
 * Queues a copy of a record.  OK, and *partition is where it goes (-1 = not
 * known yet); RETRIABLE = the queue is full, BUSY = the partition takes one at a
 * time until it is proven (proof.h): poll, wait, send again; REFUSED (too large,
 * ...) or FATAL with the reason in error.  Keyed records go to murmur2 of the
 * key, as those of Java clients do.
 */
extern DeKafkaOutcome de_producer_send(DeProducer *producer, DeProducerTopic *topic,
									   const DeProducerRecord *record, int *partition,
									   char *error, int error_size);

/*
 * Records of the topic are in flight, and nothing has come back for a second.
 * And the caller sends no more of it until something does: as after BUSY, a
 * report will say so.
 */
extern bool de_producer_topic_is_silent(DeProducer *producer, DeProducerTopic *topic);
extern void de_producer_topic_wait(DeProducerTopic *topic);

/* Bytes in flight, which the caller counts. */
extern size_t *de_producer_topic_cost(DeProducerTopic *topic);

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
