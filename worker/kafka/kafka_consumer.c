/*-------------------------------------------------------------------------
 *
 * kafka_consumer.c
 *		One member of one consumer group, on a librdkafka handle of its own.
 *
 * Rules that the rest of the proxy relies on:
 *
 *	 - No callbacks (pitfall 2): rebalances, commit results, errors and logs
 *	   come as events from the consumer queue; records from one queue per
 *	   partition.  All queues of the group write to one eventfd.
 *	 - A partition's queue is taken off the consumer queue before
 *	   rd_kafka_assign().  Taken off later, what was fetched in between sits in
 *	   the wrong queue.
 *	 - Assignor roundrobin, so eager on every version: cooperative-sticky
 *	   aborts the process on librdkafka before 2.3.0 (its issue 4308), and an
 *	   abort of a worker restarts the whole server.
 *	 - Offsets are committed by rd_kafka_commit_queue() only.  The synchronous
 *	   call waits for the broker without limit.
 *
 * rd_kafka_assign, rd_kafka_subscribe and rd_kafka_consumer_group_metadata
 * wait for the handle's own main thread, which never waits for the network:
 * microseconds.
 *
 * Memory is a context per consumer; besides out of memory nothing here throws.
 * A crash of the process needs nothing from here: the broker gives the
 * partitions to others after the session timeout.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>
#include <unistd.h>

#include "utils/memutils.h"

#include "extension/base/clock.h"
#include "worker/kafka/kafka_consumer.h"

/* Errors of the library in the server's log, of all members of a worker. */
#define CONSUMER_LOG_LINES 10
#define CONSUMER_LOG_WINDOW_MS 60000

static void consumer_log(DeConsumer *consumer, rd_kafka_event_t *event);
static void consumer_release_event(DeConsumer *consumer);
static bool consumer_handle_rebalance(DeConsumer *consumer, DeConsumerEvent *event);
static void consumer_take_assignment(DeConsumer *consumer,
									 const rd_kafka_topic_partition_list_t *list);
static bool consumer_next_commit_result(DeConsumer *consumer, DeConsumerEvent *event);
static int32 consumer_read_generation(DeConsumer *consumer);
static char *consumer_serialize_metadata(rd_kafka_consumer_group_metadata_t *metadata,
										 size_t *size);
static DeSource *consumer_find_source(DeConsumer *consumer, const char *topic,
									  int32 number);
static void consumer_assign(DeConsumer *consumer);
static void consumer_drop_sources(DeConsumer *consumer);

/*
 * Creates a member of a group and subscribes; see kafka.h.
 */
DeConsumer *
de_consumer_create(const DeConsumerOptions *options, char *error, int error_size)
{
	MemoryContext context;
	DeConsumer *consumer;
	bool		ok;

	context = AllocSetContextCreate(TopMemoryContext, "durable_event consumer",
									ALLOCSET_SMALL_SIZES);
	consumer = MemoryContextAllocZero(context, sizeof(DeConsumer));
	consumer->context = context;
	consumer->assignment_context = AllocSetContextCreate(context, "durable_event assignment",
														 ALLOCSET_SMALL_SIZES);
	consumer->generation = -1;
	consumer->group_id = MemoryContextStrdup(context, options->group_id);
	consumer->from_latest = options->from_latest;
	consumer->start_at_ms = options->start_at_ms;
	consumer->fd = de_kafka_eventfd_create();
	if (consumer->fd < 0)
	{
		snprintf(error, error_size, "could not create an event descriptor: %s", strerror(errno));
		MemoryContextDelete(context);
		return NULL;
	}

	consumer->rk = de_kafka_consumer_new(options, error, error_size);
	ok = consumer->rk != NULL;
	if (ok)
	{
		rd_kafka_poll_set_consumer(consumer->rk);
		consumer->queue = rd_kafka_queue_get_consumer(consumer->rk);
		de_kafka_queue_notify(consumer->queue, consumer->fd);
		ok = de_consumer_subscribe(consumer, options->topics, options->ntopics,
								   error, error_size);
	}
	if (!ok)
	{
		de_consumer_destroy(consumer);
		return NULL;
	}
	return consumer;
}

