/*-------------------------------------------------------------------------
 *
 * backoff.h
 *		Exponential backoff with full jitter.  Pure: the caller brings the
 *		random number.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_BACKOFF_H
#define DE_BACKOFF_H

#include <stdint.h>

/*
 * Milliseconds to wait after the given attempt (from 1) failed: a uniform
 * choice from [1, min(max_ms, min_ms * 2^(attempt-1))] by "random" in [0, 1).
 */
extern int64_t de_backoff_ms(int attempt, int64_t min_ms, int64_t max_ms, double random);

#endif							/* DE_BACKOFF_H */
