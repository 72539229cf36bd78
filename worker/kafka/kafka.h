/*-------------------------------------------------------------------------
 *
 * kafka.h
 *		Kafka as the relay and the proxy see it; no librdkafka type shows.
 *		Implemented by the kafka_*.c files, which share kafka_internal.h.
 *
 * All functions are for the main thread of a worker, never block on the
 * network, never throw once a handle exists, and block signals around calls
 * that may start a thread.  Strings that a function returns in an event are
 * valid until the next call on the same handle.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_KAFKA_H
#define DE_KAFKA_H

#include "datatype/timestamp.h"

#define DE_KAFKA_ERROR_SIZE 512

typedef enum DeKafkaOutcome
{
	DE_KAFKA_OK,
	DE_KAFKA_RETRIABLE,			/* the same again may succeed */
	DE_KAFKA_REFUSED,			/* this record or topic is refused for good */
	DE_KAFKA_FATAL				/* the handle is dead: build a new one */
} DeKafkaOutcome;

typedef struct DeKafkaHeader
{
	const char *name;
	const char *value;			/* NULL = null header */
	int			name_len;
	int			value_len;
} DeKafkaHeader;

/* What a handle reports besides its own results. */
typedef struct DeKafkaNotice
{
	bool		fatal;			/* build a new handle */
	bool		all_brokers_down;
	char		text[DE_KAFKA_ERROR_SIZE];
} DeKafkaNotice;

/*
 * Handles are torn down on a thread of their own, since the library may wait
 * for its threads.  Waits at most timeout_ms for all teardowns begun so far;
 * true when none is left.  Called at exit.
 */
extern bool de_kafka_teardown_wait(int timeout_ms);

/* ---- producer (kafka_producer.c) ---- */

typedef struct DeProducer DeProducer;
typedef struct DeProducerTopic DeProducerTopic;

typedef struct DeDelivery
{
	uint64		token;			/* as given to de_producer_send */
	const char *topic;
	DeKafkaOutcome outcome;
	char		error[DE_KAFKA_ERROR_SIZE]; /* empty when OK */
} DeDelivery;

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
typedef void (*DeDeliveryCallback)(void *arg, const DeDelivery *delivery);
typedef void (*DeNoticeCallback)(void *arg, const DeKafkaNotice *notice);
extern void de_producer_poll(DeProducer *producer, DeDeliveryCallback delivered,
							 DeNoticeCallback notice, void *arg);

/* Drops queued and in-flight records without reports and tears down in the background. */
extern void de_producer_destroy(DeProducer *producer);

/* ---- topics (kafka_admin.c), asynchronous, on the producer's handle ---- */

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
 * de_producer_poll_topics.  Only once de_producer_has_connected.
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

/* ---- consumer (kafka_consumer.c): one member of one consumer group ---- */

typedef struct DeConsumer DeConsumer;
typedef struct DeConsumerPartition DeConsumerPartition;

/* A record, borrowed: valid until the next call on its partition. */
typedef struct DeRecord
{
	const char *topic;
	int32		partition;
	int64		offset;
	int64		timestamp_ms;	/* -1 = none */
	const char *key;			/* NULL = no key */
	const char *value;			/* NULL = tombstone */
	int			key_len;
	int			value_len;
	int			nheaders;
	const DeKafkaHeader *headers;
} DeRecord;

typedef struct DeConsumerOptions
{
	const char *group_id;
	const char *const *topics;
	int			ntopics;
	bool		from_latest;	/* start of a group without committed offsets; else earliest */
	int			queue_bytes;	/* prefetch budget of one partition */
	int			metadata_refresh_ms;	/* how soon a topic created later is noticed */
} DeConsumerOptions;

typedef enum DeConsumerEventType
{
	DE_CONSUMER_ASSIGN,			/* partitions[]: attach state, then de_consumer_accept_assign */
	DE_CONSUMER_REVOKE,			/* drain, commit, then call de_consumer_accept_revoke */
	DE_CONSUMER_LOST,			/* as revoke, but commits would be refused: drop, do not commit */
	DE_CONSUMER_COMMITTED,		/* partition, offset, outcome */
	DE_CONSUMER_ERROR			/* notice */
} DeConsumerEventType;

typedef struct DeConsumerEvent
{
	DeConsumerEventType type;
	int			npartitions;	/* ASSIGN, REVOKE, LOST */
	DeConsumerPartition **partitions;
	DeConsumerPartition *partition; /* COMMITTED */
	int64		offset;
	DeKafkaOutcome outcome;
	DeKafkaNotice notice;		/* text also for a failed COMMITTED */
} DeConsumerEvent;

extern DeConsumer *de_consumer_create(const DeConsumerOptions *options, char *error,
									  int error_size);

/* becomes readable when events or records have come; shared by all partitions of the group */
extern int	de_consumer_fd(DeConsumer *consumer);

/*
 * Next event, or false.  To be called until false after each wake-up, before
 * reading records, and at least once in some minutes whether woken or not
 * (else the member is taken for dead).  Drains the descriptor.
 */
extern bool de_consumer_next_event(DeConsumer *consumer, DeConsumerEvent *event);

/*
 * Replaces the subscription; partitions come and go by events.  False, with
 * nothing changed, when the library refuses.
 */
extern bool de_consumer_subscribe(DeConsumer *consumer, const char *const *topics, int ntopics,
								  char *error, int error_size);

extern void de_consumer_accept_assign(DeConsumer *consumer);
extern void de_consumer_accept_revoke(DeConsumer *consumer);

/* The group's generation, a fencing number: it grows with each assignment, whoever gets it. */
extern int32 de_consumer_generation(DeConsumer *consumer);

extern const char *de_partition_topic(DeConsumerPartition *partition);
extern int32 de_partition_number(DeConsumerPartition *partition);
extern void de_partition_set_owner(DeConsumerPartition *partition, void *owner);
extern void *de_partition_owner(DeConsumerPartition *partition);

/*
 * Next record of this partition, or false when none is prefetched (or on an
 * error, which then comes as an event).
 */
extern bool de_partition_next_record(DeConsumerPartition *partition, DeRecord *record);

/* Frees the record returned last; a record kept alive keeps its whole fetch alive. */
extern void de_partition_release_record(DeConsumerPartition *partition);

/*
 * The offset at which the log ended when the record returned last was the
 * last one there, -1 = unknown: between that record and this offset there is
 * nothing but what no consumer ever sees (transaction markers, compacted
 * records).
 */
extern int64 de_partition_end(DeConsumerPartition *partition);

/*
 * Notes "next" (offset of the next record wanted) for the group's next
 * commit; de_consumer_send_commits sends all of them in one asynchronous
 * request, with a result as an event for each partition.
 */
extern void de_partition_commit(DeConsumerPartition *partition, int64 next);
extern void de_consumer_send_commits(DeConsumer *consumer);

/* Cached log end (last stable) and first offset, -1 = unknown; never asks the broker. */
extern void de_partition_watermarks(DeConsumerPartition *partition, int64 *low, int64 *high);

/* Leaves the group and closes; poll events until de_consumer_closed(), then destroy. */
extern void de_consumer_close(DeConsumer *consumer);
extern bool de_consumer_closed(DeConsumer *consumer);

/* Tears down in the background, without leaving the group if not closed. */
extern void de_consumer_destroy(DeConsumer *consumer);

#endif							/* DE_KAFKA_H */