/*
 * Replaces the subscription; see kafka.h.
 */
bool
de_consumer_subscribe(DeConsumer *consumer, const char *const *topics, int ntopics,
					  char *error, int error_size)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(ntopics);
	rd_kafka_resp_err_t err;

	for (int i = 0; i < ntopics; i++)
		rd_kafka_topic_partition_list_add(list, topics[i], RD_KAFKA_PARTITION_UA);
	err = rd_kafka_subscribe(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		snprintf(error, error_size, "could not subscribe: %s", rd_kafka_err2str(err));
		return false;
	}
	return true;
}

int
de_consumer_fd(DeConsumer *consumer)
{
	return consumer->fd;
}

/*
 * Returns the next event; see kafka.h.
 *
 * The descriptor is drained before the queue, never after: an event that
 * came in between would have spent its wake-up.
 */
bool
de_consumer_next_event(DeConsumer *consumer, DeConsumerEvent *event)
{
	memset(event, 0, offsetof(DeConsumerEvent, notice));
	event->notice.fatal = false;
	event->notice.all_brokers_down = false;
	event->notice.text[0] = '\0';

	if (consumer->event != NULL && consumer_next_commit_result(consumer, event))
		return true;
	consumer_release_event(consumer);

	if (consumer->has_stashed)
	{
		consumer->has_stashed = false;
		event->type = DE_CONSUMER_ERROR;
		event->notice = consumer->stashed;
		return true;
	}

	de_kafka_eventfd_drain(consumer->fd);
	if (consumer->from_latest && de_kafka_start_ready(consumer))
		consumer_assign(consumer);
	while ((consumer->event = rd_kafka_queue_poll(consumer->queue, 0)) != NULL)
	{
		switch (rd_kafka_event_type(consumer->event))
		{
			case RD_KAFKA_EVENT_REBALANCE:
				if (consumer_handle_rebalance(consumer, event))
					return true;
				break;

			case RD_KAFKA_EVENT_OFFSET_COMMIT:
				consumer->event_index = 0;
				if (consumer_next_commit_result(consumer, event))
					return true;
				break;

			case RD_KAFKA_EVENT_FETCH:

				/*
				 * A record in the wrong queue: the rule above is broken.  The
				 * records behind it must not be acknowledged, so this
				 * assignment ends.
				 */
				event->type = DE_CONSUMER_ERROR;
				event->notice.fatal = true;
				snprintf(event->notice.text, sizeof(event->notice.text),
						 "a record came outside of its partition's queue");
				return true;

			case RD_KAFKA_EVENT_LOG:
				consumer_log(consumer, consumer->event);
				break;

			default:
				if (de_kafka_notice_from_event(consumer->rk, consumer->event, &event->notice))
				{
					event->type = DE_CONSUMER_ERROR;
					return true;
				}
				break;
		}
		consumer_release_event(consumer);
	}
	return false;
}

/*
 * Passes a line of the library's log on.  Errors go to the server's log: they
 * say why a connection fails.  But a member repeats itself, and all members of
 * a worker say the same when Kafka is away, so there is a limit for all of
 * them together.
 */
static void
consumer_log(DeConsumer *consumer, rd_kafka_event_t *event)
{
	static int64 window_end = 0;
	static int	lines = 0;
	static int	left_out = 0;
	int64		now = de_monotonic_ms();
	const char *facility;
	const char *text;
	int			level;			/* of syslog */
	int			elevel;

	if (rd_kafka_event_log(event, &facility, &text, &level) != 0)
		return;
	if (now >= window_end)
	{
		if (left_out > 0)
			ereport(LOG,
					(errmsg("%d more messages of librdkafka for consumer groups were not logged",
							left_out)));
		window_end = now + CONSUMER_LOG_WINDOW_MS;
		lines = 0;
		left_out = 0;
	}
	if (level > 3)
		elevel = level == 4 ? DEBUG1 : DEBUG2;
	else if (lines < CONSUMER_LOG_LINES)
	{
		elevel = LOG;
		lines++;
	}
	else
	{
		elevel = DEBUG1;
		left_out++;
	}
	ereport(elevel,
			(errmsg("librdkafka for consumer group \"%s\": %s: %s", consumer->group_id, facility,
					text)));
}

