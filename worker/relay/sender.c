/*-------------------------------------------------------------------------
 *
 * sender.c
 *		The order in which events go to Kafka, and what has arrived.
 *
 * Order.  Events go to the producer in the order of their ids, and a producer
 * keeps the order of each partition or dies (kafka_producer.c).  When it dies,
 * or anything in flight is given back to us, nothing later may be sent by
 * anybody before the first of what was not acknowledged: the producer is given
 * up as a whole (link.c), and its successor begins after the acknowledged
 * position ("rewind").
 *
 * What is repeated by a rewind is at most the window (G6), which
 * relay_buffer_size bounds; of that, what was acknowledged is left out as long as
 * all before it in its partition is, too.
 *
 * What is wrong is told once, and that it is over (health.c); what the library
 * reports each second in between goes to last_error only.  An event that Kafka
 * refuses for good is searched for (suspect.c) and named.
 *
 * Main thread of the relay only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "extension/base/clock.h"
#include "extension/base/guc.h"
#include "worker/life/worker.h"
#include "worker/relay/hold.h"
#include "worker/relay/sender_internal.h"

/*
 * Entries of the window: what fits relay_buffer_size, and as many again that
 * are acknowledged but not at the front.  At least so many as may follow an
 * event that waits for a leader before all others do: 3 MB of them; not more
 * than 24 MB.
 */
#define SENDER_WINDOW_MIN (128 * 1024)
#define SENDER_WINDOW_MAX (1024 * 1024)
#define SENDER_WINDOW_SIZE(buffer_kb) \
	Max(SENDER_WINDOW_MIN, Min(SENDER_WINDOW_MAX, (buffer_kb) *2))

/* With something in flight, silence is looked at so often. */
#define SENDER_WATCH_MS 500

static void sender_size_window(DeSender *sender);
static void sender_make_producer(DeSender *sender);
static void sender_end_producer(DeSender *sender);
static void sender_check_topics(DeSender *sender);
static void sender_check_health(DeSender *sender);
static void sender_say_away(DeSender *sender, int silent_ms);
static void sender_opened(DeSender *sender, const char *name);
static void sender_reported(void *arg, const DeProduceReport *report);
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
	sender->link = de_link_create(parent);
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
	/* what is in flight is counted by its topics */
	de_link_reconfigure(sender->link);
	de_hold_forget(sender->topics);
	memset(&sender->suspect, 0, sizeof(DeSuspect));
	/* the event at hand is none any more */
	sender->nameless = false;
	sender->rewinds++;
}

/*
 * The topics were loaded anew.  What is held is known by the former ones.
 */
void
de_sender_topics_loaded(DeSender *sender)
{
	if (de_window_held(sender->window) > 0)
		de_link_reconfigure(sender->link);
}

/*
 * Allows or forbids a producer.
 */
void
de_sender_enable(DeSender *sender, bool enabled)
{
	de_link_enable(sender->link, enabled);
	if (!enabled)
		sender->health.failing = false;
}

/*
 * Has the producer replaced; events wait until it is.
 */
void
de_sender_reconfigure(DeSender *sender)
{
	de_link_reconfigure(sender->link);
}

/*
 * One turn; see sender.h.
 */
void
de_sender_run(DeSender *sender)
{
	char		cluster[DE_KAFKA_CLUSTER_SIZE];
	DeProducer *producer;

	sender->turn = de_monotonic_ms();
	if (de_link_is_due(sender->link, sender->turn))
		sender_make_producer(sender);
	producer = de_link_producer(sender->link);
	if (producer == NULL)
		return;

	de_producer_poll(producer, sender_reported, sender_notice, sender);
	if (de_suspect_passed(&sender->suspect, de_window_acked(sender->window)))
		de_link_proved(sender->link);
	if (de_link_check_connected(sender->link, cluster))
	{
		de_health_active(&sender->health, sender->turn);
		de_topics_connected(sender->topics, cluster);
	}
	if (de_link_is_connected(sender->link))
		de_topics_run(sender->topics, producer);

	if (de_link_state(sender->link) == DE_LINK_RETIRING ||
		de_link_state(sender->link) == DE_LINK_DYING)
		sender_end_producer(sender);
	else
		sender_check_health(sender);
}

/*
 * Makes a producer; its predecessor has ended.
 */
static void
sender_make_producer(DeSender *sender)
{
	char		error[DE_KAFKA_ERROR_SIZE];
	MemoryContext old;

	sender_size_window(sender);
	if (!de_link_make(sender->link, sender->turn, error, sizeof(error)))
	{
		de_sender_trouble(sender, error);
		return;
	}
	MemoryContextReset(sender->context);
	old = MemoryContextSwitchTo(sender->context);
	de_envelope_init(&sender->envelope, pstrdup(de_source));
	MemoryContextSwitchTo(old);
	de_health_begin(&sender->health, sender->turn);
	sender->refused = false;
	sender->failed = false;
}

/*
 * Lets go of a producer that is to go, if it may already, and goes back to the
 * first event that it had in flight.
 */
