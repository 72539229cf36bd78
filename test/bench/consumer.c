/*-------------------------------------------------------------------------
 *
 * consumer.c
 *		Says when each event of a topic reaches a consumer.
 *
 *		consumer BOOTSTRAP TOPIC
 *
 * Prints "READY" when it reads at the end of all partitions, then for each
 * record its ce_id and the time at which it got it, in microseconds of the
 * Unix epoch, until SIGTERM or SIGINT.  No group: nothing but fetching is
 * measured.
 *
 *-------------------------------------------------------------------------
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#define TIMEOUT_MS 10000

static volatile sig_atomic_t stopped = 0;

static void
stop(int signo)
{
	(void) signo;
	stopped = 1;
}

static void
check(const char *what, rd_kafka_resp_err_t err)
{
	if (err)
	{
		fprintf(stderr, "consumer: %s: %s\n", what, rd_kafka_err2str(err));
		exit(1);
	}
}

static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		error[512];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
	{
		fprintf(stderr, "consumer: %s\n", error);
		exit(1);
	}
}

/* All partitions, from where they end now. */
static void
assign_from_end(rd_kafka_t *rk, const char *topic)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
	rd_kafka_topic_partition_list_t *partitions = rd_kafka_topic_partition_list_new(4);

	check("metadata", rd_kafka_metadata(rk, 0, rkt, &metadata, TIMEOUT_MS));
	check(topic, metadata->topics[0].err);
	for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
	{
		int64_t		low;
		int64_t		high;

		check("watermarks", rd_kafka_query_watermark_offsets(rk, topic, i, &low, &high, TIMEOUT_MS));
		rd_kafka_topic_partition_list_add(partitions, topic, i)->offset = high;
	}
	check("assign", rd_kafka_assign(rk, partitions));
	rd_kafka_topic_partition_list_destroy(partitions);
	rd_kafka_metadata_destroy(metadata);
	rd_kafka_topic_destroy(rkt);
}

int
main(int argc, char **argv)
{
	char		error[512];
	struct sigaction action = {.sa_handler = stop};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;

	if (argc != 3)
	{
		fprintf(stderr, "usage: consumer BOOTSTRAP TOPIC\n");
		return 2;
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	set(conf, "bootstrap.servers", argv[1]);
	set(conf, "group.id", "durable_event_bench_consumer");	/* demanded, never joined */
	set(conf, "enable.auto.commit", "false");
	set(conf, "socket.nagle.disable", "true");
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));
	if (rk == NULL)
	{
		fprintf(stderr, "consumer: %s\n", error);
		return 1;
	}
	rd_kafka_poll_set_consumer(rk);
	assign_from_end(rk, argv[2]);
	printf("READY %s\n", argv[2]);
	fflush(stdout);

	while (!stopped)
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 100);
		struct timespec t;
		rd_kafka_headers_t *headers;
		const void *id;
		size_t		size;

		if (message == NULL)
		{
			fflush(stdout);
			continue;
		}
		clock_gettime(CLOCK_REALTIME, &t);
		if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR &&
			rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
			rd_kafka_header_get_last(headers, "ce_id", &id, &size) == RD_KAFKA_RESP_ERR_NO_ERROR)
			printf("%.*s %lld\n", (int) size, (const char *) id,
				   (long long) t.tv_sec * 1000000 + t.tv_nsec / 1000);
		rd_kafka_message_destroy(message);
	}
	fflush(stdout);
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
	return 0;
}