static void
consumer_release_event(DeConsumer *consumer)
{
	if (consumer->event != NULL)
		rd_kafka_event_destroy(consumer->event);
	consumer->event = NULL;
}

/*
 * Turns a rebalance into ASSIGN, REVOKE or LOST; false if there is nothing to
 * tell the caller.
 */
static bool
consumer_handle_rebalance(DeConsumer *consumer, DeConsumerEvent *event)
{
	switch (rd_kafka_event_error(consumer->event))
	{
		case RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS:
			consumer_take_assignment(consumer,
									 rd_kafka_event_topic_partition_list(consumer->event));
			event->type = DE_CONSUMER_ASSIGN;
			break;

		case RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS:
			event->type = rd_kafka_assignment_lost(consumer->rk) ?
				DE_CONSUMER_LOST :
				DE_CONSUMER_REVOKE;
			break;

		default:
			/* the library asks to be put in a known state: without partitions */
			event->type = DE_CONSUMER_LOST;
			break;
	}
	event->sources = consumer->sources;
	event->nsources = consumer->nsources;
	return true;
}

/*
 * Makes sources[] of a new assignment, each with its own queue.
 */
static void
consumer_take_assignment(DeConsumer *consumer, const rd_kafka_topic_partition_list_t *list)
{
	MemoryContext old;

	consumer_drop_sources(consumer);
	consumer->serial++;
	consumer->generation = consumer_read_generation(consumer);

	old = MemoryContextSwitchTo(consumer->assignment_context);
	consumer->sources = palloc0(sizeof(DeSource *) * Max(list->cnt, 1));
	for (int i = 0; i < list->cnt; i++)
	{
		DeSource *source = palloc0(sizeof(DeSource));

		source->consumer = consumer;
		source->topic = pstrdup(list->elems[i].topic);
		source->number = list->elems[i].partition;
		source->start = RD_KAFKA_OFFSET_INVALID;
		source->end = -1;
		source->commit = -1;
		source->queue = rd_kafka_queue_get_partition(consumer->rk, source->topic,
													 source->number);
		if (source->queue != NULL)
		{
			rd_kafka_queue_forward(source->queue, NULL);
			de_kafka_queue_notify(source->queue, consumer->fd);
		}
		else
		{
			/* it would stand still without anybody noticing */
			consumer->has_stashed = true;
			memset(&consumer->stashed, 0, sizeof(consumer->stashed));
			consumer->stashed.fatal = true;
			snprintf(consumer->stashed.text, sizeof(consumer->stashed.text),
					 "no queue for topic \"%s\" partition %d", source->topic,
					 source->number);
		}
		consumer->sources[consumer->nsources++] = source;
	}
	MemoryContextSwitchTo(old);
	consumer->assigning = true;
}

/*
 * Fills in the result for the next partition of the commit event at hand;
 * false when there is none left (or it is no commit event).
 */
