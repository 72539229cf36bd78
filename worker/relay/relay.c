/*-------------------------------------------------------------------------
 *
 * relay.c
 *		Reads committed events in commit order and hands them to Kafka.
 *
 * One process for each listed database, by the cell in shared memory
 * (worker.c).  A turn of its loop:
 *
 *		wait for {latch, producer, timeout}
 *		take acknowledgements, mind the producer			(sender.c)
 *		look again at identity and registered types			(when they changed)
 *		read the next batch up to the horizon, hand it over
 *		bring shared memory up to date, store progress, rotate
 *
 * Which transactions there are: reading the configuration, reading a batch,
 * storing progress, rotating; each is short, and none is open while anything
 * waits for Kafka (G8, pitfall 9).
 *
 * G2	Progress is stored of what is acknowledged only, and a start begins
 *		after it.
 * G3	Ids are commit order, batches are read and handed over by id, the
 *		sender keeps it.
 * G5	Nothing is read before de_horizon_safe() has flushed its commit.
 * G6	After a crash the window in flight and PROGRESS_INTERVAL_MS of
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

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "extension/base/catalog.h"
#include "extension/base/clock.h"
#include "extension/base/config_change.h"
#include "extension/base/guc.h"
#include "extension/base/identity.h"
#include "extension/base/kill_point.h"
#include "extension/outbox/horizon.h"
#include "extension/outbox/outbox.h"
#include "extension/outbox/progress.h"
#include "worker/base/settings.h"
#include "worker/kafka/kafka.h"
#include "worker/life/worker.h"
#include "worker/relay/sender.h"
#include "worker/relay/topic.h"

/* One read: enough to make its fixed cost small beside it, a fraction of a second of sending. */
#define RELAY_BATCH_EVENTS 10000
#define RELAY_BATCH_BYTES (4 * 1024 * 1024)

/* What a crash repeats besides the window; each costs a transaction. */
#define PROGRESS_INTERVAL_MS 250

/* Age and retention of segments pass without any event. */
#define ROTATE_IDLE_INTERVAL_MS 5000

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
	DE_NUMBER_SETTING(de_relay_linger),
	DE_NUMBER_SETTING(de_relay_buffer_size),
	DE_NUMBER_SETTING(de_max_event_size),
	DE_NUMBER_SETTING(de_topic_partitions),
	DE_NUMBER_SETTING(de_topic_replication_factor)
};

typedef enum RelayPump
{
	RELAY_PUMP_IDLE,			/* nothing to read */
	RELAY_PUMP_BLOCKED,			/* something to send, when the sender can */
	RELAY_PUMP_MORE				/* go on at once */
} RelayPump;

typedef struct Relay
{
	DeDatabase *db;
	DeTopics   *topics;
	DeSender   *sender;
	MemoryContext batch_context;
	DeOutboxBatch batch;
	int			next;			/* first event of the batch not handed over */
	uint32		rewinds;		/* of the sender, when the batch was read */

	DeSettings *settings;
	Oid			extension;		/* as last seen; InvalidOid = absent */
	Oid			began;			/* that the position in memory is of */
	bool		look;			/* configuration must be read again */
	bool		sending;		/* configured, not paused */

	int64		stored;			/* progress as stored */
	int64		store_at;		/* not before */
	int64		rotated;		/* progress when rotation last had nothing to do */
	int64		rotate_at;
} Relay;

static Relay relay;

/* what the error context shows; NULL = nothing */
static const DeOutboxEvent *relay_event = NULL;

static void relay_begin(void);
static void relay_look(void);
static DeRelayState relay_look_inside(bool *begin);
static RelayPump relay_pump(void);
static bool relay_read(int64 upto);
static void relay_report_state(void);
static void relay_store(bool now);
static void relay_rotate(void);
static long relay_timeout(RelayPump pumped);
static void relay_drain(void);
static void relay_on_exit(int code, Datum arg);
static void relay_error_callback(void *arg);

