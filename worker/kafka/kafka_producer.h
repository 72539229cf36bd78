/*-------------------------------------------------------------------------
 *
 * kafka_producer.h
 *		The producer's insides, shared by kafka_producer.c and kafka_admin.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_KAFKA_PRODUCER_H
#define DE_KAFKA_PRODUCER_H

#include "worker/kafka/admin.h"
#include "worker/kafka/kafka_internal.h"

struct DeProducerTopic
{
	DeProducerTopic *next;
	rd_kafka_topic_t *rkt;
	char		name[FLEXIBLE_ARRAY_MEMBER];
};

/* An answer for which no request was needed; malloc'ed. */
typedef struct DeAdminAnswer
{
	struct DeAdminAnswer *next;
	DeTopicResult result;
} DeAdminAnswer;

struct DeProducer
{
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;	/* the main one: reports, errors, logs */
	rd_kafka_queue_t *admin_queue;	/* results of topic creations */
	int			fd;				/* eventfd of both queues */
	DeProducerLearned *learned; /* the caller's */
	int			message_size;	/* largest record that it takes, in bytes */
	int			batch_size;		/* of its batches, in bytes; 0 = unknown */
	DeProducerTopic *topics;
	DeAdminAnswer *answers;
	DeProduceReport	delivery;		/* what callbacks are shown */
	DeKafkaNotice notice;
	DeTopicResult result;
};

#endif							/* DE_KAFKA_PRODUCER_H */
