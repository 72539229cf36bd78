/*-------------------------------------------------------------------------
 *
 * kafka_producer.h
 *		The producer's insides, shared by kafka_producer.c and kafka_admin.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_KAFKA_PRODUCER_H
#define DE_KAFKA_PRODUCER_H

#include "port/atomics.h"

#include "worker/kafka/admin.h"
#include "worker/kafka/kafka_internal.h"
#include "worker/kafka/proof.h"

#define PRODUCER_WAITS_FOR_ALL (-1)	/* that is in flight */
#define PRODUCER_WAITS_FOR_ANY (-2)

struct DeProducerTopic
{
	DeProducerTopic *next;
	rd_kafka_topic_t *rkt;
	DeProof    *proof;
	pg_atomic_uint32 partitions;	/* as the library last told */
	/* of the record at hand, for the partitioner */
	uint64		turn;
	int32		chosen;			/* -1 = it is the first one: the partitioner has to */
	int32		chosen_of;		/* so many partitions */
	pg_atomic_uint32 asked;		/* the partitioner was */
	bool		parked;			/* it was not yet, so it will be on another thread */
	/* of the last one that could not be sent */
	bool		busy;
	int32		waits_for;		/* a report of this partition, or PRODUCER_WAITS_FOR_... */
	int64		heard_at;		/* when something came back, or began to be waited for */
	size_t		cost;			/* the caller's */
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
	int64		now;			/* de_monotonic_ms() of the last poll */
	DeProducerTopic *topics;
	DeAdminAnswer *answers;
	DeProduceReport	delivery;		/* what callbacks are shown */
	DeKafkaNotice notice;
	DeTopicResult result;
};

#endif							/* DE_KAFKA_PRODUCER_H */
