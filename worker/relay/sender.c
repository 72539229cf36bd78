/*-------------------------------------------------------------------------
 *
 * sender.c
 *		The relay's Kafka side.
 *
 * Order.  Events go to the producer in the order of their ids, and a producer
 * keeps the order of each partition or dies (kafka_producer.c).  When it dies,
 * or anything in flight is given back to us, nothing later may be sent by
 * anybody before the first of what was not acknowledged: the producer is given
 * up as a whole, the window forgotten, and its successor begins after the
 * acknowledged position ("rewind").  The successor is not made before the
 * threads of its predecessor have ended and closed their connections, or both
 * would be sending.  What a broker had already received by then it may still
 * append afterwards; that is the gap of at-least-once that README.md,
 * "Guarantees", names.
 *
 * What is repeated by a rewind is at most the window (G6), which
 * relay_buffer_size bounds.
 *
 * An event that Kafka refuses for good is neither skipped nor overtaken.
 * Until topics can be parked, it stops everything: it is named in last_error
 * and tried again with backoff.  A broker refuses a request as a whole, though,
 * whichever of its events is to blame.  So up to the last event of what was
 * refused they are sent one by one, with nothing else in flight: that finds the
 * one, and further attempts repeat none of the events around it that other
 * partitions have taken.  The window may hold tens of thousands, which one by
 * one would take minutes, so each group that is acknowledged doubles the next,
 * and the next refusal begins with one again.
 *
 * Failures are told once: one LOG line when events cease to get through, one
 * when they do again.  What the library reports each second in between goes to
 * last_error only.
 *
 * Kafka is taken to be away when events are in flight and nothing was
 * acknowledged for a while.  The library's own word that all brokers are down
 * shortens that wait and is not enough: it says so too when the last idle
 * connection is closed, and never takes it back.
 *
 * One partition without a leader holds the acknowledged position, and with the
 * window or the buffer full of its events everything (until topics have a
 * credit of their own).  Others' acknowledgements would hide that for long, so
 * the oldest event in flight is watched by itself and named ("stalled").
 *
 * Main thread of the relay only.  The exit callback may come at any point, so
 * the producer is let go of in one assignment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "extension/base/clock.h"
#include "extension/base/guc.h"
#include "worker/base/backoff.h"
#include "worker/kafka/producer.h"
#include "worker/life/worker.h"
#include "worker/relay/envelope.h"
#include "worker/relay/sender.h"
#include "worker/relay/window.h"

/* Before another attempt with a new producer. */
#define SENDER_RETRY_MIN_MS 1000
#define SENDER_RETRY_MAX_MS 30000

/* Nothing acknowledged for so long: away; the first after all brokers were reported down. */
#define SENDER_AWAY_DOWN_MS 1500
#define SENDER_AWAY_SILENT_MS 10000

/* The oldest event in flight not acknowledged for so long, though later ones may be. */
#define SENDER_STALLED_MS 10000

/*
 * Others get through if they are acknowledged so much later than the last of
 * its predecessors.  So long it may still come after them: when Kafka answers
 * again after a standstill, its partition need not be the first.
 */
#define SENDER_OVERTAKEN_MS 1000
#define SENDER_OVERTAKEN_GRACE_MS 3000

/* How long a dead producer's reports are waited for, which say what killed it. */
#define SENDER_LAST_WORDS_MS 200

/* How long a producer that is to be replaced may take to finish. */
#define SENDER_RETIRE_MS 3000

/* A predecessor that has not ended by then never will: a new process is needed. */
#define SENDER_TEARDOWN_MS 60000

/*
 * What a record costs besides its bytes: the library's structures for it and
 * for each header, the window's entry.
 */
#define SENDER_RECORD_COST 400
#define SENDER_HEADER_COST 64

/*
 * Entries of the window: what fits relay_buffer_size, and as many again that
 * are acknowledged but not at the front.  Not more than 24 MB of them.
 */
#define SENDER_WINDOW_MAX (1024 * 1024)
#define SENDER_WINDOW_SIZE(buffer_kb) Min(SENDER_WINDOW_MAX, (buffer_kb) *2)