static void
sender_end_producer(DeSender *sender)
{
	DeLinkState was = de_link_end(sender->link, sender->turn,
								  de_window_unacked(sender->window) == 0,
								  de_sender_is_away(sender));

	if (was == DE_LINK_DOWN)
		return;
	if (was == DE_LINK_DYING)
		de_sender_trouble(sender, de_link_reason(sender->link));
	/* with a refused event goes what the producer knew of its topic: that it is not there, say */
	de_topics_restart(sender->topics,
					  de_suspect_any(&sender->suspect) ? sender->refused_topic : NULL);
	de_window_rewind(sender->window);
	de_hold_forget(sender->topics);
	de_health_forget_front(&sender->health);
	sender->rewinds++;
}

/*
 * Events do not get through: says so, in the log the first time.
 */
void
de_sender_trouble(DeSender *sender, const char *reason)
{
	de_relay_report_error(sender->db, reason);
	if (de_health_fail(&sender->health, de_monotonic_ms()))
		ereport(LOG,
				(errmsg("could not send events to Kafka, trying again until it succeeds"),
				 errdetail("%s", reason)));
}

/*
 * Events wait for a topic that could not be made: says so.  It is over when
 * every topic is there, or nobody asks for it any more.
 */
static void
sender_check_topics(DeSender *sender)
{
	DeTopic    *topic = de_topics_failing(sender->topics);
	char		error[DE_KAFKA_ERROR_SIZE];
	DeWindowCursor cursor;

	if (topic == NULL)
		sender->topic_trouble = false;
	if (topic == NULL || topic->held == 0 || sender->topic_trouble)
		return;
	sender->topic_trouble = true;
	de_window_seek(sender->window, 0, &cursor);
	while (de_window_next_held(sender->window, &cursor) && cursor.topic != topic->number)
		;
	snprintf(error, sizeof(error), "could not create topic \"%s\" for event %lld: %s", topic->name,
			 (long long) cursor.id, topic->error);
	de_sender_trouble(sender, error);
}

/*
 * Asks the three questions of health.h, and tells what is new.
 */
static void
sender_check_health(DeSender *sender)
{
	DeHealth   *health = &sender->health;
	DeHealthView view;
	char		reason[DE_KAFKA_ERROR_SIZE];
	int			seconds;
	int			silent_ms;

	sender_check_topics(sender);
	view = (DeHealthView){
		.now = sender->turn,
		.acked = de_window_acked(sender->window),
		.in_flight = de_window_unacked(sender->window) > 0,
		.connected = de_link_is_connected(sender->link),
		.replaced = de_link_attempts(sender->link) > 0,
		.refused = de_suspect_any(&sender->suspect) || sender->topic_trouble || sender->nameless
	};
	switch (de_health_front(health, &view, &seconds))
	{
		case DE_FRONT_STALLED:
			snprintf(reason, sizeof(reason),
					 "event %lld is not acknowledged for %d seconds, though later ones are: its partition may have no leader",
					 (long long) view.acked + 1, DE_HEALTH_STALLED_MS / 1000);
			de_relay_report_error(sender->db, reason);
			ereport(LOG,
					(errmsg("an event does not reach Kafka and holds back others"),
					 errdetail("%s", reason)));
			break;
		case DE_FRONT_MOVED:
			ereport(LOG,
					(errmsg("the event that held back others reached Kafka after %d seconds",
							seconds)));
			break;
		case DE_FRONT_SAME:
			break;
	}
	if (de_health_away(health, &view, &silent_ms))
		sender_say_away(sender, silent_ms);
	if (de_health_recovered(health, &view, &seconds))
	{
		sender->notice[0] = '\0';
		ereport(LOG,
				(errmsg("events reach Kafka again after %d seconds", seconds),
				 errdetail_plural("%d failure was counted.", "%d failures were counted.",
								  health->failures, health->failures)));
	}
}

/*
 * Kafka is silent although there is something to answer: says why, as far as
 * is known.
 */
static void
sender_say_away(DeSender *sender, int silent_ms)
{
	char		reason[DE_KAFKA_ERROR_SIZE];

	if (sender->health.stalled_since != 0)
		/* Kafka is there: what is in flight now is all behind that event */
		snprintf(reason, sizeof(reason),
				 "event %lld is not acknowledged for %d seconds, and what may be in flight behind it is used up: its partition may have no leader",
				 (long long) de_window_acked(sender->window) + 1,
				 (int) ((sender->turn - sender->health.stalled_since) / 1000));
	else if (silent_ms < DE_HEALTH_SILENT_MS && sender->notice[0] != '\0')
		strlcpy(reason, sender->notice, sizeof(reason));
	else
		/* what the library says by then is that it has closed connections */
		snprintf(reason, sizeof(reason), "no answer from \"%s\" for %d seconds%s%s",
				 de_bootstrap_servers, silent_ms / 1000, sender->notice[0] != '\0' ? ": " : "",
				 sender->notice);
	de_sender_trouble(sender, reason);
}

/*
 * Says in a buffer of DE_KAFKA_ERROR_SIZE that an event is refused, and why.
 */