/* What keeps it from sending, as relay_look found; DE_RELAY_RUNNING = nothing. */
static DeRelayState relay_obstacle = DE_RELAY_STARTING;

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
		RelayPump	pumped = RELAY_PUMP_IDLE;

		if (de_worker_wait(de_sender_wait_set(relay.sender), timeout, NULL) &&
			de_settings_changed(relay.settings))
		{
			de_sender_reconfigure(relay.sender);
			relay.look = true;
		}
		/* awake: publishers need not call */
		if (pg_atomic_read_u32(&relay.db->relay_asleep) != 0)
			pg_atomic_write_u32(&relay.db->relay_asleep, 0);
		if (de_worker_stopping())
			break;

		de_sender_run(relay.sender);
		/* both in turn: each call takes its news */
		relay.look |= de_config_changed(DE_CONFIG_RELAY_STATE);
		relay.look |= de_config_changed(DE_CONFIG_EVENT_TYPE);
		if (relay.look || !OidIsValid(relay.extension))
			relay_look();
		if (relay.sending)
			pumped = relay_pump();
		de_sender_report(relay.sender);
		relay_report_state();
		relay_store(false);
		relay_rotate();
		timeout = relay_timeout(pumped);
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

	relay.db = de_worker->db;
	relay.batch_context = AllocSetContextCreate(de_worker->context, "durable_event relay batch",
												ALLOCSET_DEFAULT_SIZES);
	relay.topics = de_topics_create(de_worker->context);
	relay.sender = de_sender_create(relay.db, de_worker->context, relay.topics);
	/* pitfall 7: before there is a producer to let go of */
	before_shmem_exit(relay_on_exit, (Datum) 0);
	callback.callback = relay_error_callback;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	relay.settings = de_settings_note(de_worker->context, relay_settings,
									  lengthof(relay_settings));
	relay.look = true;
}

/*
 * Reads the configuration and decides whether to send.
 */
static void
relay_look(void)
{
	DeRelayState obstacle;
	bool		begin = false;

	relay.look = false;
	de_worker_start_transaction("reading the configuration");
	obstacle = relay_look_inside(&begin);
	de_worker_commit_transaction();

	if (begin)
	{
		de_sender_begin(relay.sender, relay.stored);
		pg_atomic_write_u64(&relay.db->stored_id, (uint64) relay.stored);
		relay.rotated = -1;
	}
	relay.sending = obstacle == DE_RELAY_RUNNING;
	/* paused, a producer stays: what is in flight is not taken back */
	de_sender_enable(relay.sender, relay.sending || obstacle == DE_RELAY_PAUSED);

	if (obstacle != relay_obstacle)
	{
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
				if (relay_obstacle != DE_RELAY_STARTING && relay_obstacle != DE_RELAY_NO_EXTENSION)
					ereport(LOG,
							(errmsg("durable_event relay goes on")));
				break;
			default:
				break;
		}
		relay_obstacle = obstacle;
	}
}

/*
 * The part in the transaction: what keeps us from sending (DE_RELAY_RUNNING =
 * nothing).  "begin" is set when what is in memory is of another extension, or
 * there is nothing yet: then the stored position was loaded.
 */
static DeRelayState
relay_look_inside(bool *begin)
{
	DeRelayStateRow row;
	Oid			extension = de_extension_lock();

	/* pitfall 12: absent at our start, dropped since, or made again */
	relay.extension = extension;
	if (!OidIsValid(extension))
	{
		relay.began = InvalidOid;
		return DE_RELAY_NO_EXTENSION;
	}

	de_config_note_tables();
	if (de_source[0] == '\0' || de_bootstrap_servers[0] == '\0')
		return DE_RELAY_UNCONFIGURED;
	de_state_read(&row);
	if (row.copied || (row.source != NULL && strcmp(row.source, de_source) != 0))
		return DE_RELAY_SOURCE_MISMATCH;
	if (row.source == NULL)
		de_state_store_source(de_source);
	de_topics_load(relay.topics);
	if (extension != relay.began)
	{
		de_horizon_derive(relay.db);
		relay.stored = de_progress_load();
		relay.began = extension;
		*begin = true;
	}
	return row.paused ? DE_RELAY_PAUSED : DE_RELAY_RUNNING;
}

/*
 * Hands over as much as there is and the sender takes, at most one batch.
 */
static RelayPump
relay_pump(void)
{
	DeOutboxBatch *batch = &relay.batch;

	/* after a rewind the rest of the batch is not what comes next */
	if (relay.rewinds != de_sender_rewinds(relay.sender))
	{
		batch->n = 0;
		relay.next = 0;
		relay.rewinds = de_sender_rewinds(relay.sender);
	}

	if (relay.next >= batch->n)
	{
		int64		safe;

		if (!de_sender_has_credit(relay.sender))
			return RELAY_PUMP_BLOCKED;
		safe = (int64) de_horizon_safe(relay.db);
		safe = Min(safe, de_sender_limit(relay.sender));
		if (safe <= de_sender_position(relay.sender))
			return RELAY_PUMP_IDLE;
		if (!relay_read(safe))
			return RELAY_PUMP_MORE;
	}

	while (relay.next < batch->n)
	{
		bool		taken;

		relay_event = &batch->events[relay.next];
		taken = de_sender_offer(relay.sender, relay_event);
		relay_event = NULL;
		if (!taken)
			return RELAY_PUMP_BLOCKED;
		relay.next++;
	}
	de_sender_advance(relay.sender, batch->upto);
	DE_KILL_POINT("relay-after-hand-over");
	return RELAY_PUMP_MORE;
}

