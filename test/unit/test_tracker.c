/*
 * Offset tracker against an oracle that keeps every offset and looks through
 * all of them: sparse offsets, acknowledgements in any order, twice and of
 * unknown offsets, full windows, truncated logs.
 *
 * links: worker/proxy/tracker.c
 */
#include "tap.h"
#include "worker/proxy/tracker.h"

#define STEPS 2000000
#define MAX_TAKEN 4096			/* offsets in the life of a tracker */

/* What was taken, with nothing ever forgotten but by truncation. */
typedef struct Oracle
{
	int			window;
	int			n;
	int64_t		next;			/* lowest offset that may be added */
	int64_t		offsets[MAX_TAKEN];
	bool		acked[MAX_TAKEN];
} Oracle;

static int64_t
oracle_position(const Oracle *oracle)
{
	for (int i = 0; i < oracle->n; i++)
	{
		if (!oracle->acked[i])
			return oracle->offsets[i];
	}
	return oracle->next > 0 ? oracle->next : -1;
}

static int
oracle_unacked(const Oracle *oracle)
{
	int			unacked = 0;

	for (int i = 0; i < oracle->n; i++)
		unacked += !oracle->acked[i];
	return unacked;
}

/* Offsets that still have to be known: from the lowest unacknowledged one on. */
static int
oracle_held(const Oracle *oracle)
{
	for (int i = 0; i < oracle->n; i++)
	{
		if (!oracle->acked[i])
			return oracle->n - i;
	}
	return 0;
}

static DeTrackerResult
oracle_add(Oracle *oracle, int64_t offset)
{
	if (offset < oracle->next)
		return DE_TRACKER_NOT_ASCENDING;
	if (oracle_held(oracle) >= oracle->window)
		return DE_TRACKER_FULL;
	oracle->offsets[oracle->n] = offset;
	oracle->acked[oracle->n] = false;
	oracle->n++;
	oracle->next = offset + 1;
	return DE_TRACKER_OK;
}

static void
oracle_truncate(Oracle *oracle, int64_t offset)
{
	if (offset >= oracle->next)
		return;
	while (oracle->n > 0 && oracle->offsets[oracle->n - 1] >= offset)
		oracle->n--;
	oracle->next = offset;
}

static bool
oracle_ack(Oracle *oracle, int64_t offset)
{
	for (int i = 0; i < oracle->n; i++)
	{
		if (oracle->offsets[i] == offset)
		{
			bool		first_time = !oracle->acked[i];

			oracle->acked[i] = true;
			return first_time;
		}
	}
	return false;
}

/* One life of a tracker; returns the steps taken, or -1 when it differs from the oracle. */
static long
compare(void)
{
	static const int gaps[] = {1, 1, 1, 2, 5, 100, 1000000};
	static Oracle oracle;
	DeTracker  *tracker;
	long		steps = 0;
	int			gap = gaps[tap_random(sizeof(gaps) / sizeof(gaps[0]))];
	int64_t		next = (int64_t) tap_random(1000);
	int64_t		position = -1;
	int			length = 50 + (int) tap_random(1500);
	int			taking = 30 + (int) tap_random(40);	/* percent */
	bool		in_order = tap_random(3) == 0;

	oracle.window = 1 + (int) tap_random(tap_random(4) == 0 ? 300 : 20);
	oracle.n = 0;
	oracle.next = 0;
	tracker = de_tracker_create(oracle.window);

	for (; steps < length && oracle.n < MAX_TAKEN; steps++)
	{
		int			action = (int) tap_random(1000);
		int64_t		offset = 0;
		int			expected = 0;
		int			got = 0;

		if (action < 3 && oracle.n > 0)
		{
			int			recent = oracle.n < 30 ? oracle.n : 30;

			/* one of those taken, or near one; higher than all now and then */
			offset = oracle.offsets[oracle.n - 1 - (int) tap_random(recent)] +
				(int64_t) tap_random(3);
			oracle_truncate(&oracle, offset);
			de_tracker_truncate(tracker, offset);
			next = oracle.next;
			if (position > offset)
				position = offset;
		}
		else if (action < 10 * taking)
		{
			offset = next;
			if (tap_random(50) == 0 && oracle.n > 0)	/* one that does not ascend */
				offset = oracle.offsets[oracle.n - 1] - (int64_t) tap_random(3);
			expected = oracle_add(&oracle, offset);
			got = de_tracker_add(tracker, offset);
			if (expected == DE_TRACKER_OK)
				next = offset + 1 + (int64_t) tap_random(gap);
		}
		else
		{
			if (in_order)
				offset = oracle_position(&oracle);
			else if (oracle.n > 0 && tap_random(20) != 0)
			{
				int			recent = oracle.n < 400 ? oracle.n : 400;

				offset = oracle.offsets[oracle.n - 1 - (int) tap_random(recent)];
			}
			else
				offset = (int64_t) tap_random(next + 10) - 3;	/* most likely unknown */
			expected = oracle_ack(&oracle, offset);
			got = de_tracker_ack(tracker, offset);
		}

		if (got != expected ||
			de_tracker_position(tracker) != oracle_position(&oracle) ||
			de_tracker_unacked(tracker) != oracle_unacked(&oracle) ||
			(de_tracker_reserve(tracker) == DE_TRACKER_FULL) !=
				(oracle_held(&oracle) >= oracle.window) ||
			de_tracker_position(tracker) < position)
		{
			printf("# step %ld, offset %lld: got %d, expected %d; position %lld, expected %lld\n",
				   steps, (long long) offset, got, expected,
				   (long long) de_tracker_position(tracker), (long long) oracle_position(&oracle));
			de_tracker_destroy(tracker);
			return -1;
		}
		position = de_tracker_position(tracker);
	}
	de_tracker_destroy(tracker);
	return steps;
}