/* Events in flight together at most while the one that was refused is looked for. */
#define SENDER_ALONE_MAX 4096

struct DeSender
{
	DeDatabase *db;
	DeTopics   *topics;
	DeProducer *producer;		/* NULL = none */
	WaitEventSet *wait_set;
	DeWindow   *window;
	int			window_size;
	DeEnvelope	envelope;
	MemoryContext context;		/* of the envelope: of one producer's life */
	bool		enabled;
	uint32		rewinds;

	/* this producer */
	bool		connected;		/* a broker has answered */
	bool		down_notice;	/* all brokers were reported down since the last answer */
	int64		polled_at;		/* begin of this turn */
	int64		active_at;		/* when Kafka last answered or was last given something to do */
	int64		dead_at;		/* it reported its death; 0 = alive */
	bool		refused;		/* of a refused event */
	int64		retire_at;		/* give it up then at the latest; 0 = it may stay */

	/* the next one */
	int			attempts;		/* producers given up in a row */
	int64		retry_at;
	int64		teardown_since; /* 0 = no predecessor left */

	/* what is wrong */
	bool		failing;		/* told in the log, not yet taken back */
	int64		failing_since;
	int			failures;
	int64		alone_until;	/* events up to this id are sent in small groups; 0 = none */
	int			alone_limit;	/* size of a group */
	int			alone_left;		/* of that, not sent yet */
	char		refused_topic[DE_MAX_TOPIC_LENGTH + 1]; /* of the last refusal */
	int64		front_acked;	/* the acknowledged position, and since when it stands */
	int64		front_since;
	int64		overtaken_at;	/* when others got through after that; 0 = not yet */
	int64		stalled_at;		/* front_since of a stall that was told; 0 = none */
	bool		topic_trouble;	/* the event at hand waits for a topic that cannot be made */
	char		notice[DE_KAFKA_ERROR_SIZE];	/* the library's last word */
	char		reason[DE_KAFKA_ERROR_SIZE];	/* why it reported its death */

	TimestampTz reported_oldest;

	/* figures not yet in shared memory */
	uint64		events_acked;
	uint64		bytes_acked;
	uint64		produce_errors;
};

static void sender_size_window(DeSender *sender);
static void sender_build(DeSender *sender, int64 now);
static void sender_drop_producer(DeSender *sender);
static void sender_give_up(DeSender *sender, const char *reason);
static void sender_trouble(DeSender *sender, const char *reason);
static void sender_check_away(DeSender *sender, int64 now);
static void sender_check_stalled(DeSender *sender, int64 now);
static void sender_check_recovered(DeSender *sender, int64 now);
static void sender_refused(DeSender *sender, int64 id, const char *topic, const char *error);
static void sender_delivered(void *arg, const DeProduceReport *delivery);
static void sender_notice(void *arg, const DeKafkaNotice *notice);

/*
 * Makes a sender.
 */
DeSender *
de_sender_create(DeDatabase *db, MemoryContext parent, DeTopics *topics)
{
	DeSender   *sender = MemoryContextAllocZero(parent, sizeof(DeSender));

	sender->db = db;
	sender->topics = topics;
	sender->context = AllocSetContextCreate(parent, "durable_event sender",
											ALLOCSET_SMALL_SIZES);
	sender_size_window(sender);
	return sender;
}

/*
 * Gives the window the size that the settings ask for.  It must be of no
 * producer: tokens begin anew.
 */
