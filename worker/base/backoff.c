/*-------------------------------------------------------------------------
 *
 * backoff.c
 *		Exponential backoff with full jitter.
 *
 * The jitter is over the whole interval, not a few percent of it: partitions
 * that failed together (a handler went away) must not come back together, or
 * the handler meets all of them at once each time it gets up.
 *
 * Pure: no server, no library, no state; linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/base/backoff.h"

/*
 * Milliseconds to wait after the given attempt failed, in [1, ceiling].
 *
 * Doubles in a loop and not by a shift: attempts are not bounded, a shift by
 * 64 or more is undefined, and min_ms << n overflows long before.
 */
int64_t
de_backoff_ms(int attempt, int64_t min_ms, int64_t max_ms, double random)
{
	int64_t		ceiling = min_ms;
	int64_t		result;

	if (ceiling < 1)
		ceiling = 1;
	if (max_ms < 1)
		max_ms = 1;

	for (int i = 1; i < attempt && ceiling < max_ms; i++)
		ceiling = (ceiling > max_ms / 2) ? max_ms : ceiling * 2;
	if (ceiling > max_ms)
		ceiling = max_ms;

	result = 1 + (int64_t) (random * (double) ceiling);
	return (result > ceiling) ? ceiling : result;
}
