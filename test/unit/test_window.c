/*
 * The relay's window against an oracle that keeps every event and looks
 * through all of them: ids with gaps, acknowledgements in any order, twice and
 * of before a reset, full windows, positions moved on without an event, rewinds,
 * events that are held and handed over later or turn out to be gone.
 *
 * links: worker/relay/window.c
 */
#include "tap.h"
#include "worker/relay/window.h"

#define STEPS 1000000
#define MAX_EVENTS 4096			/* handed over between two resets */
#define CAPACITY 64				/* a power of two: not rounded up */

typedef struct Event
{
	uint64_t	token;
	int64_t		id;
	int64_t		created_at;
	uint32_t	bytes;
	uint32_t	overhead;
	uint32_t	lane;
	bool		acked;
	bool		held;
} Event;

static Event events[MAX_EVENTS];
static int	n;
static int	handed;				/* of them, since the last rewind or before what it went back to */
static int64_t position;

/* The first unacknowledged event of those handed over, NULL = none. */
static Event *
oldest(void)
{
	for (int i = 0; i < handed; i++)
	{
		if (!events[i].acked)
			return &events[i];
	}
	return NULL;
}

/* Does the window say what the oracle knows? */
static bool
agrees(DeWindow *window)
{
	Event	   *first = oldest();
	int			unacked = 0;
	int			held = 0;
	size_t		cost = 0;

	for (int i = 0; i < handed; i++)
	{
		held += events[i].held;
		if (events[i].acked || events[i].held)
			continue;
		unacked++;
		cost += events[i].bytes + events[i].overhead;
	}
	return de_window_unacked(window) == unacked && de_window_held(window) == held &&
		de_window_cost(window) == cost &&
		de_window_position(window) == position &&
		de_window_acked(window) == (first != NULL ? first->id - 1 : position) &&
		de_window_oldest(window) == (first != NULL ? first->created_at : 0);
}

/* Hands an event over, or holds it. */
static void
add(DeWindow *window, Event *event, bool hold)
{
	event->token = de_window_next_token(window);
	event->held = hold;
	event->bytes = (uint32_t) tap_random(1000);
	if (hold)
		de_window_hold(window, event->id, event->created_at, event->lane, event->bytes);
	else
		de_window_add(window, event->id, event->created_at, event->lane, event->bytes,
					  event->overhead);
}

/* Does the window find the held events, and no others, from there on? */
static bool
finds_held(DeWindow *window, const Event *from)
{
	DeWindowCursor cursor;
	uint32_t	topic;
	uint64_t	token;

	de_window_seek(window, from->id, &cursor);
	for (const Event *event = from; event < events + handed; event++)
	{
		if (de_window_is_held(window, event->id, &token, &topic) != event->held)
			return false;
		if (!event->held)
			continue;
		if (token != event->token || topic != event->bytes)
			return false;
		if (!de_window_next_held(window, &cursor) || cursor.id != event->id ||
			cursor.topic != event->bytes || cursor.token != event->token)
			return false;
	}
	return !de_window_next_held(window, &cursor);
}

