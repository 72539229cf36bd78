/*-------------------------------------------------------------------------
 *
 * timer.h
 *		Deadlines of the proxy's groups and partitions.
 *
 * A heap, since more than a thousand partitions may each wait for something
 * while one of them is due.  Header only.  A timer belongs to its owner; it
 * must be cancelled before its memory goes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_TIMER_H
#define DE_TIMER_H

#include "lib/pairingheap.h"

typedef struct DeTimer
{
	pairingheap_node node;
	int64		due;			/* de_monotonic_ms(); 0 = not set */
	void (*expired)(void *owner);
	void	   *owner;
} DeTimer;

/* pairingheap_comparator: the earliest first */
static inline int
de_timer_compare(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const DeTimer *first = pairingheap_const_container(DeTimer, node, a);
	const DeTimer *second = pairingheap_const_container(DeTimer, node, b);

	(void) arg;
	return (first->due < second->due) - (first->due > second->due);
}

static inline void
de_timer_init(DeTimer *timer, void (*expired)(void *owner), void *owner)
{
	timer->due = 0;
	timer->expired = expired;
	timer->owner = owner;
}

static inline void
de_timer_cancel(pairingheap *timers, DeTimer *timer)
{
	if (timer->due != 0)
		pairingheap_remove(timers, &timer->node);
	timer->due = 0;
}

/* Sets (or moves) a timer. */
static inline void
de_timer_set(pairingheap *timers, DeTimer *timer, int64 due)
{
	de_timer_cancel(timers, timer);
	timer->due = Max(due, 1);
	pairingheap_add(timers, &timer->node);
}

/* The earliest deadline, or 0 when there is none. */
static inline int64
de_timer_next(pairingheap *timers)
{
	if (pairingheap_is_empty(timers))
		return 0;
	return pairingheap_container(DeTimer, node, pairingheap_first(timers))->due;
}

/* Takes and runs what is due by "now"; owners set their timers to later than that. */
static inline void
de_timer_run(pairingheap *timers, int64 now)
{
	while (!pairingheap_is_empty(timers))
	{
		DeTimer    *timer = pairingheap_container(DeTimer, node, pairingheap_first(timers));

		if (timer->due > now)
			break;
		de_timer_cancel(timers, timer);
		timer->expired(timer->owner);
	}
}

#endif							/* DE_TIMER_H */
