/*-------------------------------------------------------------------------
 *
 * kafka_consumer.h
 *		What kafka_consumer.c (a member of a group) and kafka_partition.c (the
 *		partitions it is assigned) share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_KAFKA_CONSUMER_H
#define DE_KAFKA_CONSUMER_H

#include "worker/kafka_internal.h"

struct DeConsumerPartition
{
	DeConsumer *consumer;
	rd_kafka_queue_t *queue;
	char	   *topic;
	int32		number;
	void	   *owner;			/* the caller's */
	rd_kafka_message_t *message;	/* what the record returned last points into */
	DeKafkaHeader *headers;
	int			max_headers;
	int64		end;			/* see de_partition_end() */
	int64		commit;			/* for the next request; -1 = nothing */
};

struct DeConsumer
{
	MemoryContext context;
	MemoryContext assignment_context;	/* life of an assignment */
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;	/* events; while closing, the queue of that */
	int			fd;				/* eventfd of all queues */
	DeConsumerPartition **partitions;	/* the assignment */
	int			npartitions;
	bool		assigning;		/* partitions[] wait for accept_assign */
	uint32		serial;			/* of the assignment: tells late commit results apart */
	int32		generation;
	bool		closing;
	bool		closed;			/* nothing more will come */
	rd_kafka_event_t *event;	/* what the event returned last points into */
	int			event_index;	/* next partition of an OFFSET_COMMIT event */
	bool		has_stashed;	/* an error met while reading a partition */
	DeKafkaNotice stashed;
};

#endif							/* DE_KAFKA_CONSUMER_H */