static void
sender_size_window(DeSender *sender)
{
	int			size = SENDER_WINDOW_SIZE(de_relay_buffer_size);
	DeWindow   *window;

	if (size == sender->window_size)
		return;
	window = de_window_create(size);
	if (window == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	if (sender->window != NULL)
	{
		de_window_reset(window, de_window_acked(sender->window));
		de_window_destroy(sender->window);
	}
	sender->window = window;
	sender->window_size = size;
}

/*
 * Begins anew after an id.
 */
void
de_sender_begin(DeSender *sender, int64 position)
{
	de_window_reset(sender->window, position);
	sender->alone_until = 0;
	/* the event at hand is none any more */
	sender->topic_trouble = false;
	sender->rewinds++;
}

/*
 * Allows or forbids a producer.
 */
void
de_sender_enable(DeSender *sender, bool enabled)
{
	if (sender->enabled == enabled)
		return;
	sender->enabled = enabled;
	if (enabled)
	{
		sender->retry_at = 0;
		sender->attempts = 0;
	}
	else
	{
		de_sender_reconfigure(sender);
		sender->failing = false;
	}
}

/*
 * Has the producer replaced; events wait until it is.
 */
void
de_sender_reconfigure(DeSender *sender)
{
	if (sender->producer != NULL && sender->retire_at == 0)
		sender->retire_at = de_monotonic_ms() + SENDER_RETIRE_MS;
	/* a producer that could not be made, or that failed, may do now */
	sender->retry_at = 0;
	sender->attempts = 0;
}

/*
 * One turn; see sender.h.
 */
void
de_sender_run(DeSender *sender)
{
	int64		now = de_monotonic_ms();

	if (sender->producer == NULL)
	{
		if (sender->enabled && now >= sender->retry_at)
			sender_build(sender, now);
		if (sender->producer == NULL)
			return;
	}

	sender->polled_at = now;
	de_producer_poll(sender->producer, sender_delivered, sender_notice, sender);

	if (sender->alone_until != 0 && de_window_acked(sender->window) >= sender->alone_until)
		sender->alone_until = 0;
	if (!sender->connected && de_producer_has_connected(sender->producer))
	{
		sender->connected = true;
		sender->active_at = now;
	}
	if (sender->connected)
		de_topics_run(sender->topics, sender->producer);

	if (sender->dead_at != 0 &&
		(sender->refused || now - sender->dead_at >= SENDER_LAST_WORDS_MS ||
		 de_window_unacked(sender->window) == 0))
		sender_give_up(sender, sender->reason);
	else if (sender->retire_at != 0 &&
			 (now >= sender->retire_at || de_window_unacked(sender->window) == 0 ||
			  de_sender_is_away(sender)))
		sender_drop_producer(sender);
	else
	{
		sender_check_stalled(sender, now);
		sender_check_away(sender, now);
		sender_check_recovered(sender, now);
	}
}

/*
 * Makes a producer, once its predecessor has ended.
 */
static void
sender_build(DeSender *sender, int64 now)
{
	char		error[DE_KAFKA_ERROR_SIZE];
	MemoryContext old;
	int			fd;

	if (!de_kafka_teardown_wait(0))
	{
		if (now - sender->teardown_since >= SENDER_TEARDOWN_MS)
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("connections to Kafka did not end within %d seconds",
							SENDER_TEARDOWN_MS / 1000),
					 errdetail("A new process will take over.")));
		return;
	}

	sender_size_window(sender);
	sender->producer = de_producer_create(error, sizeof(error));
	if (sender->producer == NULL)
	{
		/* nothing but other settings will change that, and they reset retry_at */
		sender->retry_at = now + SENDER_RETRY_MAX_MS;
		sender_trouble(sender, error);
		return;
	}
	fd = de_producer_fd(sender->producer);
	if (sender->wait_set != NULL)
		FreeWaitEventSet(sender->wait_set);
	sender->wait_set = NULL;
	sender->wait_set = de_worker_create_wait_set(1, &fd);

	MemoryContextReset(sender->context);
	old = MemoryContextSwitchTo(sender->context);
	de_envelope_init(&sender->envelope, pstrdup(de_source));
	MemoryContextSwitchTo(old);

	sender->connected = false;
	sender->down_notice = false;
	sender->active_at = now;
	sender->dead_at = 0;
	sender->refused = false;
	sender->retire_at = 0;
}

/*
 * Lets go of the producer and forgets what it had in flight.
 */
