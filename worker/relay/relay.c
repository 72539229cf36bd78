/*-------------------------------------------------------------------------
 *
 * relay.c
 *		Reads committed events in commit order and hands them to Kafka.
 *
 * One process for each listed database, by the cell in shared memory
 * (worker.c).  A turn of its loop:
 *
 *		wait for {latch, producer, timeout}
 *		take acknowledgements, mind the producer			(sender.c, link.c)
 *		read the configuration again						(when it changed)
 *		read the next batch up to the horizon, hand it over	(feed.c)
 *		bring shared memory up to date
 *		store progress, rotate								(upkeep.c)
 *
 * Which transactions there are: reading the configuration, reading a batch,
 * storing progress, rotating; each is short, and none is open while anything
 * waits for Kafka (G8, pitfall 9).
 *
 * G2	Progress is stored of what is acknowledged only, and a start begins
 *		after it.
 * G6	After a crash the window in flight and a fraction of a second of
 *		acknowledged events are sent again.
 *
 * Identity.  Nothing is sent unless durable_event.source is the one stored in
 * this database by its first relay; a copy with a configuration of its own
 * stays paused until adopt().
 *
 * Sleep.  The relay sets relay_asleep, looks at the horizon once more, and
 * only then waits.  A publisher makes its events readable and then looks at
 * relay_asleep (horizon.c, P7).  Each writes before it reads what the other
 * writes, with full barriers, so one of the two sees the other.
 *
 * A crash at any point loses what is in this process only: the window, of
 * which a successor sends again all that stored progress does not cover.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"

#include "extension/base/catalog.h"
#include "extension/base/clock.h"
#include "extension/base/config_change.h"
#include "extension/base/guc.h"
#include "extension/base/identity.h"
#include "extension/outbox/horizon.h"
#include "extension/outbox/progress.h"
#include "worker/base/settings.h"
#include "worker/kafka/kafka.h"
#include "worker/life/attempt.h"
#include "worker/life/worker.h"
#include "worker/relay/feed.h"
#include "worker/relay/sender.h"
#include "worker/relay/topic.h"
#include "worker/relay/upkeep.h"

/* With DDL waiting for us to be gone, acknowledgements get this long. */
#define RELAY_HELD_DRAIN_MS 500

/* At exit, for the library's threads to end. */
#define RELAY_EXIT_WAIT_MS 300

/* Settings that a producer or the topics are made with. */
static const DeSetting relay_settings[] = {
	DE_TEXT_SETTING(de_bootstrap_servers),
	DE_TEXT_SETTING(de_kafka_config),
	DE_TEXT_SETTING(de_source),
	DE_TEXT_SETTING(de_topic_prefix),
	DE_NUMBER_SETTING(de_relay_buffer_size),
	DE_NUMBER_SETTING(de_max_event_size),
	DE_NUMBER_SETTING(de_topic_partitions),
	DE_NUMBER_SETTING(de_topic_replication_factor)
};

/* The one of them that decides whether to send at all. */
static const DeSetting relay_identity_setting[] = {DE_TEXT_SETTING(de_source)};

/* Somebody's lock is in the way. */
#define RELAY_LOCKED_RETRY_MS 100

typedef struct Relay
{
	DeDatabase *db;
	DeTopics   *topics;
	DeSender   *sender;
	DeFeed	   *feed;
	DeUpkeep   *upkeep;
	DeSettings *settings;
	DeSettings *identity_setting;
	Oid			extension;		/* as last seen; InvalidOid = absent */
	Oid			began;			/* that the position in memory is of */
	bool		configure;		/* configuration must be read again */
	bool		unsure;			/* whether to send may have changed with it */
	bool		moved;			/* the topics in memory are of a former source */
	bool		sending;		/* configured, not paused */
	DeRelayState obstacle;		/* what keeps it from sending; RUNNING = nothing */
} Relay;

/* What reading the configuration finds out. */
typedef struct RelayFound
{
	DeRelayState obstacle;
	Oid			extension;
	Oid			began;
	bool		begin;			/* what is in memory is of another extension, or nothing yet */
	int64		stored;			/* progress, to begin after */
	bool		topics;			/* event_type was read, too */
	bool		locked;			/* or is to be, when it can */
} RelayFound;

