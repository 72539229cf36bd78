/*-------------------------------------------------------------------------
 *
 * tracker.c
 *		Which offsets of one partition are acknowledged, and what may be
 *		committed (G7: a committed offset never passes an event that was not
 *		acknowledged).
 *
 * A ring of the offsets taken, ascending, from the lowest unacknowledged one
 * to the last one taken.  Acknowledging the first entry drops it and the
 * acknowledged entries behind it, so each entry is added once and dropped
 * once.
 *
 * Invariant: the first entry, if there is one, is unacknowledged.
 *
 * Offsets are keys here, never indexes: compaction, transaction markers and
 * aborted transactions leave gaps of any size, so a bitmap over offsets would
 * be as large as the largest gap, and "offset + 1" may be an offset that never
 * comes.
 *
 * The ring starts small and doubles up to the window: a server has thousands
 * of partitions, nearly all of them with a handful of offsets under way.
 *
 * Pure: no server, no library, linked into the unit tests as it is.  Memory by
 * malloc, so that a tracker outlives memory contexts and nothing here throws.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/proxy/tracker.h"

#include <stdlib.h>

#define TRACKER_INITIAL_SIZE 16

typedef struct TrackerEntry
{
	int64_t		offset;
	bool		acked;
} TrackerEntry;

struct DeTracker
{
	int			window;			/* entries allowed */
	int			size;			/* entries allocated, a power of two */
	int			first;			/* index of the first entry in ring */
	int			count;			/* entries in use */
	int			unacked;		/* of those, not acknowledged */
	int64_t		last;			/* last offset added, -1 = none */
	TrackerEntry *ring;
};

static TrackerEntry *tracker_entry(const DeTracker *tracker, int i);
static bool tracker_grow(DeTracker *tracker);
static TrackerEntry *tracker_find(const DeTracker *tracker, int64_t offset);

DeTracker *
de_tracker_create(int window)
{
	DeTracker  *tracker = malloc(sizeof(DeTracker));

	if (tracker == NULL)
		return NULL;
	tracker->window = window < 1 ? 1 : window;
	tracker->size = TRACKER_INITIAL_SIZE;
	tracker->ring = malloc(sizeof(TrackerEntry) * tracker->size);
	if (tracker->ring == NULL)
	{
		free(tracker);
		return NULL;
	}
	tracker->first = 0;
	tracker->count = 0;
	tracker->unacked = 0;
	tracker->last = -1;
	return tracker;
}

void
de_tracker_destroy(DeTracker *tracker)
{
	if (tracker == NULL)
		return;
	free(tracker->ring);
	free(tracker);
}

DeTrackerResult
de_tracker_reserve(DeTracker *tracker)
{
	if (tracker->count >= tracker->window)
		return DE_TRACKER_FULL;
	if (tracker->count == tracker->size && !tracker_grow(tracker))
		return DE_TRACKER_NO_MEMORY;
	return DE_TRACKER_OK;
}

/*
 * Appends an offset.  An offset that does not ascend is refused, not asserted:
 * it comes from the broker (an unclean leader election takes offsets back),
 * and the process it would abort is a server's.
 */
DeTrackerResult
de_tracker_add(DeTracker *tracker, int64_t offset)
{
	DeTrackerResult result = de_tracker_reserve(tracker);
	TrackerEntry *entry;

	if (offset <= tracker->last)
		return DE_TRACKER_NOT_ASCENDING;
	if (result != DE_TRACKER_OK)
		return result;

	entry = tracker_entry(tracker, tracker->count);
	entry->offset = offset;
	entry->acked = false;
	tracker->count++;
	tracker->unacked++;
	tracker->last = offset;
	return DE_TRACKER_OK;
}

/*
 * Drops the entries from an offset on.  Never all of them: those below may be
 * unacknowledged, and a position made of what comes next would pass them.
 */
void
de_tracker_truncate(DeTracker *tracker, int64_t offset)
{
	if (offset > tracker->last)
		return;
	while (tracker->count > 0)
	{
		TrackerEntry *entry = tracker_entry(tracker, tracker->count - 1);

		if (entry->offset < offset)
			break;
		if (!entry->acked)
			tracker->unacked--;
		tracker->count--;
	}
	tracker->last = offset - 1;
}

/*
 * Marks an offset, and drops what has become acknowledged without a gap.  A
 * second acknowledgement of the same offset is "not tracked" whether its entry
 * is still there or not: callers must not see a difference that depends on
 * other offsets.
 */
bool
de_tracker_ack(DeTracker *tracker, int64_t offset)
{
	TrackerEntry *entry = tracker_find(tracker, offset);

	if (entry == NULL || entry->acked)
		return false;

	entry->acked = true;
	tracker->unacked--;
	while (tracker->count > 0 && tracker_entry(tracker, 0)->acked)
	{
		tracker->first = (tracker->first + 1) & (tracker->size - 1);
		tracker->count--;
	}
	return true;
}

int64_t
de_tracker_position(const DeTracker *tracker)
{
	if (tracker->count > 0)
		return tracker_entry(tracker, 0)->offset;
	return (tracker->last < 0) ? -1 : tracker->last + 1;
}

int
de_tracker_unacked(const DeTracker *tracker)
{
	return tracker->unacked;
}

/* The i-th entry of the ring, from 0. */
static TrackerEntry *
tracker_entry(const DeTracker *tracker, int i)
{
	return &tracker->ring[(tracker->first + i) & (tracker->size - 1)];
}

/* Doubles the ring; false when out of memory, with the ring as it was. */
static bool
tracker_grow(DeTracker *tracker)
{
	int			size = tracker->size * 2;
	TrackerEntry *ring = malloc(sizeof(TrackerEntry) * size);

	if (ring == NULL)
		return false;
	for (int i = 0; i < tracker->count; i++)
		ring[i] = *tracker_entry(tracker, i);
	free(tracker->ring);
	tracker->ring = ring;
	tracker->size = size;
	tracker->first = 0;
	return true;
}

/*
 * The entry of an offset, or NULL.  Offsets ascend by at least one for each
 * entry, so the distance from the first offset bounds the index from above,
 * and is the index where there are no gaps: the usual case takes one probe,
 * gaps cost a binary search.
 */
static TrackerEntry *
tracker_find(const DeTracker *tracker, int64_t offset)
{
	int64_t		distance;
	int			low = 0;
	int			high;

	if (tracker->count == 0)
		return NULL;
	distance = offset - tracker_entry(tracker, 0)->offset;
	if (distance < 0 || offset > tracker->last)
		return NULL;
	high = (distance < tracker->count) ? (int) distance : tracker->count - 1;

	for (int probe = high; low <= high; probe = low + (high - low) / 2)
	{
		TrackerEntry *entry = tracker_entry(tracker, probe);

		if (entry->offset == offset)
			return entry;
		if (entry->offset < offset)
			low = probe + 1;
		else
			high = probe - 1;
	}
	return NULL;
}
