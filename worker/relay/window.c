/*-------------------------------------------------------------------------
 *
 * window.c
 *		The relay's window of events in flight.
 *
 * A ring of entries in the order of their ids, which is the order in which
 * they were handed over.  Acknowledgements come in any order (one partition
 * is faster than another); entries leave at the front only, so that the first
 * one left bounds what may be stored as progress.
 *
 * A rewind moves only "next" back: the entries from there to "end" have been
 * handed over before, and are met again in the same order.  Those of them that
 * were acknowledged are not sent again: a partition that has taken its events
 * need not take them twice because another one did not.  Unless an event of
 * their partition before them is not: sent alone, it would come to stand behind
 * them, as the last that a reader by key keeps.
 *
 * An event whose topic takes none for now is an entry too, but held: it has a
 * place and is not in flight.  It is handed over later, in its place, or after
 * a rewind like all others.
 *
 * A token is the number of its entry, counted since creation, with the number
 * of the rewind before it in the upper 16 bits: never used twice in the life of
 * a producer, so an acknowledgement of what a reset has forgotten hits nothing.
 *
 * Invariants
 *		first <= next <= end, end - first <= capacity
 *		entry [first] is unacknowledged, if there is one
 *		ids ascend strictly from first to end - 1; those before next are <= position
 *		unacked and cost are those of the unacknowledged entries before next that
 *		are not held
 *		none from next on is held
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "worker/relay/window.h"

typedef struct WindowEntry
{
	int64_t		id;
	int64_t		created_at;
	uint64_t bytes : 27;		/* while it is held, the number of its topic */
	uint64_t overhead : 25; /* of an event with very many headers, megabytes */
	uint64_t lane : 10;		/* of its hash: two partitions in one lane only repeat more */
	uint64_t acked : 1;
	uint64_t held : 1;
} WindowEntry;

#define WINDOW_MAX_BYTES ((1 << 27) - 1)
#define WINDOW_MAX_OVERHEAD ((1 << 25) - 1)
#define WINDOW_LANES (1 << 10)

struct DeWindow
{
	uint64_t	capacity;		/* a power of two */
	uint64_t	first;			/* number of the oldest entry */
	uint64_t	next;			/* number of the next entry to be handed over */
	uint64_t	end;			/* next, but after a rewind until all is handed over again */
	uint16_t	rewinds;
	int64_t		position;
	int			unacked;
	int			held;
	size_t		cost;			/* bytes and overhead */
	WindowEntry entries[FLEXIBLE_ARRAY_MEMBER];
};

#define WINDOW_ENTRY(window, number) (&(window)->entries[(number) & ((window)->capacity - 1)])

#define WINDOW_NUMBER_BITS 48
#define WINDOW_NUMBER_MASK ((UINT64_C(1) << WINDOW_NUMBER_BITS) - 1)

static WindowEntry *window_append(DeWindow *window, int64_t id, int64_t created_at);
static void window_hand_over(DeWindow *window, WindowEntry *entry, uint32_t lane, uint32_t bytes,
							 uint32_t overhead);
static uint64_t window_token(const DeWindow *window, uint64_t number);
static uint64_t window_search(const DeWindow *window, int64_t id);
static WindowEntry *window_let(DeWindow *window, uint64_t token);
static WindowEntry *window_find(const DeWindow *window, uint64_t token);
static void window_let_go(DeWindow *window);

/*
 * Makes an empty window; the capacity is rounded up to a power of two.
 */
DeWindow *
de_window_create(int capacity)
{
	uint64_t	rounded = 1;
	DeWindow   *window;

	while (rounded < (uint64_t) capacity)
		rounded *= 2;
	window = malloc(offsetof(DeWindow, entries) + rounded * sizeof(WindowEntry));
	if (window == NULL)
		return NULL;
	memset(window, 0, offsetof(DeWindow, entries));
	window->capacity = rounded;
	return window;
}

void
de_window_destroy(DeWindow *window)
{
	free(window);
}

/*
 * Forgets all entries.
 */
void
de_window_reset(DeWindow *window, int64_t position)
{
	window->next = window->end;
	window->first = window->end;
	window->position = position;
	window->unacked = 0;
	window->held = 0;
	window->cost = 0;
}

/*
 * Goes back to the first unacknowledged entry.
 */