static Relay relay = {.obstacle = DE_RELAY_STARTING};

static void relay_begin(void);
static void relay_configure(void);
static void relay_configure_work(void *arg);
static DeRelayState relay_find_obstacle(RelayFound *found);
static void relay_set_obstacle(DeRelayState obstacle);
static DeFeedResult relay_feed(void);
static void relay_report_state(void);
static long relay_timeout(DeFeedResult fed);
static void relay_drain(void);
static void relay_on_exit(int code, Datum arg);
static void relay_error_callback(void *arg);

/*
 * Entry point of the relay.
 */
void
de_relay_main(Datum main_arg)
{
	long		timeout = 0;

	de_worker_begin(DE_WORKER_RELAY, main_arg);
	relay_begin();

	while (!de_worker_stopping())
	{
		DeFeedResult fed = DE_FEED_IDLE;

		if (de_worker_wait(de_sender_wait_set(relay.sender), timeout, NULL) &&
			de_settings_changed(relay.settings))
		{
			de_sender_reconfigure(relay.sender);
			relay.configure = true;
			relay.moved |= de_settings_changed(relay.identity_setting);
			relay.unsure |= relay.moved;
		}
		/* awake: publishers need not call */
		if (pg_atomic_read_u32(&relay.db->relay_asleep) != 0)
			pg_atomic_write_u32(&relay.db->relay_asleep, 0);
		if (de_worker_stopping())
			break;

		de_sender_run(relay.sender);
		/* both in turn: each call takes its news */
		relay.unsure |= de_config_changed(DE_CONFIG_RELAY_STATE);
		relay.configure |= de_config_changed(DE_CONFIG_EVENT_TYPE);
		relay.configure |= relay.unsure;
		if ((relay.configure || !OidIsValid(relay.extension)) &&
			de_upkeep_is_due(relay.upkeep, DE_CHORE_CONFIGURE))
			relay_configure();
		if (relay.sending)
			fed = relay_feed();
		de_sender_report(relay.sender);
		relay_report_state();
		if (OidIsValid(relay.began))
			relay.configure |= !de_upkeep_store(relay.upkeep, relay.began,
												de_sender_acked(relay.sender), false) ||
				!de_upkeep_rotate(relay.upkeep, relay.began);
		timeout = relay_timeout(fed);
	}

	relay_drain();
	ereport(LOG,
			(errmsg("durable_event relay stopped")));
	proc_exit(0);
}

/*
 * Prepares what lives as long as the process.
 */
static void
relay_begin(void)
{
	static ErrorContextCallback callback;
	MemoryContext context = de_worker->context;

	relay.db = de_worker->db;
	relay.topics = de_topics_create(context);
	relay.sender = de_sender_create(relay.db, context, relay.topics);
	relay.feed = de_feed_create(context, relay.db, relay.sender);
	relay.upkeep = de_upkeep_create(context, relay.db);
	/* pitfall 7: before there is a producer to let go of */
	before_shmem_exit(relay_on_exit, (Datum) 0);
	callback.callback = relay_error_callback;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	relay.settings = de_settings_note(context, relay_settings, lengthof(relay_settings));
	relay.identity_setting = de_settings_note(context, relay_identity_setting,
											  lengthof(relay_identity_setting));
	relay.configure = true;
}

/*
 * Reads the configuration and decides whether to send.  No lock is waited for:
 * nothing would be sent or acknowledged meanwhile.  A table that somebody has
 * locked is read as soon as he is done; until then all goes on as before, unless
 * that may be wrong: after a change of durable_event.source or of relay_state
 * nothing is sent before it is known.  Any other error ends the process.
 */
