/*-------------------------------------------------------------------------
 *
 * kafka_source.c
 *		The records of one assigned partition.
 *
 *	 - Back-pressure is not reading a partition's queue.  Pausing it would
 *	   throw the prefetched records away and fetch them again.
 *	 - Records are taken one at a time: the library's batch call skips records
 *	   at a rebalance before 2.1.0.
 *	 - A record keeps the buffer of its whole fetch alive, so at most one is
 *	   held at a time.
 *
 * Partitions are made and freed with an assignment, by kafka_consumer.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "utils/memutils.h"

#include "worker/kafka/kafka_consumer.h"

static void partition_read_headers(DeConsumerPartition *partition, DeRecord *record);
static void partition_stash_error(DeConsumerPartition *partition,
								  const rd_kafka_message_t *message);

const char *
de_partition_topic(DeConsumerPartition *partition)
{
	return partition->topic;
}

int32
de_partition_number(DeConsumerPartition *partition)
{
	return partition->number;
}

void
de_partition_set_owner(DeConsumerPartition *partition, void *owner)
{
	partition->owner = owner;
}

void *
de_partition_owner(DeConsumerPartition *partition)
{
	return partition->owner;
}

/*
 * Returns the next record; see kafka.h.
 */
bool
de_partition_next_record(DeConsumerPartition *partition, DeRecord *record)
{
	rd_kafka_message_t *message;

	de_partition_release_record(partition);
	if (partition->queue == NULL)
		return false;

	while ((message = rd_kafka_consume_queue(partition->queue, 0)) != NULL)
	{
		if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			partition->end = message->offset;
		else
			partition_stash_error(partition, message);
		rd_kafka_message_destroy(message);
	}
	if (message == NULL)
		return false;

	partition->message = message;
	partition->end = -1;
	record->topic = partition->topic;
	record->partition = partition->number;
	record->offset = message->offset;
	record->timestamp_ms = rd_kafka_message_timestamp(message, NULL);
	record->key = message->key;
	record->key_len = (int) message->key_len;
	record->value = message->payload;
	record->value_len = (int) message->len;
	partition_read_headers(partition, record);
	return true;
}

/*
 * Points record->headers at the message's headers.
 */
static void
partition_read_headers(DeConsumerPartition *partition, DeRecord *record)
{
	rd_kafka_headers_t *headers;
	const char *name;
	const void *value;
	size_t		size;
	int			n = 0;

	record->headers = NULL;
	record->nheaders = 0;
	if (rd_kafka_message_headers(partition->message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;

	while (rd_kafka_header_get_all(headers, n, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (n >= partition->max_headers)
		{
			int			max = Max(16, partition->max_headers * 2);
			Size		bytes = sizeof(DeKafkaHeader) * max;

			if (partition->headers == NULL)
				partition->headers =
					MemoryContextAlloc(partition->consumer->assignment_context, bytes);
			else
				partition->headers = repalloc(partition->headers, bytes);
			partition->max_headers = max;
		}
		partition->headers[n].name = name;
		partition->headers[n].name_len = (int) strlen(name);
		partition->headers[n].value = value;
		partition->headers[n].value_len = (int) size;
		n++;
	}
	record->headers = partition->headers;
	record->nheaders = n;
}

/*
 * Keeps an error of a partition for the next de_consumer_next_event(), and
 * makes sure that it is called.
 */
static void
partition_stash_error(DeConsumerPartition *partition, const rd_kafka_message_t *message)
{
	DeConsumer *consumer = partition->consumer;
	uint64		one = 1;

	consumer->has_stashed = true;
	consumer->stashed.all_brokers_down = false;
	consumer->stashed.fatal = de_kafka_classify(consumer->rk, message->err) == DE_KAFKA_FATAL;
	snprintf(consumer->stashed.text, sizeof(consumer->stashed.text),
			 "could not fetch from topic \"%s\" partition %d: %s",
			 partition->topic, partition->number, rd_kafka_message_errstr(message));
	if (write(consumer->fd, &one, sizeof(one)) < 0)
		return;					/* full: readable anyway */
}

void
de_partition_release_record(DeConsumerPartition *partition)
{
	if (partition->message != NULL)
		rd_kafka_message_destroy(partition->message);
	partition->message = NULL;
}

int64
de_partition_end(DeConsumerPartition *partition)
{
	return partition->end;
}

/*
 * Notes an offset for the next de_consumer_send_commits().
 */
void
de_partition_commit(DeConsumerPartition *partition, int64 next)
{
	partition->commit = next;
}

/*
 * Returns the cached bounds of the log; see kafka.h.
 */
void
de_partition_watermarks(DeConsumerPartition *partition, int64 *low, int64 *high)
{
	*low = -1;
	*high = -1;
	if (rd_kafka_get_watermark_offsets(partition->consumer->rk, partition->topic,
									   partition->number, low, high) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;

	/* "not known yet" is a negative number of the library's own */
	*low = Max(*low, -1);
	*high = Max(*high, -1);
}