void
de_window_rewind(DeWindow *window)
{
	bool		behind[WINDOW_LANES] = {false};

	for (uint64_t number = window->first; number < window->end; number++)
	{
		WindowEntry *entry = WINDOW_ENTRY(window, number);

		if (!entry->acked)
			behind[entry->lane] = true;
		else if (behind[entry->lane])
			entry->acked = false;
		entry->held = false;
	}
	window->position = de_window_acked(window);
	window->next = window->first;
	window->unacked = 0;
	window->held = 0;
	window->cost = 0;
	window->rewinds++;
}

/*
 * Moves over an entry of before a rewind that is acknowledged.
 */
bool
de_window_skip(DeWindow *window, int64_t id)
{
	WindowEntry *entry;

	/* one that is not offered again is gone, which is as good as acknowledged */
	while (window->next < window->end && WINDOW_ENTRY(window, window->next)->id < id)
	{
		WINDOW_ENTRY(window, window->next)->acked = true;
		window->next++;
	}
	entry = WINDOW_ENTRY(window, window->next);
	if (window->next == window->end || entry->id != id || !entry->acked)
	{
		window_let_go(window);
		return false;
	}
	window->position = id;
	window->next++;
	window_let_go(window);
	return true;
}

uint64_t
de_window_next_token(const DeWindow *window)
{
	return window_token(window, window->next);
}

static uint64_t
window_token(const DeWindow *window, uint64_t number)
{
	return (uint64_t) window->rewinds << WINDOW_NUMBER_BITS | number;
}

bool
de_window_is_full(const DeWindow *window)
{
	return window->next - window->first >= window->capacity;
}

/*
 * Appends an entry, or hands over once more what a rewind went back over.
 */
void
de_window_add(DeWindow *window, int64_t id, int64_t created_at, uint32_t lane, uint32_t bytes,
			  uint32_t overhead)
{
	WindowEntry *entry = window_append(window, id, created_at);

	window_hand_over(window, entry, lane, bytes, overhead);
}

/*
 * Appends an entry that is handed over later.
 */
void
de_window_hold(DeWindow *window, int64_t id, int64_t created_at, uint32_t lane, uint32_t topic)
{
	bool		again = window->next < window->end && WINDOW_ENTRY(window, window->next)->id == id;
	WindowEntry *entry = window_append(window, id, created_at);

	/* what it was sent to before says more */
	if (!again)
		entry->lane = lane % WINDOW_LANES;
	entry->bytes = topic;
	entry->overhead = 0;
	entry->held = true;
	window->held++;
}

/*
 * The entry at "next", now of this id; it is neither acknowledged nor held.
 */
static WindowEntry *
window_append(DeWindow *window, int64_t id, int64_t created_at)
{
	WindowEntry *entry = WINDOW_ENTRY(window, window->next);

	Assert(!de_window_is_full(window));
	Assert(id > window->position);
	Assert(window->next == window->end || entry->id == id);
	/* an id that was not there before the rewind: none can come, or nothing behind is known */
	if (window->next < window->end && entry->id != id)
		window->end = window->next;
	entry->id = id;
	entry->created_at = created_at;
	entry->acked = false;
	entry->held = false;
	if (window->next == window->end)
		window->end++;
	window->next++;
	window->position = id;
	return entry;
}

static void
window_hand_over(DeWindow *window, WindowEntry *entry, uint32_t lane, uint32_t bytes,
				 uint32_t overhead)
{
	entry->lane = lane % WINDOW_LANES;
	entry->bytes = Min(bytes, WINDOW_MAX_BYTES);
	entry->overhead = Min(overhead, WINDOW_MAX_OVERHEAD);
	window->unacked++;
	window->cost += (size_t) entry->bytes + entry->overhead;
}

void
de_window_seek(const DeWindow *window, int64_t id, DeWindowCursor *cursor)
{
	cursor->next = window_search(window, id);
}

bool
de_window_next_held(const DeWindow *window, DeWindowCursor *cursor)
{
	uint64_t	number = cursor->next;

	/* those before the front are gone, and were none */
	if (number < window->first)
		number = window->first;
	for (; number < window->next; number++)
	{
		const WindowEntry *entry = WINDOW_ENTRY(window, number);

		if (!entry->held)
			continue;
		cursor->next = number + 1;
		cursor->id = entry->id;
		cursor->token = window_token(window, number);
		cursor->topic = entry->bytes;
		return true;
	}
	cursor->next = number;
	return false;
}

