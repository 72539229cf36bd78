/*-------------------------------------------------------------------------
 *
 * window.h
 *		The events that a relay has handed to Kafka and not seen acknowledged
 *		up to a common point.  Pure: no server, no library; memory by malloc
 *		only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_WINDOW_H
#define DE_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct DeWindow DeWindow;

/* Room for "capacity" events; NULL = out of memory. */
extern DeWindow *de_window_create(int capacity);
extern void de_window_destroy(DeWindow *window);

/*
 * Forgets all entries and begins anew after "position": every id up to it
 * counts as acknowledged.  Tokens given out before are never given out again.
 */
extern void de_window_reset(DeWindow *window, int64_t position);

/*
 * All that is in flight is to be handed over once more: the position falls back
 * to the acknowledged one.  What was acknowledged behind that is remembered,
 * up to the first event of its lane that is not: de_window_skip is true, and
 * moves the position over it, when "id", the next event by its id, is one.
 * Tokens given out before hit nothing.
 */
extern void de_window_rewind(DeWindow *window);
extern bool de_window_skip(DeWindow *window, int64_t id);

/*
 * The token that the next de_window_add will use, and whether there is room.
 */
extern uint64_t de_window_next_token(const DeWindow *window);
extern bool de_window_is_full(const DeWindow *window);

/*
 * An event was handed over; ids ascend, the window must not be full.
 * "created_at" is any clock's; "lane" is a hash of its partition, of at least ten
 * bits; "bytes" (less than 128 MB) and what they cost besides are what
 * de_window_cost adds up.
 */
extern void de_window_add(DeWindow *window, int64_t id, int64_t created_at, uint32_t lane,
						  uint32_t bytes, uint32_t overhead);

/*
 * Or it is held: it has its place and is handed over later.  "topic" is less
 * than 2^27, and what the caller knows its topic by.
 */
extern void de_window_hold(DeWindow *window, int64_t id, int64_t created_at, uint32_t lane,
						   uint32_t topic);

/* How many are held, and whether an id is one of them. */
extern int	de_window_held(const DeWindow *window);
extern bool de_window_is_held(const DeWindow *window, int64_t id, uint64_t *token,
							  uint32_t *topic);

/*
 * Goes through them, from an id on.  A cursor is good until the next rewind or
 * reset.
 */
typedef struct DeWindowCursor
{
	uint64_t	next;
	int64_t		id;				/* of the one found */
	uint64_t	token;
	uint32_t	topic;
} DeWindowCursor;

extern void de_window_seek(const DeWindow *window, int64_t id, DeWindowCursor *cursor);
extern bool de_window_next_held(const DeWindow *window, DeWindowCursor *cursor);

/* One that is held, by its token, is handed over, or turns out to be gone. */
extern void de_window_release(DeWindow *window, uint64_t token, uint32_t lane, uint32_t bytes,
							  uint32_t overhead);
extern void de_window_drop(DeWindow *window, uint64_t token);

/* Every id up to "position" is an entry, or there is no such event. */
extern void de_window_advance(DeWindow *window, int64_t position);

/*
 * The event with this token is acknowledged; *bytes are those of it, *cost what
 * else is added to de_window_cost for it, too.  False when the window knows no
 * such unacknowledged event (of before a reset).
 */
extern bool de_window_ack(DeWindow *window, uint64_t token, uint32_t *bytes, size_t *cost);

/* The id of an event in flight by its token; -1 = none. */
extern int64_t de_window_id(const DeWindow *window, uint64_t token);

/* Every event up to this id is acknowledged or there is none.  Never falls but by a reset. */
extern int64_t de_window_acked(const DeWindow *window);

/* As far as has been handed over. */
extern int64_t de_window_position(const DeWindow *window);

/* Events in flight, their bytes and overhead, and created_at of the oldest that is not
 * acknowledged (0 = none). */
extern int	de_window_unacked(const DeWindow *window);
extern size_t de_window_cost(const DeWindow *window);
extern int64_t de_window_oldest(const DeWindow *window);

#endif							/* DE_WINDOW_H */
