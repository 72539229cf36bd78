/*-------------------------------------------------------------------------
 *
 * producer.c
 *		A bare librdkafka producer: the ceiling that the relay is measured
 *		against.
 *
 *		producer BOOTSTRAP TOPIC COUNT LINGER_MS QUEUE_KB
 *
 * Sends records of 200 bytes with the headers of an event and with the
 * properties that the relay's guarantees need, and prints the seconds from the
 * first record to the last acknowledgement and the CPU seconds used.  What the
 * relay does besides (reading the outbox, crediting, accounting for each
 * acknowledgement) it does not.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#define PAYLOAD_SIZE 200
#define KEYS 10000

static long acknowledged = 0;

static void
delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	(void) rk;
	(void) opaque;
	if (message->err)
	{
		fprintf(stderr, "producer: %s\n", rd_kafka_err2str(message->err));
		exit(1);
	}
	acknowledged++;
}

static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		error[512];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
	{
		fprintf(stderr, "producer: %s\n", error);
		exit(1);
	}
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void
send_record(rd_kafka_t *rk, rd_kafka_topic_t *topic, long i, const char *payload)
{
	char		key[32];
	char		id[64];
	char		sequence[32];

	snprintf(key, sizeof(key), "entity-%08ld", i % KEYS);
	snprintf(id, sizeof(id), "018f4e3a-7c1b-7abc-8def-%012ld", i);
	snprintf(sequence, sizeof(sequence), "%020ld", i);
	for (;;)
	{
		rd_kafka_headers_t *headers = rd_kafka_headers_new(8);

		rd_kafka_header_add(headers, "ce_specversion", -1, "1.0", -1);
		rd_kafka_header_add(headers, "ce_id", -1, id, -1);
		rd_kafka_header_add(headers, "ce_source", -1, "/durable_event/bench", -1);
		rd_kafka_header_add(headers, "ce_type", -1, "bench_bulk", -1);
		rd_kafka_header_add(headers, "ce_time", -1, "2026-11-23T07:00:00.000000Z", -1);
		rd_kafka_header_add(headers, "ce_subject", -1, key, -1);
		rd_kafka_header_add(headers, "ce_sequence", -1, sequence, -1);
		rd_kafka_header_add(headers, "content-type", -1, "application/json", -1);
		if (rd_kafka_producev(rk,
							  RD_KAFKA_V_RKT(topic),
							  RD_KAFKA_V_KEY(key, strlen(key)),
							  RD_KAFKA_V_VALUE((void *) payload, PAYLOAD_SIZE),
							  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							  RD_KAFKA_V_HEADERS(headers),
							  RD_KAFKA_V_END) == RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		/* the queue is full */
		rd_kafka_headers_destroy(headers);
		rd_kafka_poll(rk, 10);
	}
	if ((i & 1023) == 0)
		rd_kafka_poll(rk, 0);
}

int
main(int argc, char **argv)
{
	char		error[512];
	char		payload[PAYLOAD_SIZE + 1];
	long		count;
	double		begin;
	double		seconds;
	struct rusage usage;
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;
	rd_kafka_topic_t *topic;

	if (argc != 6)
	{
		fprintf(stderr, "usage: producer BOOTSTRAP TOPIC COUNT LINGER_MS QUEUE_KB\n");
		return 2;
	}
	count = atol(argv[3]);
	set(conf, "log_level", "3");	/* it would warn of an experimental property */
	set(conf, "bootstrap.servers", argv[1]);
	set(conf, "linger.ms", argv[4]);
	set(conf, "enable.idempotence", "true");
	set(conf, "enable.gapless.guarantee", "true");
	set(conf, "message.timeout.ms", "0");
	set(conf, "partitioner", "murmur2_random");
	set(conf, "socket.nagle.disable", "true");
	set(conf, "queue.buffering.max.kbytes", argv[5]);
	set(conf, "queue.buffering.max.messages", "1000000");
	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (rk == NULL)
	{
		fprintf(stderr, "producer: %s\n", error);
		return 1;
	}
	topic = rd_kafka_topic_new(rk, argv[2], NULL);

	memset(payload, 'x', sizeof(payload));
	memcpy(payload, "{\"pad\": \"", 9);
	memcpy(payload + PAYLOAD_SIZE - 2, "\"}", 2);

	begin = now();
	for (long i = 0; i < count; i++)
		send_record(rk, topic, i, payload);
	while (acknowledged < count)
		rd_kafka_poll(rk, 50);
	seconds = now() - begin;

	getrusage(RUSAGE_SELF, &usage);
	printf("%.4f %.4f\n", seconds,
		   usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
			   (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(rk);
	return 0;
}
