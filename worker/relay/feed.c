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
 * Linger.  An event that comes alone is read and sent at once.  When a read has
 * found all there was, the next one begins relay_linger after it at the earliest:
 * under load a read, a turn of the relay's loop and a request then serve all
 * events of that time, and publishers need not wake anybody.  The library's own
 * linger makes each event wait, also the one that nothing comes behind.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "portability/instr_time.h"
#include "utils/memutils.h"

#include "extension/base/catalog.h"
#include "extension/base/guc.h"
#include "extension/base/kill_point.h"
#include "extension/outbox/horizon.h"
#include "extension/outbox/outbox.h"
#include "worker/life/worker.h"
#include "worker/relay/feed.h"

/*
 * One read: enough to make its fixed cost small beside it, and little enough to
 * be still in the processor's cache when it is handed over.  Reports are taken
 * between two reads, so this also bounds how far what is in flight outgrows
 * what Kafka needs; measured, 10,000 events cost a tenth to two fifths more CPU.
 */
#define FEED_BATCH_EVENTS 1000
#define FEED_BATCH_BYTES (1024 * 1024)

/* The context keeps so much from batch to batch, rather than to ask for it anew. */
#define FEED_BATCH_KEPT (512 * 1024)

/*
 * A topic may be shut again by the first of what it held, when a producer is
 * new, say; so that is read in batches that grow as long as all is taken.
 */
#define FEED_HELD_EVENTS 32

/* Events that were read and are being handed over. */
typedef struct FeedBatch
{
	MemoryContext context;
	DeOutboxBatch read;
	int			next;			/* first of them not handed over */
	bool		unfinished;		/* it, or the end of the batch, is to come */
} FeedBatch;

struct DeFeed
{
	DeDatabase *db;
	DeSender   *sender;
	FeedBatch	flow;			/* behind the sender's position */
	FeedBatch	held;			/* before it, held until now */
	bool		caught_up;		/* the last read found something, and all there was */
	int64		read_at;		/* when it began, in microseconds */
	int64		held_first;		/* where that begins */
	int			held_events;	/* at most so many in it */
	uint32		rewinds;		/* of the sender, when the batches were read */
	const DeOutboxEvent *event; /* at hand; NULL = none */
};

static void feed_init_batch(FeedBatch *batch, MemoryContext parent);
static int64 feed_now(void);
static int64 feed_horizon(DeFeed *feed);
static DeFeedResult feed_read(FeedBatch *batch, Oid extension, int64 after, int64 upto,
							  const DeOutboxFilter *filter, int max_events);
static bool feed_offer(DeFeed *feed, FeedBatch *batch,
					   bool (*offer)(DeSender *sender, const DeOutboxEvent *event));
static DeFeedResult feed_run_held(DeFeed *feed, Oid extension);
static bool feed_wants(void *sender, int64 id);

DeFeed *
de_feed_create(MemoryContext parent, DeDatabase *db, DeSender *sender)
{
	DeFeed	   *feed = MemoryContextAllocZero(parent, sizeof(DeFeed));

	feed->db = db;
	feed->sender = sender;
	feed_init_batch(&feed->flow, parent);
	feed_init_batch(&feed->held, parent);
	feed->held_events = FEED_HELD_EVENTS;
	return feed;
}

static void
feed_init_batch(FeedBatch *batch, MemoryContext parent)
{
	batch->context = AllocSetContextCreate(parent, "durable_event relay batch", FEED_BATCH_KEPT,
										   FEED_BATCH_KEPT, ALLOCSET_DEFAULT_MAXSIZE);
}

/*
 * Hands over what there is; see feed.h.
 */
