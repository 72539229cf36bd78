/*-------------------------------------------------------------------------
 *
 * consumer.h
 *		One member of one consumer group (kafka_consumer.c and its like).
 *		kafka.h has what holds for all of its functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_CONSUMER_H
#define DE_CONSUMER_H

#include "worker/kafka/kafka.h"

typedef struct DeConsumer DeConsumer;
typedef struct DeSource DeSource;

typedef struct DeConsumerOptions
{
	const char *group_id;
	const char *const *topics;
	int			ntopics;
	bool		from_latest;	/* begin at start_at_ms where nothing is committed; else earliest */
	int64		start_at_ms;	/* timestamp, unix */
	int			queue_bytes;	/* prefetch budget of one partition */
	int			metadata_refresh_ms;	/* how soon a topic created later is noticed */
} DeConsumerOptions;

typedef enum DeConsumerEventType
{
	DE_CONSUMER_ASSIGN,			/* sources[]: attach state, then de_consumer_accept_assign */
	DE_CONSUMER_REVOKE,			/* drain, commit, then call de_consumer_accept_revoke */
	DE_CONSUMER_LOST,			/* as revoke, but commits would be refused: drop, do not commit */
	DE_CONSUMER_COMMITTED,		/* partition, offset, outcome */
	DE_CONSUMER_ERROR			/* notice */
} DeConsumerEventType;

typedef struct DeConsumerEvent
{
	DeConsumerEventType type;
	int			nsources;	/* ASSIGN, REVOKE, LOST */
	DeSource **sources;
	DeSource *source; /* COMMITTED */
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

extern const char *de_source_topic(DeSource *source);
extern int32 de_source_number(DeSource *source);
extern void de_source_set_owner(DeSource *source, void *owner);
extern void *de_source_owner(DeSource *source);

/*
 * Next record of this partition, or false when none is prefetched (or on an
 * error, which then comes as an event).
 */
extern bool de_source_next_record(DeSource *source, DeRecord *record);

/*
 * Is what comes next unreadable for good?  Then offset and reason say what and
 * why, and no record is returned any more: the library would skip it.
 */
extern bool de_source_broken(DeSource *source, int64 *offset, const char **reason);

/* Frees the record returned last; a record kept alive keeps its whole fetch alive. */
extern void de_source_release_record(DeSource *source);

/*
 * The offset at which the log ended when the record returned last was the
 * last one there, -1 = unknown: between that record and this offset there is
 * nothing but what no consumer ever sees (transaction markers, compacted
 * records).
 */
extern int64 de_source_end(DeSource *source);

/*
 * Notes "next" (offset of the next record wanted) for the group's next
 * commit; de_consumer_send_commits sends all of them in one asynchronous
 * request, with a result as an event for each partition.
 */
extern void de_source_commit(DeSource *source, int64 next);
extern void de_consumer_send_commits(DeConsumer *consumer);

/* Cached log end (last stable) and first offset, -1 = unknown; never asks the broker. */
extern void de_source_watermarks(DeSource *source, int64 *low, int64 *high);

/* Leaves the group and closes; poll events until de_consumer_closed(), then destroy. */
extern void de_consumer_close(DeConsumer *consumer);
extern bool de_consumer_closed(DeConsumer *consumer);

/* Tears down in the background, without leaving the group if not closed. */
extern void de_consumer_destroy(DeConsumer *consumer);

#endif							/* DE_CONSUMER_H */
