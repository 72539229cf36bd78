/*-------------------------------------------------------------------------
 *
 * feed.c
 *		Reads the outbox and offers its events to the sender.
 *
 * G3	Ids are commit order, batches are read and offered by id.
 * G5	Nothing is read before de_horizon_safe() has flushed its commit.
 *
 * A batch is read in a short transaction that is over before the first of its
 * events is offered (G8, pitfall 9).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "extension/base/catalog.h"
#include "extension/base/kill_point.h"
#include "extension/outbox/horizon.h"
#include "extension/outbox/outbox.h"
#include "worker/life/worker.h"
#include "worker/relay/feed.h"

/*
 * One read: enough to make its fixed cost small beside it, and little enough to
 * be still in the processor's cache when it is handed over.  Reports are taken
 * between two reads, so this also bounds how far what is in flight outgrows
 * what Kafka needs; measured, 10,000 events cost half as much again.
 */
#define FEED_BATCH_EVENTS 1000
#define FEED_BATCH_BYTES (1024 * 1024)

/* The context keeps so much from batch to batch, rather than to ask for it anew. */
#define FEED_BATCH_KEPT (512 * 1024)

struct DeFeed
{
	DeDatabase *db;
	DeSender   *sender;
	MemoryContext context;		/* of the batch */
	DeOutboxBatch batch;
	int			next;			/* first event of the batch not handed over */
	uint32		rewinds;		/* of the sender, when the batch was read */
	const DeOutboxEvent *event; /* at hand; NULL = none */
};

static int64 feed_horizon(DeFeed *feed);
static DeFeedResult feed_read(DeFeed *feed, Oid extension, int64 upto);

DeFeed *
de_feed_create(MemoryContext parent, DeDatabase *db, DeSender *sender)
{
	DeFeed	   *feed = MemoryContextAllocZero(parent, sizeof(DeFeed));

	feed->db = db;
	feed->sender = sender;
	feed->context = AllocSetContextCreate(parent, "durable_event relay batch", FEED_BATCH_KEPT,
										  FEED_BATCH_KEPT, ALLOCSET_DEFAULT_MAXSIZE);
	return feed;
}

/*
 * Hands over what there is; see feed.h.
 */
DeFeedResult
de_feed_run(DeFeed *feed, Oid extension)
{
	DeOutboxBatch *batch = &feed->batch;

	/* after a rewind the rest of the batch is not what comes next */
	if (feed->rewinds != de_sender_rewinds(feed->sender))
	{
		batch->n = 0;
		feed->next = 0;
		feed->rewinds = de_sender_rewinds(feed->sender);
	}

	if (feed->next >= batch->n)
	{
		int64		safe;
		DeFeedResult result;

		if (!de_sender_has_credit(feed->sender))
			return DE_FEED_BLOCKED;
		safe = feed_horizon(feed);
		if (safe <= de_sender_position(feed->sender))
			return DE_FEED_IDLE;
		result = feed_read(feed, extension, safe);
		if (result != DE_FEED_MORE)
			return result;
	}

	while (feed->next < batch->n)
	{
		bool		taken;

		feed->event = &batch->events[feed->next];
		taken = de_sender_offer(feed->sender, feed->event);
		feed->event = NULL;
		if (!taken)
			return DE_FEED_BLOCKED;
		feed->next++;
	}
	de_sender_advance(feed->sender, batch->upto);
	DE_KILL_POINT("relay-after-hand-over");
	return DE_FEED_MORE;
}

/*
 * The id up to which may be read now.
 */
static int64
feed_horizon(DeFeed *feed)
{
	int64		safe = (int64) de_horizon_safe(feed->db);

	return Min(safe, de_sender_limit(feed->sender));
}

/*
 * Reads the next batch.
 */
static DeFeedResult
feed_read(DeFeed *feed, Oid extension, int64 upto)
{
	DeFeedResult result = DE_FEED_MORE;

	feed->batch.n = 0;
	feed->next = 0;
	MemoryContextReset(feed->context);

	/* the snapshot must be younger than the horizon (horizon.c, R6) */
	de_worker_start_transaction("reading the outbox");
	if (de_extension_lock() != extension)
		result = DE_FEED_GONE;
	else
	{
		MemoryContextSwitchTo(feed->context);
		if (!de_outbox_read(de_sender_position(feed->sender), upto, FEED_BATCH_EVENTS,
							FEED_BATCH_BYTES, &feed->batch))
			result = DE_FEED_LOCKED;
	}
	de_worker_commit_transaction();
	if (result != DE_FEED_MORE)
		return result;
	DE_KILL_POINT("relay-after-read");
	ereport(DEBUG1,
			(errmsg_internal("durable_event relay read %d events up to id %lld", feed->batch.n,
							 (long long) feed->batch.upto)));
	return DE_FEED_MORE;
}

bool
de_feed_has_more(DeFeed *feed)
{
	return feed_horizon(feed) > de_sender_position(feed->sender);
}

const DeOutboxEvent *
de_feed_event(const DeFeed *feed)
{
	return feed->event;
}
