/*
 * Records of a partition: what becomes of the errors among them.
 *
 * links: worker/kafka/kafka_source.c
 */
#include "postgres.h"

#include <unistd.h>

#include "utils/memutils.h"

#include "tap.h"
#include "worker/kafka/kafka_consumer.h"

/* ---- what the server and the library would be */

static rd_kafka_message_t messages[8];
static int	nmessages = 0;
static int	next_message = 0;

void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	return palloc(size);
}

char *
MemoryContextStrdup(MemoryContext context, const char *string)
{
	return pstrdup(string);
}

DeKafkaOutcome
de_kafka_classify(rd_kafka_t *rk, rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR__FATAL ? DE_KAFKA_FATAL : DE_KAFKA_RETRIABLE;
}

rd_kafka_message_t *
rd_kafka_consume_queue(rd_kafka_queue_t *queue, int timeout_ms)
{
	return next_message < nmessages ? &messages[next_message++] : NULL;
}

void
rd_kafka_message_destroy(rd_kafka_message_t *message)
{
}

const char *
rd_kafka_message_errstr(const rd_kafka_message_t *message)
{
	return rd_kafka_err2str(message->err);
}

const char *
rd_kafka_err2str(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR__FATAL ? "fatal" :
		err == RD_KAFKA_RESP_ERR__BAD_MSG  ? "bad" :
											 "passing";
}

rd_kafka_resp_err_t
rd_kafka_message_headers(const rd_kafka_message_t *message, rd_kafka_headers_t **headers)
{
	return RD_KAFKA_RESP_ERR__NOENT;
}

rd_kafka_resp_err_t
rd_kafka_header_get_all(const rd_kafka_headers_t *headers, size_t i, const char **name,
						const void **value, size_t *size)
{
	return RD_KAFKA_RESP_ERR__NOENT;
}

int64_t
rd_kafka_message_timestamp(const rd_kafka_message_t *message, rd_kafka_timestamp_type_t *type)
{
	return -1;
}

rd_kafka_resp_err_t
rd_kafka_get_watermark_offsets(rd_kafka_t *rk, const char *topic, int32_t partition, int64_t *low,
							   int64_t *high)
{
	return RD_KAFKA_RESP_ERR__NOENT;
}

/* ---- */

static DeConsumer consumer;
static DeSource source;
static DeRecord record;
static int	pipe_fds[2];

/* The next record, if these come first; 0 = a record. */
static bool
next_of(int n, const rd_kafka_resp_err_t *errors)
{
	memset(messages, 0, sizeof(messages));
	for (int i = 0; i < n; i++)
		messages[i].err = errors[i];
	nmessages = n;
	next_message = 0;
	return de_source_next_record(&source, &record);
}

static void
begin(void)
{
	memset(&consumer, 0, sizeof(consumer));
	memset(&source, 0, sizeof(source));
	consumer.fd = pipe_fds[1];
	source.consumer = &consumer;
	source.topic = "t";
	source.queue = (rd_kafka_queue_t *) &source;
}

int
main(void)
{
	const rd_kafka_resp_err_t passing[] = {RD_KAFKA_RESP_ERR__TRANSPORT, 0};
	const rd_kafka_resp_err_t fatal_first[] = {RD_KAFKA_RESP_ERR__FATAL,
											   RD_KAFKA_RESP_ERR__TRANSPORT, 0};
	const rd_kafka_resp_err_t fatal_last[] = {RD_KAFKA_RESP_ERR__TRANSPORT,
											  RD_KAFKA_RESP_ERR__FATAL, 0};
	const rd_kafka_resp_err_t bad[] = {RD_KAFKA_RESP_ERR__BAD_MSG, 0};
	int64		offset;
	const char *reason;
	char		c[64];

	if (pipe(pipe_fds) != 0)
		exit(1);

	begin();
	ok(next_of(2, passing) && consumer.has_stashed && !consumer.stashed.fatal,
	   "an error of the moment is kept, and the record behind it returned");
	ok(read(pipe_fds[0], c, sizeof(c)) == 8, "and announced");

	begin();
	ok(next_of(3, fatal_last) && consumer.stashed.fatal, "a fatal one takes the place of another");

	begin();
	ok(next_of(3, fatal_first) && consumer.stashed.fatal &&
		   strstr(consumer.stashed.text, ": fatal") != NULL,
	   "no other takes the place of a fatal one");
	ok(next_of(2, passing) && consumer.stashed.fatal, "nor later");
	consumer.has_stashed = false;	/* taken */
	ok(next_of(2, passing) && consumer.has_stashed && !consumer.stashed.fatal,
	   "but when that has been told");

	begin();
	ok(!next_of(2, bad) && de_source_broken(&source, &offset, &reason) && strcmp(reason, "bad") == 0,
	   "behind what cannot be read nothing is returned");
	ok(!next_of(2, passing), "nor later");
	return tap_done();
}
