/*-------------------------------------------------------------------------
 *
 * kafka_consumer_conf.c
 *		How a member's librdkafka handle is configured.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/prctl.h>

#include "extension/base/guc.h"
#include "worker/kafka/kafka_consumer.h"

/*
 * The library's main thread rounds a sleep down to whole milliseconds and
 * then spins until its timer is due (mended in 2.5).  More timer slack than
 * that ends the spin: 330 idle groups fall from a third of a core to 7 %.
 * Threads inherit the slack of their creator.  It delays timers only; what
 * arrives on a socket or in a queue wakes at once.
 */
#define CONSUMER_TIMER_SLACK_NS (10 * 1000 * 1000UL)

/*
 * After so many ms without a heartbeat the broker gives a member's partitions
 * to others: what a killed worker's events wait for.  The library's 45 s are
 * long for that; brokers accept no less than 6 s by default.
 */
#define CONSUMER_SESSION_TIMEOUT "10000"

static bool consumer_check_rack(rd_kafka_conf_t *conf, char *error, int error_size);

/*
 * Creates the library's handle; see kafka_consumer.h.
 */
rd_kafka_t *
de_kafka_consumer_new(const DeConsumerOptions *options, char *error, int error_size)
{
	char		queue_kbytes[16];
	char		queue_messages[16];
	char		fetch_bytes[16];
	char		refresh_ms[16];
	/* what an operator may set otherwise in kafka_config */
	const char *defaults[] = {
		"fetch.wait.max.ms", "500",
		"session.timeout.ms", CONSUMER_SESSION_TIMEOUT,
		"heartbeat.interval.ms", "3000",
		"topic.metadata.refresh.interval.ms", refresh_ms,
		NULL
	};
	const char *fixed[] = {
		"group.id", options->group_id,
		"partition.assignment.strategy", "roundrobin",
		"enable.auto.commit", "false",
		"enable.auto.offset.store", "false",
		"auto.offset.reset", "earliest",	/* also from_latest: see kafka_start.c */
		"enable.partition.eof", "true",
		"allow.auto.create.topics", "false",
		"queued.max.messages.kbytes", queue_kbytes,
		"queued.min.messages", queue_messages,
		"fetch.message.max.bytes", fetch_bytes,
		NULL
	};
	char		text[DE_KAFKA_ERROR_SIZE];
	rd_kafka_conf_t *conf;
	rd_kafka_t *rk;
	int			slack;
	int			queue_bytes = Max(options->queue_bytes, 64 * 1024);

	/*
	 * A queue that has reached a threshold is looked at again by the library
	 * after up to a second (until 2.2.0, which made that an option, below):
	 * it has to last for that second, so it takes its whole budget.  A queued
	 * record costs about 400 bytes besides its data, hence the two halves.
	 * An event larger than a fetch still comes, alone.
	 */
	snprintf(queue_kbytes, sizeof(queue_kbytes), "%d", Max(queue_bytes / 2 / 1024, 1));
	snprintf(queue_messages, sizeof(queue_messages), "%d",
			 Min(Max(queue_bytes / 2 / 400, 100), 100000));
	snprintf(fetch_bytes, sizeof(fetch_bytes), "%d",
			 Min(Max(queue_bytes / 4, 32 * 1024), 1024 * 1024));
	snprintf(refresh_ms, sizeof(refresh_ms), "%d", options->metadata_refresh_ms);

	conf = de_kafka_conf_build(de_bootstrap_servers, de_kafka_config, defaults, fixed,
							   RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT |
								   RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG,
							   error, error_size);
	if (conf == NULL)
		return NULL;
	if (!consumer_check_rack(conf, error, error_size))
	{
		rd_kafka_conf_destroy(conf);
		return NULL;
	}

	if (rd_kafka_version() >= 0x02020000)
		(void) rd_kafka_conf_set(conf, "fetch.queue.backoff.ms", "10", text, sizeof(text));

	/* our own waits stay exact: linger and backoff are timeouts of this thread */
	slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
	(void) prctl(PR_SET_TIMERSLACK, CONSUMER_TIMER_SLACK_NS, 0, 0, 0);
	rk = de_kafka_new(RD_KAFKA_CONSUMER, conf, error, error_size);
	if (slack > 0)
		(void) prctl(PR_SET_TIMERSLACK, (unsigned long) slack, 0, 0, 0);
	if (rk == NULL)
		return NULL;

	/*
	 * Without this, lines of the log pile up in a queue that nobody can read.
	 * NULL: the main queue, which is part of the consumer's.
	 */
	rd_kafka_set_log_queue(rk, NULL);
	return rk;
}

/*
 * Refuses client.rack where fetching from the nearest replica runs into an
 * assertion of the library: it would abort the process, and restart the server.
 */
static bool
consumer_check_rack(rd_kafka_conf_t *conf, char *error, int error_size)
{
	size_t		size = 0;

	/* the size includes its NUL */
	if (rd_kafka_version() >= 0x02010100 ||
		rd_kafka_conf_get(conf, "client.rack", NULL, &size) != RD_KAFKA_CONF_OK || size <= 1)
		return true;
	snprintf(error, error_size,
			 "property \"client.rack\" in durable_event.kafka_config needs librdkafka 2.1.1 or newer for consumer groups, this is %s",
			 rd_kafka_version_str());
	return false;
}
