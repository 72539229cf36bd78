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

static rd_kafka_resp_err_t source_read_headers(DeSource *source, DeRecord *record);
static void source_break(DeSource *source, int64 offset, const char *reason);
static void source_note_error(DeSource *source, const rd_kafka_message_t *message);
static void source_stash_error(DeSource *source,
							   const rd_kafka_message_t *message);

const char *
de_source_topic(DeSource *source)
{
	return source->topic;
}

int32
de_source_number(DeSource *source)
{
	return source->number;
}

void
de_source_set_owner(DeSource *source, void *owner)
{
	source->owner = owner;
}

void *
de_source_owner(DeSource *source)
{
	return source->owner;
}

/*
 * Returns the next record; see kafka.h.
 */
bool
de_source_next_record(DeSource *source, DeRecord *record)
{
	rd_kafka_message_t *message;
	rd_kafka_resp_err_t err;

	de_source_release_record(source);
	if (source->queue == NULL || source->broken != NULL)
		return false;

	while ((message = rd_kafka_consume_queue(source->queue, 0)) != NULL)
	{
		if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			source->end = message->offset;
		else
			source_note_error(source, message);
		rd_kafka_message_destroy(message);
		if (source->broken != NULL)
			return false;
	}
	if (message == NULL)
		return false;

	source->message = message;
	source->end = -1;
	record->topic = source->topic;
	record->partition = source->number;
	record->offset = message->offset;
	record->timestamp_ms = rd_kafka_message_timestamp(message, NULL);
	record->key = message->key;
	record->key_len = (int) message->key_len;
	record->value = message->payload;
	record->value_len = (int) message->len;
	err = source_read_headers(source, record);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return true;
	source_break(source, record->offset,
				 psprintf("its headers cannot be read (%s)", rd_kafka_err2str(err)));
	de_source_release_record(source);
	return false;
}

/*
 * Points record->headers at the message's headers.  An error if the library
 * cannot read them or will not: more than 100,000.  Without them the record
 * would be another event.
 */
static rd_kafka_resp_err_t
source_read_headers(DeSource *source, DeRecord *record)
{
	rd_kafka_headers_t *headers;
	const char *name;
	const void *value;
	size_t		size;
	rd_kafka_resp_err_t err;
	int			n = 0;

	record->headers = NULL;
	record->nheaders = 0;
	err = rd_kafka_message_headers(source->message, &headers);
	if (err == RD_KAFKA_RESP_ERR__NOENT)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return err;

	while (rd_kafka_header_get_all(headers, n, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (n >= source->max_headers)
		{
			int			max = Max(16, source->max_headers * 2);
			Size		bytes = sizeof(DeKafkaHeader) * max;

			if (source->headers == NULL)
				source->headers =
					MemoryContextAlloc(source->consumer->assignment_context, bytes);
			else
				source->headers = repalloc(source->headers, bytes);
			source->max_headers = max;
		}
		source->headers[n].name = name;
		source->headers[n].name_len = (int) strlen(name);
		source->headers[n].value = value;
		source->headers[n].value_len = (int) size;
		n++;
	}
	record->headers = source->headers;
	record->nheaders = n;
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/*
 * Tells errors of the data from those of the moment.
 *
 * Behind the former the library goes on with the next batch of records: their
 * loss would be committed with what follows.  So nothing behind is returned.
 */
static void
source_note_error(DeSource *source, const rd_kafka_message_t *message)
{
	switch (message->err)
	{
		case RD_KAFKA_RESP_ERR__BAD_MSG:	/* check.crcs, or not to be parsed */
		case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
		case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:	/* magic byte, codec */
		case RD_KAFKA_RESP_ERR__UNDERFLOW:
		case RD_KAFKA_RESP_ERR_INVALID_MSG:
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
			source_break(source, message->offset, rd_kafka_message_errstr(message));
			break;
		default:
			source_stash_error(source, message);
	}
}

/*
 * Returns no record any more.
 */
static void
source_break(DeSource *source, int64 offset, const char *reason)
{
	source->broken = MemoryContextStrdup(source->consumer->assignment_context, reason);
	source->broken_at = offset;
	source->end = -1;
}

bool
de_source_broken(DeSource *source, int64 *offset, const char **reason)
{
	*offset = source->broken_at;
	*reason = source->broken;
	return source->broken != NULL;
}

/*
 * Keeps an error of a partition for the next de_consumer_next_event(), and
 * makes sure that it is called.
 */
static void
source_stash_error(DeSource *source, const rd_kafka_message_t *message)
{
	DeConsumer *consumer = source->consumer;
	bool		fatal = de_kafka_classify(consumer->rk, message->err) == DE_KAFKA_FATAL;
	uint64		one = 1;

	/* the last one is told, but none instead of what ends the member */
	if (consumer->has_stashed && consumer->stashed.fatal && !fatal)
		return;
	consumer->has_stashed = true;
	consumer->stashed.all_brokers_down = false;
	consumer->stashed.fatal = fatal;
	snprintf(consumer->stashed.text, sizeof(consumer->stashed.text),
			 "could not fetch from topic \"%s\" partition %d: %s",
			 source->topic, source->number, rd_kafka_message_errstr(message));
	if (write(consumer->fd, &one, sizeof(one)) < 0)
		return;					/* full: readable anyway */
}

void
de_source_release_record(DeSource *source)
{
	if (source->message != NULL)
		rd_kafka_message_destroy(source->message);
	source->message = NULL;
}

int64
de_source_end(DeSource *source)
{
	return source->end;
}

/*
 * Notes an offset for the next de_consumer_send_commits().
 */
void
de_source_commit(DeSource *source, int64 next)
{
	source->commit = next;
}

/*
 * Returns the cached bounds of the log; see kafka.h.
 */
void
de_source_watermarks(DeSource *source, int64 *low, int64 *high)
{
	*low = -1;
	*high = -1;
	if (rd_kafka_get_watermark_offsets(source->consumer->rk, source->topic,
									   source->number, low, high) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;

	/* "not known yet" is a negative number of the library's own */
	*low = Max(*low, -1);
	*high = Max(*high, -1);
}