/*
 * Reads the next batch; false if the extension is not the one it was.
 */
static bool
relay_read(int64 upto)
{
	relay.batch.n = 0;
	relay.next = 0;
	MemoryContextReset(relay.batch_context);

	/* the snapshot must be younger than the horizon (horizon.c, R6) */
	de_worker_start_transaction("reading the outbox");
	if (de_extension_lock() != relay.extension)
	{
		relay.look = true;
		de_worker_commit_transaction();
		relay_look();
		return false;
	}
	MemoryContextSwitchTo(relay.batch_context);
	de_outbox_read(de_sender_position(relay.sender), upto, RELAY_BATCH_EVENTS, RELAY_BATCH_BYTES,
				   &relay.batch);
	de_worker_commit_transaction();
	DE_KILL_POINT("relay-after-read");
	ereport(DEBUG1,
			(errmsg_internal("durable_event relay read %d events up to id %lld", relay.batch.n,
							 (long long) relay.batch.upto)));
	return true;
}

/*
 * Shows what the relay is doing.
 */
static void
relay_report_state(void)
{
	static DeRelayState reported = DE_RELAY_STARTING;
	DeRelayState state = relay_obstacle;

	if (state == DE_RELAY_RUNNING && !de_sender_is_connected(relay.sender))
		state = DE_RELAY_CONNECTING;
	if (state == reported)
		return;
	de_relay_report_state(relay.db, state);
	reported = state;
}

/*
 * Stores progress if it has moved and the last time is long enough ago ("now":
 * whenever it was).
 */
static void
relay_store(bool now)
{
	int64		acked = de_sender_acked(relay.sender);

	if (!OidIsValid(relay.began) || acked <= relay.stored ||
		(!now && de_monotonic_ms() < relay.store_at))
		return;
	DE_KILL_POINT("relay-after-acknowledgement");
	de_worker_start_transaction("storing progress");
	if (de_extension_lock() == relay.began)
	{
		de_progress_store(acked);
		relay.stored = acked;
		DE_KILL_POINT("relay-after-setval");
	}
	else
		relay.look = true;
	de_worker_commit_transaction();
	DE_KILL_POINT("relay-after-store");
	pg_atomic_write_u64(&relay.db->stored_id, (uint64) relay.stored);
	relay.store_at = de_monotonic_ms() + PROGRESS_INTERVAL_MS;
}

/*
 * Moves segments on and empties what is published: when progress was stored,
 * and from time to time since segments also grow old.
 */
static void
relay_rotate(void)
{
	int64		now = de_monotonic_ms();
	bool		emptied = false;

	if (!OidIsValid(relay.extension) || !OidIsValid(relay.began) ||
		(relay.rotated == relay.stored && now < relay.rotate_at))
		return;

	/* without a snapshot: emptying a table under one is refused */
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, "rotating outbox segments");
	StartTransactionCommand();
	if (de_extension_lock() == relay.began)
		emptied = de_outbox_rotate(relay.db, relay.stored);
	else
		relay.look = true;
	CommitTransactionCommand();
	DE_KILL_POINT("relay-after-rotation");
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(de_worker->scratch);

	/* another one may be due */
	if (!emptied)
		relay.rotated = relay.stored;
	relay.rotate_at = now + ROTATE_IDLE_INTERVAL_MS;
}

/*
 * How long to wait; 0 = not at all.
 */
static long
relay_timeout(RelayPump pumped)
{
	long		timeout;
	int64		safe;

	if (pumped == RELAY_PUMP_MORE || relay.look)
		return 0;
	timeout = Min(de_sender_timeout(relay.sender), DE_MAX_WAIT_MS);
	if (OidIsValid(relay.began) && de_sender_acked(relay.sender) > relay.stored)
		timeout = Min(timeout, Max(relay.store_at - de_monotonic_ms(), 0));
	if (!relay.sending || pumped == RELAY_PUMP_BLOCKED)
		return timeout;

	/* see "Sleep" in the head of this file; the exchange is a full barrier */
	pg_atomic_exchange_u32(&relay.db->relay_asleep, 1);
	safe = (int64) de_horizon_safe(relay.db);
	safe = Min(safe, de_sender_limit(relay.sender));
	if (safe > de_sender_position(relay.sender))
		return 0;
	return timeout;
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
	relay_store(true);
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
	if (relay_event != NULL)
		errcontext("outbox id %lld, event type \"%.*s\"", (long long) relay_event->id,
				   relay_event->event_type_len, relay_event->event_type);
}
