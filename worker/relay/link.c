/*-------------------------------------------------------------------------
 *
 * link.c
 *		The life of the relay's producer.
 *
 *		DOWN		to CONNECTING, when it is made
 *		CONNECTING	to UP, when a broker answers
 *		UP			to RETIRING, for other settings; to DYING, when it fails
 *		RETIRING	to DOWN, when nothing is in flight or in time
 *		DYING		to DOWN, when its last words have come
 *
 * CONNECTING may end as UP does, RETIRING may turn into DYING.
 * One deadline belongs to the state: until when a producer that is to go may
 * stay, or before when no other is made.
 *
 * A producer's successor is not made before its threads have ended and closed
 * their connections, or both would be sending.  What a broker had already
 * received by then it may still append afterwards; that is the gap of
 * at-least-once that README.md names.
 *
 * Main thread of the relay only.  The exit callback may come at any point, so
 * the producer is let go of in one assignment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/memutils.h"

#include "extension/base/clock.h"
#include "extension/base/guc.h"
#include "worker/base/backoff.h"
#include "worker/life/worker.h"
#include "worker/relay/link.h"

/* Before another attempt with a new producer. */
#define LINK_RETRY_MIN_MS 1000
#define LINK_RETRY_MAX_MS 30000

/*
 * How long a dead producer's reports are waited for: they say what killed it,
 * and of other partitions' requests, which are on their way, that they have
 * arrived and need not be repeated.
 */
#define LINK_LAST_WORDS_MS 500

/* How long a producer that is to be replaced may take to finish. */
#define LINK_RETIRE_MS 3000

/* A predecessor that has not ended by then never will: a new process is needed. */
#define LINK_TEARDOWN_MS 60000

/* How often a state is looked at that changes without waking anybody. */
#define LINK_POLL_MS 20

/* For so long a broker is expected at any moment. */
#define LINK_CONNECT_SOON_MS 1500
#define LINK_CONNECT_POLL_MS 250

/*
 * A broker that stands still, connections and all, holds what it was sent for
 * so long, though its partitions have another leader within a few seconds; so
 * not the library's 60 s.  A sound broker answers within the second one, also
 * when its replicas are slow.  Longer than DE_HEALTH_SILENT_MS: that nobody
 * answers says more than that the library has closed a connection.
 */
#define LINK_SOCKET_TIMEOUT_MS 11000
#define LINK_REQUEST_TIMEOUT_MS 8000

struct DeLink
{
	DeLinkState state;
	int64		until;			/* deadline of the state, de_monotonic_ms() */
	int64		since;			/* when the producer was made, or the last one let go of */
	bool		enabled;
	bool		connected;		/* a broker has answered this producer */
	int			attempts;		/* producers given up in a row */
	DeProducer *producer;		/* NULL = none */
	WaitEventSet *wait_set;		/* NULL = to be made */
	DeProducerLearned learned;
	char		reason[DE_KAFKA_ERROR_SIZE];	/* why it reported its death */
};

static void link_drop_wait_set(DeLink *link);

/*
 * Makes a link without a producer.
 */
DeLink *
de_link_create(MemoryContext parent)
{
	return MemoryContextAllocZero(parent, sizeof(DeLink));
}

/*
 * Allows or forbids a producer.
 */
void
de_link_enable(DeLink *link, bool enabled)
{
	if (link->enabled == enabled)
		return;
	link->enabled = enabled;
	de_link_reconfigure(link);
}

/*
 * Has the producer replaced; events wait until it is.
 */
void
de_link_reconfigure(DeLink *link)
{
	if (link->state == DE_LINK_CONNECTING || link->state == DE_LINK_UP)
	{
		link->state = DE_LINK_RETIRING;
		link->until = de_monotonic_ms() + LINK_RETIRE_MS;
	}
	/* one that could not be made, or that failed, may do now */
	else if (link->state == DE_LINK_DOWN)
		link->until = 0;
	link->attempts = 0;
}

DeLinkState
de_link_state(const DeLink *link)
{
	return link->state;
}

DeProducer *
de_link_producer(const DeLink *link)
{
	return link->producer;
}

bool
de_link_is_connected(const DeLink *link)
{
	return link->connected;
}

/*
 * Is a producer to be made now?
 */
bool
de_link_is_due(DeLink *link, int64 now)
{
	if (link->state != DE_LINK_DOWN || !link->enabled || now < link->until)
		return false;
	if (de_kafka_teardown_wait(0))
		return true;
	if (now - link->since >= LINK_TEARDOWN_MS)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("connections to Kafka did not end within %d seconds",
						LINK_TEARDOWN_MS / 1000),
				 errdetail("A new process will take over.")));
	return false;
}

/*
 * Makes a producer as the settings say.
 */
