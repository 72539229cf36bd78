/*-------------------------------------------------------------------------
 *
 * clock.h
 *		The clock for deadlines.  Header only.
 *
 * GetCurrentTimestamp() is for what people read: an operator or NTP may set
 * it back, and a wait that counts by it then lasts as much longer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_CLOCK_H
#define DE_CLOCK_H

#include <time.h>

/* Milliseconds of a clock that nobody sets. */
static inline int64
de_monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif							/* DE_CLOCK_H */
