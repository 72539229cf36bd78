/*-------------------------------------------------------------------------
 *
 * tap.h
 *		What a unit test needs to speak TAP, and random numbers that a failure
 *		can be repeated with (DE_UNIT_SEED=n).
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_TAP_H
#define DE_TAP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int	tap_run = 0;
static int	tap_failed = 0;
static uint64_t tap_state;

#define ok(condition, name) tap_ok((condition), (name), __FILE__, __LINE__)
#define is_string(got, expected, name) tap_is_string((got), (expected), (name), __FILE__, __LINE__)

static inline bool
tap_ok(bool passed, const char *name, const char *file, int line)
{
	printf("%sok %d - %s\n", passed ? "" : "not ", ++tap_run, name);
	if (!passed)
	{
		tap_failed++;
		printf("# failed at %s:%d\n", file, line);
	}
	return passed;
}

static inline bool
tap_is_string(const char *got, const char *expected, const char *name, const char *file, int line)
{
	bool		passed = strcmp(got, expected) == 0;

	tap_ok(passed, name, file, line);
	if (!passed)
		printf("#      got: %s\n# expected: %s\n", got, expected);
	return passed;
}

/* Ends a program: the exit code tells whether all passed. */
static inline int
tap_done(void)
{
	printf("1..%d\n", tap_run);
	return tap_failed == 0 ? 0 : 1;
}

static inline void
tap_seed(void)
{
	const char *seed = getenv("DE_UNIT_SEED");

	tap_state = (seed != NULL) ? strtoull(seed, NULL, 10) : 20261123;
	printf("# DE_UNIT_SEED=%llu\n", (unsigned long long) tap_state);
	tap_state = tap_state * 2 + 1;	/* never 0 */
}

/* A random number in [0, n) (xorshift). */
static inline uint64_t
tap_random(uint64_t n)
{
	tap_state ^= tap_state << 13;
	tap_state ^= tap_state >> 7;
	tap_state ^= tap_state << 17;
	return (tap_state >> 8) % n;
}

#endif							/* DE_TAP_H */