bool
de_link_make(DeLink *link, int64 now, char *error, int error_size)
{
	DeProducerOptions options = {
		.bootstrap_servers = de_bootstrap_servers,
		.properties = de_kafka_config,
		.client_id = "durable_event",
		.idempotent = true,
		.gapless = true,
		.buffer_kb = de_relay_buffer_size,
		.record_kb = de_max_event_size,
		.socket_timeout_ms = LINK_SOCKET_TIMEOUT_MS,
		.request_timeout_ms = LINK_REQUEST_TIMEOUT_MS,
		.learned = &link->learned
	};

	Assert(link->state == DE_LINK_DOWN);
	link->producer = de_producer_create(&options, error, error_size);
	if (link->producer == NULL)
	{
		/* nothing but other settings will change that, and they reset it */
		link->until = now + LINK_RETRY_MAX_MS;
		return false;
	}
	link->state = DE_LINK_CONNECTING;
	link->since = now;
	link->connected = false;
	link_drop_wait_set(link);
	return true;
}

/*
 * Looks whether a broker has answered.  Clusters are told apart by where they
 * were asked as well: some do not say their id, and a copy has the original's.
 */
bool
de_link_check_connected(DeLink *link, char *cluster)
{
	size_t		len;

	if (link->producer == NULL || link->connected ||
		!de_producer_cluster(link->producer, cluster))
		return false;
	len = strlen(cluster);
	snprintf(cluster + len, DE_KAFKA_CLUSTER_SIZE - len, " at %s", de_bootstrap_servers);
	link->connected = true;
	if (link->state == DE_LINK_CONNECTING)
		link->state = DE_LINK_UP;
	return true;
}

/*
 * Notes that the producer is dead, and why.
 */
void
de_link_fail(DeLink *link, int64 now, const char *reason)
{
	if (link->state != DE_LINK_DYING)
		link->until = now + LINK_LAST_WORDS_MS;
	link->state = DE_LINK_DYING;
	strlcpy(link->reason, reason, sizeof(link->reason));
}

/*
 * Lets go of a producer that is to go; see link.h.
 */
DeLinkState
de_link_end(DeLink *link, int64 now, bool idle, bool hopeless)
{
	DeLinkState state = link->state;
	DeProducer *producer = link->producer;

	if (state != DE_LINK_DYING && state != DE_LINK_RETIRING)
		return DE_LINK_DOWN;
	if (now < link->until && !idle && !(hopeless && state == DE_LINK_RETIRING))
		return DE_LINK_DOWN;

	link->until = 0;
	if (state == DE_LINK_DYING)
	{
		double		random = pg_prng_double(&pg_global_prng_state);

		link->attempts++;
		link->until = now;
		link->until += de_backoff_ms(link->attempts, LINK_RETRY_MIN_MS, LINK_RETRY_MAX_MS, random);
	}
	/* a set must not hold a descriptor that is closed elsewhere and may be given out again */
	link_drop_wait_set(link);
	link->state = DE_LINK_DOWN;
	link->connected = false;
	link->since = now;
	link->producer = NULL;
	de_producer_destroy(producer);
	return state;
}

const char *
de_link_reason(const DeLink *link)
{
	return link->reason;
}

int
de_link_attempts(const DeLink *link)
{
	return link->attempts;
}

void
de_link_proved(DeLink *link)
{
	link->attempts = 0;
}

/*
 * When to come back: neither a predecessor's end nor a broker's first answer
 * wakes anybody.
 */
long
de_link_timeout(const DeLink *link, int64 now)
{
	switch (link->state)
	{
		case DE_LINK_DOWN:
			if (!link->enabled)
				return DE_MAX_WAIT_MS;
			return link->until > now ? (long) Min(link->until - now, DE_MAX_WAIT_MS) :
									   LINK_POLL_MS;
		case DE_LINK_CONNECTING:
			return now - link->since < LINK_CONNECT_SOON_MS ? LINK_POLL_MS : LINK_CONNECT_POLL_MS;
		case DE_LINK_UP:
			return DE_MAX_WAIT_MS;
		case DE_LINK_RETIRING:
		case DE_LINK_DYING:
			return LINK_POLL_MS;
	}
	return DE_MAX_WAIT_MS;
}

WaitEventSet *
de_link_wait_set(DeLink *link)
{
	if (link->wait_set == NULL)
	{
		int			fd = link->producer != NULL ? de_producer_fd(link->producer) : -1;

		link->wait_set = de_worker_create_wait_set(link->producer != NULL ? 1 : 0, &fd);
	}
	return link->wait_set;
}

static void
link_drop_wait_set(DeLink *link)
{
	WaitEventSet *set = link->wait_set;

	link->wait_set = NULL;
	if (set != NULL)
		FreeWaitEventSet(set);
}

/*
 * At process exit: lets go of the producer.
 */
void
de_link_abandon(DeLink *link)
{
	DeProducer *producer = link->producer;

	link->producer = NULL;
	if (producer != NULL)
		de_producer_destroy(producer);
}