static bool
consumer_next_commit_result(DeConsumer *consumer, DeConsumerEvent *event)
{
	rd_kafka_event_t *result = consumer->event;
	rd_kafka_topic_partition_list_t *list;

	if (rd_kafka_event_type(result) != RD_KAFKA_EVENT_OFFSET_COMMIT)
		return false;

	/* of a former assignment: says nothing about this one */
	if ((uintptr_t) rd_kafka_event_opaque(result) != (uintptr_t) consumer->serial)
		return false;

	list = rd_kafka_event_topic_partition_list(result);
	while (list != NULL && consumer->event_index < list->cnt)
	{
		rd_kafka_topic_partition_t *element = &list->elems[consumer->event_index++];
		rd_kafka_resp_err_t err = rd_kafka_event_error(result);

		event->source = consumer_find_source(consumer, element->topic, element->partition);
		if (event->source == NULL)
			continue;
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			err = element->err;
		event->type = DE_CONSUMER_COMMITTED;
		event->offset = element->offset;
		event->outcome = err == RD_KAFKA_RESP_ERR_NO_ERROR ?
			DE_KAFKA_OK :
			de_kafka_classify(consumer->rk, err);
		if (event->outcome != DE_KAFKA_OK)
			snprintf(event->notice.text, sizeof(event->notice.text),
					 "could not commit offset " INT64_FORMAT " of topic \"%s\" partition %d: %s",
					 event->offset, element->topic, element->partition, rd_kafka_err2str(err));
		return true;
	}
	return false;
}

/*
 * Returns the generation of the group.
 *
 * The library has no call for it, but a member's metadata contain it, and can
 * be serialized.  The layout is private; so it is found out, by serializing
 * metadata made with a known generation, not assumed.  Should that fail, the
 * clock takes its place: also a number that grows from one owner of a
 * partition to the next, unless their clocks disagree.
 */
static int32
consumer_read_generation(DeConsumer *consumer)
{
	const int32 known = 0x5AC3965A;
	rd_kafka_consumer_group_metadata_t *probe;
	rd_kafka_consumer_group_metadata_t *metadata;
	char	   *probe_bytes;
	char	   *bytes;
	size_t		probe_size;
	size_t		size;
	int32		generation = -1;

	probe = rd_kafka_consumer_group_metadata_new_with_genid("", known, "", NULL);
	metadata = rd_kafka_consumer_group_metadata(consumer->rk);
	probe_bytes = consumer_serialize_metadata(probe, &probe_size);
	bytes = consumer_serialize_metadata(metadata, &size);
	if (probe_bytes != NULL && bytes != NULL)
	{
		char	   *found = memmem(probe_bytes, probe_size, &known, sizeof(known));

		if (found != NULL && (found - probe_bytes) + sizeof(generation) <= size)
			memcpy(&generation, bytes + (found - probe_bytes), sizeof(generation));
	}
	if (probe_bytes != NULL)
		rd_kafka_mem_free(NULL, probe_bytes);
	if (bytes != NULL)
		rd_kafka_mem_free(NULL, bytes);

	if (generation < 0)
		generation = (int32) (time(NULL) & PG_INT32_MAX);
	return generation;
}

/*
 * Serializes and frees metadata; NULL if that is not possible.
 */
static char *
consumer_serialize_metadata(rd_kafka_consumer_group_metadata_t *metadata, size_t *size)
{
	void	   *bytes = NULL;
	rd_kafka_error_t *error;

	if (metadata == NULL)
		return NULL;
	error = rd_kafka_consumer_group_metadata_write(metadata, &bytes, size);
	rd_kafka_consumer_group_metadata_destroy(metadata);
	if (error == NULL)
		return bytes;
	rd_kafka_error_destroy(error);
	return NULL;
}

static DeSource *
consumer_find_source(DeConsumer *consumer, const char *topic, int32 number)
{
	for (int i = 0; i < consumer->nsources; i++)
	{
		DeSource *source = consumer->sources[i];

		if (source->number == number && strcmp(source->topic, topic) == 0)
			return source;
	}
	return NULL;
}

/*
 * Starts fetching the partitions of an ASSIGN event, from their committed
 * offsets; a group that starts with the latest has to know first which have
 * one.
 */
void
de_consumer_accept_assign(DeConsumer *consumer)
{
	if (!consumer->assigning)
		return;
	if (consumer->from_latest && !consumer->closing && consumer->nsources > 0)
		de_kafka_start_request(consumer);
	else
		consumer_assign(consumer);
}

