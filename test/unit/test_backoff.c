/*
 * Backoff: bounds, growth, no overflow.
 *
 * links: worker/base/backoff.c
 */
#include <limits.h>

#include "tap.h"
#include "worker/base/backoff.h"

static const double almost_one = 1.0 - 1e-16;

int
main(void)
{
	bool		in_bounds = true;
	int64_t		sum = 0;
	const int	n = 100000;

	tap_seed();

	ok(de_backoff_ms(1, 100, 60000, 0.0) == 1, "the least wait is 1 ms");
	ok(de_backoff_ms(1, 100, 60000, almost_one) == 100, "first attempt: at most the minimum");
	ok(de_backoff_ms(2, 100, 60000, almost_one) == 200, "second attempt: at most twice that");
	ok(de_backoff_ms(5, 100, 60000, almost_one) == 1600, "fifth attempt: 2^4 times that");
	ok(de_backoff_ms(11, 100, 60000, almost_one) == 60000, "the ceiling is the maximum");
	ok(de_backoff_ms(1, 100, 50, almost_one) == 50, "a maximum below the minimum wins");
	ok(de_backoff_ms(INT_MAX, 100, 60000, almost_one) == 60000, "any number of attempts");
	ok(de_backoff_ms(INT_MAX, 1, INT64_MAX / 4, 0.5) > 0, "no overflow with a huge maximum");
	ok(de_backoff_ms(0, 100, 1000, almost_one) == 100, "attempt 0 counts as the first");
	ok(de_backoff_ms(3, 0, 0, 0.5) == 1, "zero settings wait 1 ms");

	for (int i = 0; i < n; i++)
	{
		int64_t		wait = de_backoff_ms(3, 100, 60000, (double) tap_random(1000000) / 1e6);

		in_bounds = in_bounds && wait >= 1 && wait <= 400;
		sum += wait;
	}
	ok(in_bounds, "random waits stay in [1, 400]");
	ok(sum / n > 195 && sum / n < 206, "and are spread over the whole interval");

	return tap_done();
}