static void
sender_drop_producer(DeSender *sender)
{
	DeProducer *producer = sender->producer;

	/* a set must not hold a descriptor that is closed elsewhere and may be given out again */
	if (sender->wait_set != NULL)
		FreeWaitEventSet(sender->wait_set);
	sender->wait_set = NULL;
	sender->producer = NULL;
	sender->connected = false;
	sender->dead_at = 0;
	sender->refused = false;
	sender->retire_at = 0;
	sender->teardown_since = de_monotonic_ms();
	de_producer_destroy(producer);
	de_topics_restart(sender->topics, sender->alone_until != 0 ? sender->refused_topic : NULL);
	de_window_reset(sender->window, de_window_acked(sender->window));
	/* what stalled is in flight no more, which is not the same as acknowledged */
	sender->stalled_at = 0;
	sender->front_acked = -1;
	sender->rewinds++;
}

/*
 * Gives the producer up because it failed.
 */
static void
sender_give_up(DeSender *sender, const char *reason)
{
	sender->attempts++;
	sender->retry_at = de_monotonic_ms() +
		de_backoff_ms(sender->attempts, SENDER_RETRY_MIN_MS, SENDER_RETRY_MAX_MS,
					  pg_prng_double(&pg_global_prng_state));
	sender_trouble(sender, reason);
	sender_drop_producer(sender);
}

/*
 * Events do not get through: says so, in the log the first time.
 */
static void
sender_trouble(DeSender *sender, const char *reason)
{
	de_relay_report_error(sender->db, reason);
	sender->failures++;
	if (sender->failing)
		return;
	sender->failing = true;
	sender->failing_since = de_monotonic_ms();
	sender->failures = 1;
	ereport(LOG,
			(errmsg("could not send events to Kafka, trying again until it succeeds"),
			 errdetail("%s", reason)));
}

/*
 * Is Kafka silent although there is something to answer?
 */
static void
sender_check_away(DeSender *sender, int64 now)
{
	int64		silent = now - sender->active_at;

	if (sender->failing || (sender->connected && de_window_unacked(sender->window) == 0))
		return;
	if (silent < (sender->down_notice ? SENDER_AWAY_DOWN_MS : SENDER_AWAY_SILENT_MS))
		return;
	if (sender->stalled_at != 0)
	{
		char		reason[DE_KAFKA_ERROR_SIZE];

		/* Kafka is there: what is in flight now is all behind that event */
		snprintf(reason, sizeof(reason),
				 "event %lld is not acknowledged for %d seconds, and what may be in flight behind it is used up: its partition may have no leader",
				 (long long) de_window_acked(sender->window) + 1,
				 (int) ((now - sender->stalled_at) / 1000));
		sender_trouble(sender, reason);
	}
	else if (sender->notice[0] != '\0')
		sender_trouble(sender, sender->notice);
	else
	{
		char		reason[DE_KAFKA_ERROR_SIZE];

		snprintf(reason, sizeof(reason), "no answer from \"%s\" for %d seconds",
				 de_bootstrap_servers, (int) (silent / 1000));
		sender_trouble(sender, reason);
	}
}

/*
 * Does the oldest event in flight wait, although others get through?  Says
 * so, and that it is over.
 */
static void
sender_check_stalled(DeSender *sender, int64 now)
{
	int64		acked = de_window_acked(sender->window);
	char		reason[DE_KAFKA_ERROR_SIZE];

	if (acked != sender->front_acked || de_window_unacked(sender->window) == 0)
	{
		if (sender->stalled_at != 0)
			ereport(LOG,
					(errmsg("the event that held back others reached Kafka after %lld seconds",
							(long long) ((now - sender->stalled_at + 500) / 1000))));
		sender->stalled_at = 0;
		sender->front_acked = acked;
		sender->front_since = now;
		sender->overtaken_at = 0;
		return;
	}
	if (sender->overtaken_at == 0 &&
		sender->active_at - sender->front_since >= SENDER_OVERTAKEN_MS)
		sender->overtaken_at = now;
	/* that nothing gets through is the more general complaint */
	if (sender->stalled_at != 0 || sender->failing ||
		now - sender->front_since < SENDER_STALLED_MS ||
		sender->overtaken_at == 0 || now - sender->overtaken_at < SENDER_OVERTAKEN_GRACE_MS)
		return;
	sender->stalled_at = sender->front_since;
	snprintf(reason, sizeof(reason),
			 "event %lld is not acknowledged for %d seconds, though later ones are: its partition may have no leader",
			 (long long) acked + 1, SENDER_STALLED_MS / 1000);
	de_relay_report_error(sender->db, reason);
	ereport(LOG,
			(errmsg("an event does not reach Kafka and holds back others"),
			 errdetail("%s", reason)));
}

