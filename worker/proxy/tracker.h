/*-------------------------------------------------------------------------
 *
 * tracker.h
 *		Which offsets of one partition are acknowledged, and what may be
 *		committed.  Sparse: offsets need not be dense (compaction, transaction
 *		markers).  Pure: no server, no library; memory by malloc only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_TRACKER_H
#define DE_TRACKER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct DeTracker DeTracker;

/*
 * At most "window" offsets may be unacknowledged or acknowledged out of order
 * at once.  NULL when out of memory.
 */
extern DeTracker *de_tracker_create(int window);

/* NULL is allowed. */
extern void de_tracker_destroy(DeTracker *tracker);

typedef enum DeTrackerResult
{
	DE_TRACKER_OK,
	DE_TRACKER_FULL,			/* the window: acknowledge first */
	DE_TRACKER_NO_MEMORY,		/* for the window to grow: try again later */
	DE_TRACKER_NOT_ASCENDING	/* the log was truncated: see de_tracker_truncate() */
} DeTrackerResult;

/*
 * Makes room for one more offset.  To be called before a record is taken that
 * could not be put back; de_tracker_add() finds neither FULL nor NO_MEMORY then.
 */
extern DeTrackerResult de_tracker_reserve(DeTracker *tracker);

/* A record was taken; offsets ascend.  Unless OK, nothing has changed. */
extern DeTrackerResult de_tracker_add(DeTracker *tracker, int64_t offset);

/*
 * Offsets from "offset" on are of a part of the log that is no more: they are
 * forgotten, acknowledged or not, and may be added anew.  What is below stays,
 * so the position never passes an unacknowledged offset by that; it falls to
 * "offset" if it was above.
 */
extern void de_tracker_truncate(DeTracker *tracker, int64_t offset);

/* It is processed (or dropped or dead-lettered).  False when it is not tracked. */
extern bool de_tracker_ack(DeTracker *tracker, int64_t offset);

/*
 * The offset to commit: the lowest unacknowledged one, or the one after the
 * last added when all are acknowledged; -1 before the first add.  Falls by
 * truncation only.
 */
extern int64_t de_tracker_position(const DeTracker *tracker);

/* Offsets taken and not acknowledged. */
extern int	de_tracker_unacked(const DeTracker *tracker);

#endif							/* DE_TRACKER_H */
