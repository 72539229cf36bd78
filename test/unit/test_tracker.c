/*
 * Offset tracker against an oracle that keeps every offset and looks through
 * all of them: sparse offsets, acknowledgements in any order, twice and of
 * unknown offsets, full windows, resets.
 *
 * links: worker/proxy/tracker.c
 */
#include "tap.h"
#include "worker/proxy/tracker.h"

#define STEPS 2000000
#define MAX_TAKEN 4096			/* offsets between two resets */

/* What was taken since the last reset, with nothing ever forgotten. */
typedef struct Oracle
{
	int			window;
	int			n;
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
	return oracle->n > 0 ? oracle->offsets[oracle->n - 1] + 1 : -1;
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

static bool
oracle_add(Oracle *oracle, int64_t offset)
{
	if (oracle->n > 0 && offset <= oracle->offsets[oracle->n - 1])
		return false;
	if (oracle_held(oracle) >= oracle->window)
		return false;
	oracle->offsets[oracle->n] = offset;
	oracle->acked[oracle->n] = false;
	oracle->n++;
	return true;
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
	tracker = de_tracker_create(oracle.window);

	for (; steps < length && oracle.n < MAX_TAKEN; steps++)
	{
		int			action = (int) tap_random(1000);
		int64_t		offset = 0;
		bool		expected = true;
		bool		got = true;

		if (action == 0)
		{
			de_tracker_reset(tracker);
			oracle.n = 0;
			position = -1;
			next = (int64_t) tap_random(1000);	/* offsets may fall after a reset */
		}
		else if (action < 10 * taking)
		{
			offset = next;
			if (tap_random(50) == 0 && oracle.n > 0)	/* one that does not ascend */
				offset = oracle.offsets[oracle.n - 1] - (int64_t) tap_random(3);
			expected = oracle_add(&oracle, offset);
			got = de_tracker_add(tracker, offset);
			if (expected)
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
			de_tracker_full(tracker) != (oracle_held(&oracle) >= oracle.window) ||
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

int
main(void)
{
	DeTracker  *tracker = de_tracker_create(3);
	long		steps = 0;

	tap_seed();

	ok(de_tracker_position(tracker) == -1, "no position before the first offset");
	ok(!de_tracker_ack(tracker, 0), "nothing to acknowledge");
	ok(de_tracker_add(tracker, 10) && de_tracker_position(tracker) == 10,
	   "the position is the first offset taken");
	ok(de_tracker_add(tracker, 20) && de_tracker_add(tracker, 21), "offsets may have gaps");
	ok(de_tracker_full(tracker) && !de_tracker_add(tracker, 22), "the window has an end");
	ok(de_tracker_ack(tracker, 20) && de_tracker_position(tracker) == 10,
	   "an acknowledgement out of order does not move the position");
	ok(de_tracker_full(tracker), "and makes no room");
	ok(!de_tracker_ack(tracker, 20), "it counts once");
	ok(!de_tracker_ack(tracker, 15), "an offset in a gap is not tracked");
	ok(de_tracker_ack(tracker, 10) && de_tracker_position(tracker) == 21,
	   "the position passes what was acknowledged before");
	ok(de_tracker_ack(tracker, 21) && de_tracker_position(tracker) == 22,
	   "all acknowledged: the one after the last");
	ok(!de_tracker_add(tracker, 21), "an offset that does not ascend is refused");
	ok(de_tracker_add(tracker, 1000) && de_tracker_position(tracker) == 1000,
	   "the position moves over a gap with the next offset");
	de_tracker_reset(tracker);
	ok(de_tracker_position(tracker) == -1 && de_tracker_unacked(tracker) == 0 &&
		   de_tracker_add(tracker, 5),
	   "after a reset lower offsets are welcome");
	de_tracker_destroy(tracker);

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