void
de_sender_refusal(char *reason, int64 id, const char *topic, const char *error)
{
	snprintf(reason, DE_KAFKA_ERROR_SIZE, "event %lld for topic \"%s\" was refused: %s",
			 (long long) id, topic, error);
}

/*
 * Kafka or the library refuses an event for good.  With it goes the producer:
 * its queue is behind a gap now, and it has the absence of a topic cached for
 * minutes, say.
 */
void
de_sender_refused(DeSender *sender, int64 id, const char *topic, const char *error)
{
	char		reason[DE_KAFKA_ERROR_SIZE];

	de_suspect_refused(&sender->suspect, id);
	/* a request's events are refused together: the first one is named */
	if (sender->refused)
		return;
	sender->refused = true;
	strlcpy(sender->refused_topic, topic, sizeof(sender->refused_topic));
	de_sender_refusal(reason, id, topic, error);
	de_link_fail(sender->link, de_monotonic_ms(), reason);
}

/*
 * What became of an event.
 */
static void
sender_reported(void *arg, const DeProduceReport *report)
{
	DeSender   *sender = arg;
	char		reason[DE_KAFKA_ERROR_SIZE];
	int64		id;
	uint32		bytes;
	size_t		cost;
	bool		cause;

	if (report->opened)
		sender_opened(sender, report->topic);
	if (report->outcome == DE_KAFKA_OK)
	{
		if (!de_window_ack(sender->window, report->token, &bytes, &cost))
			return;				/* of before a reset */
		*de_producer_topic_cost(report->handle) -= cost;
		sender->events_acked++;
		sender->bytes_acked += bytes;
		/* of others it proves nothing */
		if (!de_suspect_failing(&sender->suspect))
			de_link_proved(sender->link);
		de_health_acknowledged(&sender->health, sender->turn);
		de_suspect_acknowledged(&sender->suspect, de_window_unacked(sender->window));
		return;
	}

	id = de_window_id(sender->window, report->token);
	if (id < 0)
		return;
	sender->produce_errors++;
	/* what a producer brings down with it says nothing of these events */
	cause = !sender->failed && (report->outcome == DE_KAFKA_RETRIABLE || report->doubtful);
	sender->failed |= cause;
	if (report->outcome == DE_KAFKA_REFUSED ||
		(cause && de_suspect_failed(&sender->suspect, id)))
	{
		de_sender_refused(sender, id, report->topic, report->error);
		return;
	}
	/* whatever it was: what follows it must not be sent before it; the first one says why */
	if (de_link_state(sender->link) == DE_LINK_DYING)
		return;
	snprintf(reason, sizeof(reason), "event %lld for topic \"%s\": %s",
			 (long long) id, report->topic, report->error);
	de_link_fail(sender->link, de_monotonic_ms(), reason);
}

/*
 * What waits for this topic may try again.
 */
static void
sender_opened(DeSender *sender, const char *name)
{
	DeTopic    *topic = de_topics_by_name(sender->topics, name);

	/* none: a reload has done away with it, and a rewind comes */
	if (topic != NULL)
		topic->open = topic->held > 0;
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
		/* what it says is more than an event's failure, and less than a refusal */
		if (!sender->refused)
			de_link_fail(sender->link, de_monotonic_ms(), notice->text);
		return;
	}
	if (notice->all_brokers_down)
		sender->health.down = true;
	/* "1/1 brokers are down" says less than what came before it */
	if (!notice->all_brokers_down || sender->notice[0] == '\0')
		strlcpy(sender->notice, notice->text, sizeof(sender->notice));
	if (sender->health.failing)
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
	return de_suspect_any(&sender->suspect) ? sender->suspect.until : PG_INT64_MAX;
}

bool
de_sender_has_credit(DeSender *sender)
{
	return de_link_takes(sender->link) && !de_window_is_full(sender->window) &&
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
	return de_link_is_connected(sender->link) && !sender->health.failing;
}

/*
 * A topic that cannot be made or an event that is refused does not keep others
 * from being acknowledged.
 */
bool
de_sender_is_away(DeSender *sender)
{
	return de_link_state(sender->link) == DE_LINK_DOWN ||
		(sender->health.failing && !sender->topic_trouble && !sender->nameless &&
		 !de_suspect_any(&sender->suspect));
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
	long		timeout = de_link_timeout(sender->link, now);
	int64		next;

	if (de_link_state(sender->link) != DE_LINK_UP)
		return timeout;
	next = de_topics_next(sender->topics);
	if (next <= now)
		return 0;
	if (de_window_unacked(sender->window) > 0)
		timeout = Min(timeout, SENDER_WATCH_MS);
	return (long) Min(next - now, timeout);
}

/*
 * What to wait for.
 */
WaitEventSet *
de_sender_wait_set(DeSender *sender)
{
	return de_link_wait_set(sender->link);
}

/*
 * At process exit: lets go of the producer.
 */
void
de_sender_abandon(DeSender *sender)
{
	de_link_abandon(sender->link);
}