int
main(void)
{
	DeWindow   *window = de_window_create(CAPACITY);
	uint64_t	stale = 0;
	bool		agreed = true;
	bool		acks_right = true;
	bool		stale_right = true;
	bool		full_right = true;
	bool		ids_right = true;
	bool		never_fell = true;
	bool		skips_right = true;
	bool		held_right = true;
	int64_t		acked = 0;

	tap_seed();
	de_window_reset(window, 0);
	for (int step = 0; step < STEPS; step++)
	{
		uint64_t	what = tap_random(100);
		uint32_t	bytes = 0;
		size_t		cost = 0;

		if (what < 45 && handed < n)
		{
			/* again, after a rewind */
			Event	   *event = &events[handed++];
			bool		skipped = de_window_skip(window, event->id);

			skips_right &= skipped == event->acked;
			position = event->id;
			if (skipped)
				continue;
			full_right &= !de_window_is_full(window);
			add(window, event, tap_random(8) == 0);
		}
		else if (what < 45 && n < MAX_EVENTS)
		{
			Event	   *first = oldest();
			bool		full = first != NULL && &events[n] - first >= CAPACITY;
			Event	   *event = &events[n];

			full_right &= de_window_is_full(window) == full;
			if (full)
				continue;
			event->id = position + 1 + (int64_t) tap_random(3);
			event->created_at = event->id * 10 + 1;
			event->overhead = (uint32_t) tap_random(tap_random(2) ? 1000 : 10000000);
			event->lane = (uint32_t) tap_random(4) * 1025;
			event->acked = false;
			skips_right &= !de_window_skip(window, event->id);
			add(window, event, tap_random(8) == 0);
			position = event->id;
			handed = ++n;
		}
		else if (what < 90 && handed > 0)
		{
			/* one of the last ones, acknowledged already or not */
			Event	   *event = &events[handed - 1 - (int) tap_random(handed < 80 ? handed : 80)];

			if (event->held)
			{
				/* nothing is in flight that could be acknowledged */
				acks_right &= !de_window_ack(window, event->token, &bytes, &cost);
				ids_right &= de_window_id(window, event->token) == -1;
				event->held = false;
				if (tap_random(4) == 0)
				{
					de_window_drop(window, event->token);
					event->acked = true;
				}
				else
				{
					event->bytes = (uint32_t) tap_random(1000);
					de_window_release(window, event->token, event->lane, event->bytes,
									  event->overhead);
				}
				continue;
			}
			ids_right &= de_window_id(window, event->token) == (event->acked ? -1 : event->id);
			acks_right &= de_window_ack(window, event->token, &bytes, &cost) == !event->acked;
			if (!event->acked)
				acks_right &= bytes == event->bytes && cost == bytes + (size_t) event->overhead;
			event->acked = true;
		}
		else if (what < 91)
		{
			if (tap_random(20) == 0)
			{
				/* a rewind: what was in flight is handed over again, its tokens are void */
				Event	   *first = oldest();

				bool		behind[4] = {false};

				de_window_rewind(window);
				/* what an event of its lane was before that was not acknowledged */
				for (Event *event = first; event != NULL && event < events + n; event++)
				{
					if (!event->acked)
						behind[event->lane / 1025] = true;
					event->acked &= !behind[event->lane / 1025];
					event->held = false;
				}
				handed = first != NULL ? (int) (first - events) : handed;
				position = first != NULL ? first->id - 1 : position;
			}
			else if (handed < n)
				stale_right &= !de_window_ack(window, events[handed].token, &bytes, &cost) &&
					de_window_id(window, events[handed].token) < 0;
		}
		else if (what < 95 && handed == n)
		{
			position += (int64_t) tap_random(5);
			de_window_advance(window, position);
		}
		else if (what < 97 && step > 100)
			stale_right &= stale == 0 || !de_window_ack(window, stale - 1, &bytes, &cost);
		else if (n == MAX_EVENTS || tap_random(200) == 0)
		{
			/* a reset: what was in flight is forgotten, its tokens are void */
			stale = de_window_next_token(window);
			position = de_window_acked(window);
			acked = position;
			de_window_reset(window, position);
			n = 0;
			handed = 0;
		}
		never_fell &= de_window_acked(window) >= acked;
		acked = de_window_acked(window);
		if (step % 16 == 0)
			agreed &= agrees(window);
		if (step % 64 == 0 && handed > 0)
			held_right &= finds_held(window, &events[tap_random(handed)]);
	}
	ok(agreed, "positions, counts and costs are those of the oracle");
	ok(acks_right, "an event is acknowledged once, with its bytes");
	ok(ids_right, "ids are found by token while unacknowledged");
	ok(stale_right, "a token of before a reset or a rewind hits nothing");
	ok(skips_right, "after a rewind what was acknowledged is skipped, unless its lane waits, and nothing else");
	ok(held_right, "what is held is found, in the order of ids");
	ok(full_right, "full when the oldest event and the next one are too far apart");
	ok(never_fell, "the acknowledged position never falls");
	de_window_destroy(window);
	return tap_done();
}
