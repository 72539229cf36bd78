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

/*
 * A record was taken; offsets must ascend.  False when the window is full (or
 * its memory could not be had): acknowledge first.  False as well for an
 * offset that does not ascend: the log was truncated, reset first.
 */
extern bool de_tracker_add(DeTracker *tracker, int64_t offset);

/* It is processed (or dropped or dead-lettered).  False when it is not tracked. */
extern bool de_tracker_ack(DeTracker *tracker, int64_t offset);

/*
 * The offset to commit: the lowest unacknowledged one, or the one after the
 * last added when all are acknowledged; -1 before the first add.  Never falls.
 */
extern int64_t de_tracker_position(const DeTracker *tracker);

/* Offsets taken and not acknowledged. */
extern int	de_tracker_unacked(const DeTracker *tracker);

/* Would the next add be refused for lack of room? */
extern bool de_tracker_full(const DeTracker *tracker);

/* Forgets everything (new assignment, seek). */
extern void de_tracker_reset(DeTracker *tracker);

#endif							/* DE_TRACKER_H */