/*
 * Takes a failure back when nothing is left of it.
 */
static void
sender_check_recovered(DeSender *sender, int64 now)
{
	if (!sender->failing || sender->alone_until != 0 || sender->topic_trouble || !sender->connected)
		return;
	/* a producer died: that its successor has connected proves nothing yet, that it lives does */
	if (sender->attempts > 0 &&
		(de_window_unacked(sender->window) > 0 || now - sender->active_at < SENDER_AWAY_SILENT_MS))
		return;
	/* with something in flight, only an answer to it counts */
	if (de_window_unacked(sender->window) > 0 && sender->active_at <= sender->failing_since)
		return;
	sender->failing = false;
	sender->notice[0] = '\0';
	ereport(LOG,
			(errmsg("events reach Kafka again after %lld seconds",
					(long long) ((now - sender->failing_since + 500) / 1000)),
			 errdetail_plural("%d failure was counted.", "%d failures were counted.",
							  sender->failures, sender->failures)));
}

/*
 * Hands over the next event.
 */
bool
de_sender_offer(DeSender *sender, const DeOutboxEvent *event)
{
	char		error[DE_KAFKA_ERROR_SIZE];
	DeTopic    *topic;
	DeKafkaOutcome outcome;
	Size		bytes;
	int			overhead;

	if (sender->producer == NULL || sender->dead_at != 0 || sender->retire_at != 0)
		return false;
	if (de_window_is_full(sender->window))
		return false;
	if (sender->alone_until != 0)
	{
		if (de_window_unacked(sender->window) == 0)
			sender->alone_left = sender->alone_limit;
		else if (sender->alone_left == 0)
			return false;
	}

	topic = de_topics_find(sender->topics, event->event_type, event->event_type_len);
	if (topic == NULL)
	{
		if (!sender->topic_trouble)
		{
			snprintf(error, sizeof(error),
					 "event %lld is of the type \"%.*s\", which is not registered and makes no legal topic name",
					 (long long) event->id, Min(event->event_type_len, 200), event->event_type);
			sender_trouble(sender, error);
		}
		sender->topic_trouble = true;
		return false;
	}
	if (topic->state != DE_TOPIC_READY)
	{
		if (topic->state == DE_TOPIC_FAILED && !sender->topic_trouble)
		{
			snprintf(error, sizeof(error), "could not create topic \"%s\" for event %lld: %s",
					 topic->name, (long long) event->id, topic->error);
			sender_trouble(sender, error);
			sender->topic_trouble = true;
		}
		return false;
	}
	sender->topic_trouble = false;

	de_envelope_fill(&sender->envelope, event);
	bytes = event->payload_len + event->key_len + sender->envelope.bytes;
	overhead = Min(SENDER_RECORD_COST + sender->envelope.n * SENDER_HEADER_COST, PG_UINT16_MAX);
	if (de_window_unacked(sender->window) == 0)
		sender->active_at = de_monotonic_ms();	/* from now on an answer is due */
	else if (de_window_cost(sender->window) + bytes + overhead >
			 (Size) de_relay_buffer_size * 1024)
		return false;

	if (topic->handle == NULL)
		topic->handle = de_producer_topic(sender->producer, topic->name);
	if (topic->handle == NULL)
	{
		snprintf(error, sizeof(error), "the library refuses the name of the topic");
		outcome = DE_KAFKA_REFUSED;
	}
	else
		outcome = de_producer_send(sender->producer, topic->handle,
								   event->key, event->key_len, event->payload,
								   event->payload_len,
								   sender->envelope.headers, sender->envelope.n,
								   de_window_next_token(sender->window), error, sizeof(error));
	switch (outcome)
	{
		case DE_KAFKA_OK:
			de_window_add(sender->window, event->id, event->created_at, (uint32) bytes,
						  (uint16) overhead);
			if (sender->alone_left > 0)
				sender->alone_left--;
			return true;
		case DE_KAFKA_RETRIABLE:
			break;				/* full: its next report wakes us */
		case DE_KAFKA_REFUSED:
			/* first those before it: the producer goes with it */
			sender->alone_until = Max(sender->alone_until, event->id);
			sender->alone_limit = 1;
			sender->alone_left = 0;
			if (de_window_unacked(sender->window) == 0)
				sender_refused(sender, event->id, topic->name, error);
			break;
		case DE_KAFKA_FATAL:
			sender->dead_at = de_monotonic_ms();
			strlcpy(sender->reason, error, sizeof(sender->reason));
			break;
	}
	return false;
}