DeFeedResult
de_feed_run(DeFeed *feed, Oid extension)
{
	FeedBatch  *batch = &feed->flow;
	DeFeedResult result;

	/* after a rewind the rest of a batch is not what comes next */
	if (feed->rewinds != de_sender_rewinds(feed->sender))
	{
		feed->flow.unfinished = false;
		feed->held.unfinished = false;
		feed->rewinds = de_sender_rewinds(feed->sender);
	}

	/* what was held comes before what is newer, or it would wait for ever under load */
	result = feed_run_held(feed, extension);
	if (result != DE_FEED_IDLE)
		return result;

	if (!batch->unfinished)
	{
		int64		safe;

		if (!de_sender_has_credit(feed->sender))
			return DE_FEED_BLOCKED;
		if (de_feed_linger_ms(feed) > 0)
			return DE_FEED_LINGERS;
		safe = feed_horizon(feed);
		if (safe <= de_sender_position(feed->sender))
			return DE_FEED_IDLE;
		feed->read_at = feed_now();
		result = feed_read(batch, extension, de_sender_position(feed->sender), safe, NULL,
						   FEED_BATCH_EVENTS);
		feed->caught_up = result == DE_FEED_MORE && batch->read.n > 0 && batch->read.upto == safe;
		if (result != DE_FEED_MORE)
			return result;
	}
	if (!feed_offer(feed, batch, de_sender_offer))
		return DE_FEED_BLOCKED;
	de_sender_advance(feed->sender, batch->read.upto);
	DE_KILL_POINT("relay-after-hand-over");
	return de_feed_linger_ms(feed) > 0 ? DE_FEED_LINGERS : DE_FEED_MORE;
}

/*
 * Time until the next read may begin; see feed.h.
 */
long
de_feed_linger_ms(const DeFeed *feed)
{
	int64		left;

	if (!feed->caught_up)
		return 0;
	left = feed->read_at + (int64) de_relay_linger * 1000 - feed_now();
	return left > 0 ? (long) ((left + 999) / 1000) : 0;
}

/*
 * Microseconds of a clock that nobody sets.
 */
static int64
feed_now(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * Hands over what was held and need not be any more; IDLE = there is none.
 */
static DeFeedResult
feed_run_held(DeFeed *feed, Oid extension)
{
	FeedBatch  *batch = &feed->held;

	if (!batch->unfinished)
	{
		DeOutboxFilter filter = {.wanted = feed_wants, .arg = feed->sender};
		DeFeedResult result;
		int64		last;

		if (!de_sender_sweep(feed->sender, &feed->held_first, &last))
			return DE_FEED_IDLE;
		result = feed_read(batch, extension, feed->held_first - 1, last, &filter,
						   feed->held_events);
		if (result != DE_FEED_MORE)
			return result;
	}
	if (!feed_offer(feed, batch, de_sender_offer_held))
		return DE_FEED_BLOCKED;
	if (!de_sender_swept(feed->sender, feed->held_first, batch->read.upto))
		feed->held_events = FEED_HELD_EVENTS;
	else if (feed->held_events < FEED_BATCH_EVENTS)
		feed->held_events *= 2;
	return DE_FEED_MORE;
}

static bool
feed_wants(void *sender, int64 id)
{
	return de_sender_wants(sender, id);
}

/*
 * Offers the rest of a batch; false = the sender takes no more for now.
 */
static bool
feed_offer(DeFeed *feed, FeedBatch *batch,
		   bool (*offer)(DeSender *sender, const DeOutboxEvent *event))
{
	while (batch->next < batch->read.n)
	{
		bool		taken;

		feed->event = &batch->read.events[batch->next];
		taken = offer(feed->sender, feed->event);
		feed->event = NULL;
		if (!taken)
			return false;
		batch->next++;
	}
	batch->unfinished = false;
	return true;
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
 * Reads a batch.
 */
static DeFeedResult
feed_read(FeedBatch *batch, Oid extension, int64 after, int64 upto, const DeOutboxFilter *filter,
		  int max_events)
{
	DeFeedResult result = DE_FEED_MORE;

	batch->read.n = 0;
	batch->next = 0;
	MemoryContextReset(batch->context);

	/* the snapshot must be younger than the horizon (horizon.c, R6) */
	de_worker_start_transaction("reading the outbox");
	if (de_extension_lock() != extension)
		result = DE_FEED_GONE;
	else
	{
		MemoryContextSwitchTo(batch->context);
		if (!de_outbox_read(after, upto, filter, max_events, FEED_BATCH_BYTES,
							&batch->read))
			result = DE_FEED_LOCKED;
	}
	de_worker_commit_transaction();
	batch->unfinished = result == DE_FEED_MORE;
	if (result != DE_FEED_MORE)
		return result;
	DE_KILL_POINT("relay-after-read");
	ereport(DEBUG1,
			(errmsg_internal("durable_event relay read %d events up to id %lld", batch->read.n,
							 (long long) batch->read.upto)));
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
