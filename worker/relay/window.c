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
 * Tokens count entries since creation and are never used twice, so an
 * acknowledgement of something that a reset has forgotten hits nothing.
 *
 * Invariants
 *		first <= next, next - first <= capacity
 *		entry [first] is unacknowledged, if there is one
 *		ids ascend strictly from first to next - 1, and are <= position
 *		unacked and cost are those of the unacknowledged entries
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
	uint32_t	bytes;
	uint16_t	overhead;
	bool		acked;
} WindowEntry;

struct DeWindow
{
	uint64_t	capacity;		/* a power of two */
	uint64_t	first;			/* token of the oldest entry */
	uint64_t	next;			/* token of the next entry */
	int64_t		position;
	int			unacked;
	size_t		cost;			/* bytes and overhead */
	WindowEntry entries[FLEXIBLE_ARRAY_MEMBER];
};

#define WINDOW_ENTRY(window, token) (&(window)->entries[(token) & ((window)->capacity - 1)])

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
	window->first = window->next;
	window->position = position;
	window->unacked = 0;
	window->cost = 0;
}

uint64_t
de_window_next_token(const DeWindow *window)
{
	return window->next;
}

bool
de_window_is_full(const DeWindow *window)
{
	return window->next - window->first >= window->capacity;
}

/*
 * Appends an entry.
 */
void
de_window_add(DeWindow *window, int64_t id, int64_t created_at, uint32_t bytes,
			  uint16_t overhead)
{
	WindowEntry *entry = WINDOW_ENTRY(window, window->next);

	Assert(!de_window_is_full(window));
	Assert(id > window->position);
	entry->id = id;
	entry->created_at = created_at;
	entry->bytes = bytes;
	entry->overhead = overhead;
	entry->acked = false;
	window->next++;
	window->position = id;
	window->unacked++;
	window->cost += (size_t) bytes + overhead;
}

/*
 * Moves the position over ids that belong to no event.
 */
void
de_window_advance(DeWindow *window, int64_t position)
{
	Assert(position >= window->position);
	window->position = position;
}

/*
 * Marks an entry and lets the acknowledged ones at the front go.
 */
bool
de_window_ack(DeWindow *window, uint64_t token, uint32_t *bytes)
{
	WindowEntry *entry;

	if (token < window->first || token >= window->next)
		return false;
	entry = WINDOW_ENTRY(window, token);
	if (entry->acked)
		return false;
	entry->acked = true;
	window->unacked--;
	window->cost -= (size_t) entry->bytes + entry->overhead;
	*bytes = entry->bytes;
	while (window->first < window->next && WINDOW_ENTRY(window, window->first)->acked)
		window->first++;
	return true;
}

int64_t
de_window_id(const DeWindow *window, uint64_t token)
{
	if (token < window->first || token >= window->next || WINDOW_ENTRY(window, token)->acked)
		return -1;
	return WINDOW_ENTRY(window, token)->id;
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