/*
 * The number of the first entry whose id is not below this one; next = none.
 */
static uint64_t
window_search(const DeWindow *window, int64_t id)
{
	uint64_t	low = window->first;
	uint64_t	high = window->next;

	while (low < high)
	{
		uint64_t	middle = low + (high - low) / 2;

		if (WINDOW_ENTRY(window, middle)->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool
de_window_is_held(const DeWindow *window, int64_t id, uint64_t *token, uint32_t *topic)
{
	uint64_t	number = window_search(window, id);
	const WindowEntry *entry = WINDOW_ENTRY(window, number);

	*token = window_token(window, number);
	*topic = entry->bytes;
	return number < window->next && entry->id == id && entry->held;
}

/*
 * Hands over a held entry.
 */
void
de_window_release(DeWindow *window, uint64_t token, uint32_t lane, uint32_t bytes,
				  uint32_t overhead)
{
	WindowEntry *entry = window_let(window, token);

	window_hand_over(window, entry, lane, bytes, overhead);
}

/*
 * Gives up a held entry.
 */
void
de_window_drop(DeWindow *window, uint64_t token)
{
	WindowEntry *entry = window_let(window, token);

	entry->acked = true;
	window_let_go(window);
}

/*
 * A held entry by its token, held no more.
 */
static WindowEntry *
window_let(DeWindow *window, uint64_t token)
{
	uint64_t	number = token & WINDOW_NUMBER_MASK;
	WindowEntry *entry = WINDOW_ENTRY(window, number);

	Assert(entry->held && number >= window->first && number < window->next);
	entry->held = false;
	window->held--;
	return entry;
}

int
de_window_held(const DeWindow *window)
{
	return window->held;
}

/*
 * Moves the position over ids that belong to no event.
 */
void
de_window_advance(DeWindow *window, int64_t position)
{
	Assert(position >= window->position);
	de_window_skip(window, position);
	window->position = position;
}

/*
 * Marks an entry and lets the acknowledged ones at the front go.
 */
bool
de_window_ack(DeWindow *window, uint64_t token, uint32_t *bytes, size_t *cost)
{
	WindowEntry *entry = window_find(window, token);

	if (entry == NULL)
		return false;
	entry->acked = true;
	window->unacked--;
	*bytes = entry->bytes;
	*cost = (size_t) entry->bytes + entry->overhead;
	window->cost -= *cost;
	window_let_go(window);
	return true;
}

int64_t
de_window_id(const DeWindow *window, uint64_t token)
{
	const WindowEntry *entry = window_find(window, token);

	return entry != NULL ? entry->id : -1;
}

/*
 * The entry in flight that has this token, NULL = none.
 */
static WindowEntry *
window_find(const DeWindow *window, uint64_t token)
{
	uint64_t	number = token & WINDOW_NUMBER_MASK;
	const WindowEntry *entry = WINDOW_ENTRY(window, number);

	if (token >> WINDOW_NUMBER_BITS != window->rewinds || number < window->first ||
		number >= window->next || entry->acked || entry->held)
		return NULL;
	return (WindowEntry *) entry;
}

/*
 * Lets the acknowledged entries at the front go.
 */
static void
window_let_go(DeWindow *window)
{
	while (window->first < window->next && WINDOW_ENTRY(window, window->first)->acked)
		window->first++;
}

/*
 * All before the first entry is acknowledged: also the ids between the
 * entries that left and it, which belong to no event.
 */
int64_t
de_window_acked(const DeWindow *window)
{
	return window->first < window->next ? WINDOW_ENTRY(window, window->first)->id - 1 :
										  window->position;
}

int64_t
de_window_position(const DeWindow *window)
{
	return window->position;
}

int
de_window_unacked(const DeWindow *window)
{
	return window->unacked;
}

size_t
de_window_cost(const DeWindow *window)
{
	return window->cost;
}

int64_t
de_window_oldest(const DeWindow *window)
{
	return window->first < window->next ? WINDOW_ENTRY(window, window->first)->created_at : 0;
}