static void
consumer_assign(DeConsumer *consumer)
{
	rd_kafka_topic_partition_list_t *list;

	consumer->assigning = false;
	list = rd_kafka_topic_partition_list_new(consumer->nsources);
	for (int i = 0; i < consumer->nsources; i++)
	{
		DeSource *source = consumer->sources[i];

		rd_kafka_topic_partition_list_add(list, source->topic, source->number)->offset =
			source->start;
	}
	rd_kafka_assign(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

/*
 * Gives all partitions back, after REVOKE or LOST; they are gone afterwards.
 */
void
de_consumer_accept_revoke(DeConsumer *consumer)
{
	consumer_drop_sources(consumer);
	consumer->serial++;
	rd_kafka_assign(consumer->rk, NULL);
}

static void
consumer_drop_sources(DeConsumer *consumer)
{
	for (int i = 0; i < consumer->nsources; i++)
	{
		DeSource *source = consumer->sources[i];

		de_source_release_record(source);
		if (source->queue != NULL)
			rd_kafka_queue_destroy(source->queue);
	}
	consumer->sources = NULL;
	consumer->nsources = 0;
	consumer->assigning = false;
	consumer->start_retry_at = 0;
	MemoryContextReset(consumer->assignment_context);
}

int32
de_consumer_generation(DeConsumer *consumer)
{
	return consumer->generation;
}

/*
 * Sends the noted offsets in one request; results come as COMMITTED events.
 */
void
de_consumer_send_commits(DeConsumer *consumer)
{
	rd_kafka_topic_partition_list_t *list;

	list = rd_kafka_topic_partition_list_new(consumer->nsources);
	for (int i = 0; i < consumer->nsources; i++)
	{
		DeSource *source = consumer->sources[i];

		if (source->commit < 0)
			continue;
		rd_kafka_topic_partition_list_add(list, source->topic, source->number)->offset =
			source->commit;
		source->commit = -1;
	}

	/* cannot fail here: it only queues a request to the handle's main thread */
	if (list->cnt > 0)
		(void) rd_kafka_commit_queue(consumer->rk, list, consumer->queue, NULL,
									 (void *) (uintptr_t) consumer->serial);
	rd_kafka_topic_partition_list_destroy(list);
}

/*
 * Begins to leave the group; see kafka.h.
 *
 * The queue for the closing has to be another one than the consumer's own:
 * that one is forwarded to it, and would be to itself.
 */
void
de_consumer_close(DeConsumer *consumer)
{
	rd_kafka_error_t *error;
	rd_kafka_queue_t *queue;

	if (consumer->closing)
		return;
	consumer->closing = true;

	/* the library waits for the answer to an assignment before it closes */
	if (consumer->assigning)
		consumer_assign(consumer);

	queue = rd_kafka_queue_new(consumer->rk);
	de_kafka_queue_notify(queue, consumer->fd);
	error = rd_kafka_consumer_close_queue(consumer->rk, queue);
	if (error != NULL)
	{
		/* after a fatal error there is nothing to leave any more */
		rd_kafka_error_destroy(error);
		rd_kafka_queue_destroy(queue);
		consumer->closed = true;
		return;
	}
	consumer_release_event(consumer);
	rd_kafka_queue_destroy(consumer->queue);
	consumer->queue = queue;
}

bool
de_consumer_closed(DeConsumer *consumer)
{
	return consumer->closed || (consumer->closing && rd_kafka_consumer_closed(consumer->rk));
}

/*
 * Frees the consumer; its handle goes in the background.
 */
void
de_consumer_destroy(DeConsumer *consumer)
{
	consumer_drop_sources(consumer);
	consumer_release_event(consumer);
	if (consumer->queue != NULL)
		rd_kafka_queue_destroy(consumer->queue);
	if (consumer->rk == NULL)
		close(consumer->fd);
	else if (!de_kafka_start_abandon(consumer))
		de_kafka_destroy_in_background(consumer->rk, consumer->fd, NULL, NULL);
	MemoryContextDelete(consumer->context);
}