/*
 * Kafka or the library refuses an event for good.  With it goes the producer:
 * its queue is behind a gap now, and it has the absence of a topic cached for
 * minutes, say.
 */
static void
sender_refused(DeSender *sender, int64 id, const char *topic, const char *error)
{
	sender->alone_until = Max(sender->alone_until, id);
	sender->alone_limit = 1;
	/* a request's events are refused together: the first one is named */
	if (sender->refused)
		return;
	strlcpy(sender->refused_topic, topic, sizeof(sender->refused_topic));
	snprintf(sender->reason, sizeof(sender->reason),
			 "event %lld for topic \"%s\" was refused: %s", (long long) id, topic, error);
	sender->refused = true;
	if (sender->dead_at == 0)
		sender->dead_at = de_monotonic_ms();
}

/*
 * A delivery report.
 */
static void
sender_delivered(void *arg, const DeProduceReport *delivery)
{
	DeSender   *sender = arg;
	int64		id;
	uint32		bytes;

	if (delivery->outcome == DE_KAFKA_OK)
	{
		if (!de_window_ack(sender->window, delivery->token, &bytes))
			return;				/* of before a reset */
		sender->events_acked++;
		sender->bytes_acked += bytes;
		sender->attempts = 0;
		sender->down_notice = false;
		sender->active_at = Max(sender->active_at, sender->polled_at);
		if (sender->alone_until != 0 && sender->alone_left == 0 &&
			de_window_unacked(sender->window) == 0)
			sender->alone_limit = Min(sender->alone_limit * 2, SENDER_ALONE_MAX);
		return;
	}

	id = de_window_id(sender->window, delivery->token);
	if (id < 0)
		return;
	sender->produce_errors++;
	if (delivery->outcome == DE_KAFKA_REFUSED)
		sender_refused(sender, id, delivery->topic, delivery->error);
	else if (sender->dead_at == 0)
		snprintf(sender->reason, sizeof(sender->reason), "event %lld for topic \"%s\": %s",
				 (long long) id, delivery->topic, delivery->error);
	/* whatever it was: what follows it must not be sent before it */
	if (sender->dead_at == 0)
		sender->dead_at = de_monotonic_ms();
}

/*
 * Something about the producer as a whole.
 */
static void
sender_notice(void *arg, const DeKafkaNotice *notice)
{
	DeSender   *sender = arg;

	if (notice->fatal)
	{
		if (!sender->refused)
			strlcpy(sender->reason, notice->text, sizeof(sender->reason));
		if (sender->dead_at == 0)
			sender->dead_at = de_monotonic_ms();
		return;
	}
	if (notice->all_brokers_down)
		sender->down_notice = true;
	/* "1/1 brokers are down" says less than what came before it */
	if (!notice->all_brokers_down || sender->notice[0] == '\0')
		strlcpy(sender->notice, notice->text, sizeof(sender->notice));
	if (sender->failing)
		de_relay_report_error(sender->db, sender->notice);
}

/*
 * Moves over ids that belong to no event.
 */
void
de_sender_advance(DeSender *sender, int64 position)
{
	de_window_advance(sender->window, position);
}

int64
de_sender_position(DeSender *sender)
{
	return de_window_position(sender->window);
}

uint32
de_sender_rewinds(DeSender *sender)
{
	return sender->rewinds;
}

int64
de_sender_acked(DeSender *sender)
{
	return de_window_acked(sender->window);
}

/*
 * Nothing beyond what was refused is needed, and it may be refused for hours.
 */