static void
relay_configure(void)
{
	RelayFound	found = {.extension = relay.extension, .began = relay.began};
	DeFailure	failure;

	if (!de_worker_attempt("reading the configuration", true, relay_configure_work, &found,
						   &failure))
	{
		if (failure.sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ereport(ERROR,
					(errcode(failure.sqlerrcode),
					 errmsg("could not read the configuration of durable_event"),
					 errdetail("%s", failure.message)));
		de_upkeep_failed(relay.upkeep, DE_CHORE_CONFIGURE, failure.message);
		relay.configure = true;
		return;
	}
	if (found.locked)
		de_upkeep_failed(relay.upkeep, DE_CHORE_CONFIGURE, "a lock is held on event_type");
	else
		de_upkeep_done(relay.upkeep, DE_CHORE_CONFIGURE);
	relay.configure = found.locked;
	relay.unsure = false;
	relay.moved &= !found.topics;
	relay.extension = found.extension;
	relay.began = found.began;
	if (found.topics)
		de_sender_topics_loaded(relay.sender);
	if (found.begin)
	{
		de_sender_begin(relay.sender, found.stored);
		de_upkeep_begin(relay.upkeep, found.stored);
	}
	relay_set_obstacle(found.obstacle);
}

static void
relay_configure_work(void *arg)
{
	RelayFound *found = arg;

	found->obstacle = relay_find_obstacle(found);
}

/*
 * What keeps us from sending; DE_RELAY_RUNNING = nothing.
 */
static DeRelayState
relay_find_obstacle(RelayFound *found)
{
	DeRelayStateRow row;

	/* pitfall 12: absent at our start, dropped since, or made again */
	found->extension = de_extension_lock();
	if (!OidIsValid(found->extension))
	{
		found->began = InvalidOid;
		return DE_RELAY_NO_EXTENSION;
	}

	de_config_note_tables();
	(void) de_table_lock_nowait("relay_state", AccessShareLock, false);
	de_state_read(&row);
	switch (row.identity)
	{
		case DE_IDENTITY_UNCONFIGURED:
			return DE_RELAY_UNCONFIGURED;
		case DE_IDENTITY_COPIED:
		case DE_IDENTITY_OTHER:
			return DE_RELAY_SOURCE_MISMATCH;
		case DE_IDENTITY_NEW:
			(void) de_table_lock_nowait("relay_state", RowExclusiveLock, false);
			de_state_store_source(de_source);
			break;
		case DE_IDENTITY_OURS:
			break;
	}
	if (found->extension != found->began)
	{
		de_horizon_derive(relay.db);
		found->stored = de_progress_load();
		found->began = found->extension;
		found->begin = true;
	}

	/*
	 * Last, since it changes what is in memory.  If those of before will do, a
	 * lock does not keep us from heeding pause_relay().
	 */
	found->topics = de_table_lock_nowait("event_type", AccessShareLock,
										 !found->begin && !relay.moved);
	if (found->topics)
		de_topics_load(relay.topics);
	found->locked = !found->topics;
	return row.paused ? DE_RELAY_PAUSED : DE_RELAY_RUNNING;
}

/*
 * Sends or does not, and says so when that changes.
 */
static void
relay_set_obstacle(DeRelayState obstacle)
{
	relay.sending = obstacle == DE_RELAY_RUNNING;
	/* paused, a producer stays: what is in flight is not taken back */
	de_sender_enable(relay.sender, relay.sending || obstacle == DE_RELAY_PAUSED);

	if (obstacle == relay.obstacle)
		return;
	switch (obstacle)
	{
		case DE_RELAY_UNCONFIGURED:
			ereport(LOG,
					(errmsg("durable_event relay sends nothing until durable_event.%s is set",
							de_source[0] == '\0' ? "source" : "bootstrap_servers")));
			break;
		case DE_RELAY_SOURCE_MISMATCH:
			ereport(LOG,
					(errmsg("durable_event relay is paused: this database holds the events of another source"),
					 errhint("If it is to publish as \"%s\" from now on, call durable_event.adopt().",
							 de_source)));
			break;
		case DE_RELAY_PAUSED:
			ereport(LOG,
					(errmsg("durable_event relay is paused")));
			break;
		case DE_RELAY_RUNNING:
			if (relay.obstacle != DE_RELAY_STARTING && relay.obstacle != DE_RELAY_NO_EXTENSION)
				ereport(LOG,
						(errmsg("durable_event relay goes on")));
			break;
		default:
			break;
	}
	relay.obstacle = obstacle;
}

/*
 * Reads and offers events, unless a lock was in the way a moment ago.
 */
static DeFeedResult
relay_feed(void)
{
	DeFeedResult fed = DE_FEED_LOCKED;

	if (relay.unsure || !de_upkeep_is_due(relay.upkeep, DE_CHORE_READ))
		return fed;
	fed = de_feed_run(relay.feed, relay.extension);
	if (fed == DE_FEED_LOCKED)
		de_upkeep_failed(relay.upkeep, DE_CHORE_READ,
						 "a lock is held on one of its segments, by REINDEX, VACUUM FULL or the like");
	else
		de_upkeep_done(relay.upkeep, DE_CHORE_READ);
	if (fed == DE_FEED_GONE)
		relay.configure = true;
	return fed;
}

/*
 * Shows what the relay is doing.
 */
static void
relay_report_state(void)
{
	static DeRelayState reported = DE_RELAY_STARTING;
	DeRelayState state = relay.obstacle;

	if (state == DE_RELAY_RUNNING && !de_sender_is_connected(relay.sender))
		state = DE_RELAY_CONNECTING;
	if (state == reported)
		return;
	de_relay_report_state(relay.db, state);
	reported = state;
}

/*
 * How long to wait; 0 = not at all.
 */
static long
relay_timeout(DeFeedResult fed)
{
	long		timeout = Min(de_sender_timeout(relay.sender), DE_MAX_WAIT_MS);

	if (relay.configure && !de_upkeep_is_due(relay.upkeep, DE_CHORE_CONFIGURE))
		timeout = Min(timeout, RELAY_LOCKED_RETRY_MS);
	else if (fed == DE_FEED_MORE || relay.configure)
		return 0;
	if (OidIsValid(relay.began))
		timeout = Min(timeout, de_upkeep_timeout(relay.upkeep, de_sender_acked(relay.sender)));
	if (fed == DE_FEED_LOCKED)
		return Min(timeout, RELAY_LOCKED_RETRY_MS);
	if (!relay.sending || fed == DE_FEED_BLOCKED)
		return timeout;
	/* not asleep: publishers need not call, we look soon */
	if (fed == DE_FEED_LINGERS)
		return Min(timeout, de_feed_linger_ms(relay.feed));

	/* see "Sleep" in the head of this file; the exchange is a full barrier */
	pg_atomic_exchange_u32(&relay.db->relay_asleep, 1);
	return de_feed_has_more(relay.feed) ? 0 : timeout;
}

/*
 * Before a wanted exit: waits a little for what is in flight, so that it need
 * not be sent again, and stores progress.
 */
static void
relay_drain(void)
{
	int64		deadline = de_monotonic_ms() + de_shutdown_timeout;

	de_sender_report(relay.sender);
	while (de_sender_unacked(relay.sender) > 0 && !de_sender_is_away(relay.sender))
	{
		int64		now = de_monotonic_ms();

		if (de_worker_held())
			deadline = Min(deadline, now + RELAY_HELD_DRAIN_MS);
		if (now >= deadline)
			break;
		de_worker_wait(de_sender_wait_set(relay.sender), Min(deadline - now, 100),
					   "waiting for acknowledgements");
		de_sender_run(relay.sender);
		de_sender_report(relay.sender);
	}
	if (OidIsValid(relay.began))
		de_upkeep_store(relay.upkeep, relay.began, de_sender_acked(relay.sender), true);
}

/*
 * before_shmem_exit: lets go of the producer, whatever ends this process.
 * Waits a little for its threads to close their connections in order; what is
 * left of them dies with the process (kafka_handle.c).  Not longer, since this
 * is also how long a DROP DATABASE or a shutdown waits while Kafka is away.
 */
static void
relay_on_exit(int code, Datum arg)
{
	de_sender_abandon(relay.sender);
	de_kafka_teardown_wait(RELAY_EXIT_WAIT_MS);
}

/*
 * Names the event at hand.
 */
static void
relay_error_callback(void *arg)
{
	const DeOutboxEvent *event = de_feed_event(relay.feed);

	if (event != NULL)
		errcontext("outbox id %lld, event type \"%.*s\"", (long long) event->id,
				   event->event_type_len, event->event_type);
}
