/*-------------------------------------------------------------------------
 *
 * kafka_consumer.h
 *		What kafka_consumer.c (a member of a group), kafka_consumer_conf.c (its
 *		handle), kafka_source.c (the partitions it is assigned) and kafka_start.c
 *		(where they start) share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_KAFKA_CONSUMER_H
#define DE_KAFKA_CONSUMER_H

#include "worker/kafka/consumer.h"
#include "worker/kafka/kafka_internal.h"

typedef struct DeStartQuery DeStartQuery;

struct DeSource
{
	DeConsumer *consumer;
	rd_kafka_queue_t *queue;
	char	   *topic;
	int32		number;
	void	   *owner;			/* the caller's */
	rd_kafka_message_t *message;	/* what the record returned last points into */
	DeKafkaHeader *headers;
	int			max_headers;
	int64		start;			/* where to, RD_KAFKA_OFFSET_INVALID = committed or earliest */
	int64		end;			/* see de_source_end() */
	int64		commit;			/* for the next request; -1 = nothing */
	char	   *broken;			/* why nothing can be read any more; NULL = it can */
	int64		broken_at;		/* offset */
};

struct DeConsumer
{
	MemoryContext context;
	MemoryContext assignment_context;	/* life of an assignment */
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;	/* events; while closing, the queue of that */
	int			fd;				/* eventfd of all queues */
	DeSource **sources;	/* the assignment */
	int			nsources;
	bool		assigning;		/* sources[] wait for accept_assign */
	char	   *group_id;
	bool		from_latest;
	int64		start_at_ms;	/* of such a group: what is older is not its */
	DeStartQuery *start_query;	/* under way or answered; NULL = none */
	int64		start_retry_at; /* ask again where to start; 0 = no need */
	uint32		serial;			/* of the assignment: tells late commit results apart */
	int32		generation;
	bool		closing;
	bool		closed;			/* nothing more will come */
	rd_kafka_event_t *event;	/* what the event returned last points into */
	int			event_index;	/* next partition of an OFFSET_COMMIT event */
	bool		has_stashed;	/* an error met while reading a partition */
	DeKafkaNotice stashed;
};

/* ---- kafka_consumer_conf.c ---- */

/* A handle for a member of a group; NULL with the reason in error. */
extern rd_kafka_t *de_kafka_consumer_new(const DeConsumerOptions *options, char *error,
										 int error_size);

/* ---- kafka_start.c, for groups that start with the latest ---- */

extern void de_kafka_start_request(DeConsumer *consumer);
extern bool de_kafka_start_ready(DeConsumer *consumer);
extern bool de_kafka_start_abandon(DeConsumer *consumer);

#endif							/* DE_KAFKA_CONSUMER_H */