int64
de_sender_limit(DeSender *sender)
{
	return sender->alone_until != 0 ? sender->alone_until : PG_INT64_MAX;
}

bool
de_sender_has_credit(DeSender *sender)
{
	return sender->producer != NULL && sender->dead_at == 0 && sender->retire_at == 0 &&
		!de_window_is_full(sender->window) &&
		de_window_cost(sender->window) < (Size) de_relay_buffer_size * 1024;
}

int
de_sender_unacked(DeSender *sender)
{
	return de_window_unacked(sender->window);
}

bool
de_sender_is_connected(DeSender *sender)
{
	return sender->producer != NULL && sender->connected && !sender->failing;
}

/*
 * A topic that cannot be made or an event that is refused does not keep others
 * from being acknowledged.
 */
bool
de_sender_is_away(DeSender *sender)
{
	return sender->producer == NULL ||
		(sender->failing && !sender->topic_trouble && sender->alone_until == 0);
}

/*
 * Brings the figures in shared memory up to date and wakes who waits in
 * flush().
 */
void
de_sender_report(DeSender *sender)
{
	DeDatabase *db = sender->db;
	uint64		acked = (uint64) de_window_acked(sender->window);
	TimestampTz oldest = de_window_oldest(sender->window);
	TimestampTz now = sender->events_acked > 0 ? GetCurrentTimestamp() : 0;

	if (pg_atomic_read_u64(&db->read_id) != (uint64) de_window_position(sender->window))
		pg_atomic_write_u64(&db->read_id, (uint64) de_window_position(sender->window));
	if (sender->produce_errors > 0)
		pg_atomic_fetch_add_u64(&db->produce_errors, sender->produce_errors);
	sender->produce_errors = 0;
	if (sender->events_acked > 0)
	{
		pg_atomic_fetch_add_u64(&db->events_acked, sender->events_acked);
		pg_atomic_fetch_add_u64(&db->bytes_acked, sender->bytes_acked);
		sender->events_acked = 0;
		sender->bytes_acked = 0;
	}
	if (now != 0 || oldest != sender->reported_oldest)
	{
		SpinLockAcquire(&db->mutex);
		if (now != 0)
			db->last_acked_at = now;
		db->oldest_unacked_at = oldest;
		SpinLockRelease(&db->mutex);
		sender->reported_oldest = oldest;
	}
	if (pg_atomic_read_u64(&db->acked_id) != acked)
	{
		pg_atomic_write_u64(&db->acked_id, acked);
		/* flush() counts itself, then looks at acked_id; we the other way round */
		pg_memory_barrier();
		if (pg_atomic_read_u32(&db->flush_waiters) > 0)
			ConditionVariableBroadcast(&db->acked_cv);
	}
}

/*
 * When de_sender_run has something to do though nothing wakes us.
 */
long
de_sender_timeout(DeSender *sender)
{
	int64		now = de_monotonic_ms();
	int64		next;

	if (sender->producer == NULL)
	{
		if (!sender->enabled)
			return DE_MAX_WAIT_MS;
		/* a predecessor's end wakes nobody */
		return sender->retry_at > now ? (long) Min(sender->retry_at - now, DE_MAX_WAIT_MS) :
										20;
	}
	if (sender->dead_at != 0 || sender->retire_at != 0)
		return 20;
	/* that a broker has answered wakes nobody */
	if (!sender->connected)
		return now - sender->active_at < SENDER_AWAY_DOWN_MS ? 20 : 250;
	next = de_topics_next(sender->topics);
	if (next <= now)
		return 0;
	return (long) Min(next - now, de_window_unacked(sender->window) > 0 ? 500 : DE_MAX_WAIT_MS);
}

/*
 * What to wait for.
 */
WaitEventSet *
de_sender_wait_set(DeSender *sender)
{
	if (sender->wait_set == NULL)
		sender->wait_set = de_worker_create_wait_set(0, NULL);
	return sender->wait_set;
}

/*
 * At process exit: lets go of the producer.
 */
void
de_sender_abandon(DeSender *sender)
{
	DeProducer *producer = sender->producer;

	sender->producer = NULL;
	if (producer != NULL)
		de_producer_destroy(producer);
}
