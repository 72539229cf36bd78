/*-------------------------------------------------------------------------
 *
 * loop.h
 *		What the loop of a proxy worker gives to groups and partitions: the
 *		time of this turn, deadlines, the HTTP client, the memory for bodies.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_LOOP_H
#define DE_LOOP_H

#include "extension/base/clock.h"
#include "worker/base/timer.h"
#include "worker/http/http.h"
#include "worker/proxy/budget.h"

/* Made by proxy.c; "now" is its alone to set. */
typedef struct DeLoop
{
	int64		now;			/* de_monotonic_ms() of this turn */
	pairingheap *timers;		/* of DeTimer */
	int			epoll_fd;		/* of the members' descriptors, with the DeGroup as data */
	DeHttp	   *http;
	DeBudget	bodies;			/* bytes of request bodies */
} DeLoop;

#endif							/* DE_LOOP_H */