/*
 * 100 to 110 are taken, those up to "acked" are acknowledged; then the log is
 * truncated and goes on with "next".  What may be committed, before the new
 * record is acknowledged and after, and when all is.
 */
static void
test_truncation(void)
{
	static const struct
	{
		int64_t		acked;
		int64_t		next;
		int64_t		before;
		int64_t		after;
		int64_t		at_last;
		int			unacked;	/* with the new record */
	}			rows[] = {
		{99, 105, 100, 100, 106, 6},	/* nothing acknowledged: stays where it was */
		{102, 105, 103, 103, 106, 3},
		{104, 105, 105, 106, 106, 1},
		{107, 105, 105, 106, 106, 1},	/* falls: 105 is another record now */
		{110, 105, 105, 106, 106, 1},
		{99, 100, 100, 101, 101, 1},	/* nothing is left of what was taken */
		{99, 50, 50, 51, 51, 1},
		{110, 50, 50, 51, 51, 1},
		{99, 110, 100, 100, 111, 11},
		{99, 111, 100, 100, 112, 12},	/* no truncation at all */
		{110, 111, 111, 112, 112, 1},
	};

	for (int i = 0; i < (int) (sizeof(rows) / sizeof(rows[0])); i++)
	{
		DeTracker  *tracker = de_tracker_create(100);
		bool		ascends = rows[i].next > 110;
		int64_t		before;
		int64_t		after;
		int			unacked;
		char		name[100];

		for (int64_t offset = 100; offset <= 110; offset++)
			(void) de_tracker_add(tracker, offset);
		for (int64_t offset = 100; offset <= rows[i].acked; offset++)
			(void) de_tracker_ack(tracker, offset);

		snprintf(name, sizeof(name), "%d acknowledged, then %d: ascends or not",
				 (int) rows[i].acked, (int) rows[i].next);
		ok(de_tracker_add(tracker, rows[i].next) ==
			   (ascends ? DE_TRACKER_OK : DE_TRACKER_NOT_ASCENDING),
		   name);
		if (!ascends)
		{
			de_tracker_truncate(tracker, rows[i].next);
			(void) de_tracker_add(tracker, rows[i].next);
		}
		before = de_tracker_position(tracker);
		unacked = de_tracker_unacked(tracker);
		(void) de_tracker_ack(tracker, rows[i].next);
		after = de_tracker_position(tracker);
		for (int64_t offset = 0; offset <= 111; offset++)
			(void) de_tracker_ack(tracker, offset);
		snprintf(name, sizeof(name), "positions %d, %d, %d with %d unacknowledged", (int) before,
				 (int) after, (int) de_tracker_position(tracker), unacked);
		ok(before == rows[i].before && after == rows[i].after && unacked == rows[i].unacked &&
			   de_tracker_position(tracker) == rows[i].at_last,
		   name);
		de_tracker_destroy(tracker);
	}
}

int
main(void)
{
	DeTracker  *tracker = de_tracker_create(3);
	long		steps = 0;

	tap_seed();

	ok(de_tracker_position(tracker) == -1, "no position before the first offset");
	ok(!de_tracker_ack(tracker, 0), "nothing to acknowledge");
	ok(de_tracker_add(tracker, 10) == DE_TRACKER_OK && de_tracker_position(tracker) == 10,
	   "the position is the first offset taken");
	ok(de_tracker_add(tracker, 20) == DE_TRACKER_OK && de_tracker_add(tracker, 21) == DE_TRACKER_OK,
	   "offsets may have gaps");
	ok(de_tracker_reserve(tracker) == DE_TRACKER_FULL &&
		   de_tracker_add(tracker, 22) == DE_TRACKER_FULL,
	   "the window has an end");
	ok(de_tracker_ack(tracker, 20) && de_tracker_position(tracker) == 10,
	   "an acknowledgement out of order does not move the position");
	ok(de_tracker_reserve(tracker) == DE_TRACKER_FULL, "and makes no room");
	ok(!de_tracker_ack(tracker, 20), "it counts once");
	ok(!de_tracker_ack(tracker, 15), "an offset in a gap is not tracked");
	ok(de_tracker_ack(tracker, 10) && de_tracker_position(tracker) == 21,
	   "the position passes what was acknowledged before");
	ok(de_tracker_ack(tracker, 21) && de_tracker_position(tracker) == 22,
	   "all acknowledged: the one after the last");
	ok(de_tracker_add(tracker, 21) == DE_TRACKER_NOT_ASCENDING,
	   "an offset that does not ascend is refused");
	ok(de_tracker_add(tracker, 1000) == DE_TRACKER_OK && de_tracker_position(tracker) == 1000,
	   "the position moves over a gap with the next offset");
	de_tracker_destroy(tracker);
	test_truncation();

	while (steps < STEPS)
	{
		long		taken = compare();

		if (taken < 0)
			break;
		steps += taken;
	}
	ok(steps >= STEPS, "two million random steps agree with the oracle");

	return tap_done();
}
