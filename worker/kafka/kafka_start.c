/*-------------------------------------------------------------------------
 *
 * kafka_start.c
 *		Where the partitions of an assignment start that have no committed
 *		offset, in a group that starts with the latest events.
 *
 * The library's own way, auto.offset.reset=latest, loses events: it goes to
 * the end as well when the committed offset is not in the log any more (the
 * handler was down for longer than the topic's retention: all that is left
 * would be skipped), when a partition is added to a topic, and when a topic
 * comes to be after the group that waits for it.  So the reset is always
 * "earliest", and the end is asked for by name, in the assignment, for those
 * partitions only that were there before the group was.
 *
 * A partition without a committed offset was there before if
 *
 *	 - no partition of its topic with a lower number has one (partitions are
 *	   added behind the others; a group commits at the end of silent
 *	   partitions too), and
 *	 - the library has not complained since we subscribed that its topic does
 *	   not exist.
 *
 * So committed offsets are needed before the assignment is accepted.  The
 * admin request gives them without waiting; rd_kafka_committed() blocks.
 *
 * Called by kafka_consumer.c, for such groups only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "extension/base/clock.h"
#include "worker/kafka/kafka_consumer.h"

#define START_REQUEST_TIMEOUT_MS 10000

/* Between attempts; the next look at the queue after it is within a second. */
#define START_RETRY_MS 200

static bool start_was_absent(DeConsumer *consumer, const char *topic);
static bool start_is_committed(const rd_kafka_topic_partition_list_t *committed,
							   const char *topic, int32 number);

/*
 * The subscription is new.
 */
void
de_kafka_start_forget(DeConsumer *consumer)
{
	list_free_deep(consumer->absent_topics);
	consumer->absent_topics = NIL;
}

/*
 * Remembers the topic of a complaint that it does not exist.  The event names
 * it in its text only, "what: topic: why"; should another version say that
 * otherwise, the topic starts at its end when it comes.
 */
void
de_kafka_start_note_error(DeConsumer *consumer, rd_kafka_event_t *event)
{
	char		name[256];		/* Kafka allows 249 */
	const char *text;
	const char *end;

	if (rd_kafka_event_type(event) != RD_KAFKA_EVENT_ERROR ||
		rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
		(text = strstr(rd_kafka_event_error_string(event), ": ")) == NULL ||
		(end = strstr(text + 2, ": ")) == NULL || end - text - 2 >= sizeof(name))
		return;

	strlcpy(name, text + 2, end - text - 1);
	if (!start_was_absent(consumer, name))
	{
		MemoryContext old = MemoryContextSwitchTo(consumer->context);

		consumer->absent_topics = lappend(consumer->absent_topics, pstrdup(name));
		MemoryContextSwitchTo(old);
	}
}

/*
 * Asks for the committed offsets of the assignment's topics; the answer comes
 * as an event, which de_kafka_start_finish() takes.
 */
void
de_kafka_start_request(DeConsumer *consumer)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_ListConsumerGroupOffsets_t *request;
	rd_kafka_AdminOptions_t *options;
	char		text[DE_KAFKA_ERROR_SIZE];

	consumer->start_retry_at = 0;

	/* those below belong to others perhaps, but tell that the topic is known */
	list = rd_kafka_topic_partition_list_new(consumer->nsources);
	for (int i = 0; i < consumer->nsources; i++)
	{
		DeSource *source = consumer->sources[i];

		for (int32 number = source->number; number >= 0; number--)
		{
			if (rd_kafka_topic_partition_list_find(list, source->topic, number) != NULL)
				break;
			rd_kafka_topic_partition_list_add(list, source->topic, number);
		}
	}
	request = rd_kafka_ListConsumerGroupOffsets_new(consumer->group_id, list);
	options = rd_kafka_AdminOptions_new(consumer->rk, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
	(void) rd_kafka_AdminOptions_set_request_timeout(options, START_REQUEST_TIMEOUT_MS, text,
													 sizeof(text));
	rd_kafka_AdminOptions_set_opaque(options, (void *) (uintptr_t) consumer->serial);
	rd_kafka_ListConsumerGroupOffsets(consumer->rk, &request, 1, options, consumer->queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_ListConsumerGroupOffsets_destroy(request);
	rd_kafka_topic_partition_list_destroy(list);
}

/*
 * Takes the answer to that and sets the start of each partition; false if the
 * assignment is not to be accepted yet: the answer is of a former one, or an
 * error, after which it is asked for again.
 */
bool
de_kafka_start_finish(DeConsumer *consumer, rd_kafka_event_t *event)
{
	const rd_kafka_ListConsumerGroupOffsets_result_t *result;
	const rd_kafka_group_result_t **groups = NULL;
	const rd_kafka_topic_partition_list_t *committed = NULL;
	size_t		ngroups = 0;

	if (!consumer->assigning ||
		(uintptr_t) rd_kafka_event_opaque(event) != (uintptr_t) consumer->serial)
		return false;

	result = rd_kafka_event_ListConsumerGroupOffsets_result(event);
	if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR && result != NULL)
		groups = rd_kafka_ListConsumerGroupOffsets_result_groups(result, &ngroups);
	if (ngroups == 1 && rd_kafka_group_result_error(groups[0]) == NULL)
		committed = rd_kafka_group_result_partitions(groups[0]);

	/* an error of one partition would look like "nothing committed" */
	for (int i = 0; committed != NULL && i < committed->cnt; i++)
	{
		if (committed->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
			committed = NULL;
	}
	if (committed == NULL)
	{
		consumer->start_retry_at = de_monotonic_ms() + START_RETRY_MS;
		return false;
	}

	for (int i = 0; i < consumer->nsources; i++)
	{
		DeSource *source = consumer->sources[i];
		bool		known = start_was_absent(consumer, source->topic);

		for (int32 number = source->number; number >= 0 && !known; number--)
			known = start_is_committed(committed, source->topic, number);
		source->start = known ? RD_KAFKA_OFFSET_INVALID : RD_KAFKA_OFFSET_END;
	}
	return true;
}

static bool
start_was_absent(DeConsumer *consumer, const char *topic)
{
	ListCell   *lc;

	foreach(lc, consumer->absent_topics)
	{
		if (strcmp(lfirst(lc), topic) == 0)
			return true;
	}
	return false;
}

static bool
start_is_committed(const rd_kafka_topic_partition_list_t *committed, const char *topic,
				   int32 number)
{
	for (int i = 0; i < committed->cnt; i++)
	{
		if (committed->elems[i].partition == number &&
			strcmp(committed->elems[i].topic, topic) == 0)
			return committed->elems[i].offset >= 0;
	}
	return false;
}
