/*
 * shift: a clock that a test may set, for the programs that load this library
 * beforehand (LD_PRELOAD).
 *
 * The file named by DE_TEST_CLOCK has the number of seconds, in 8 bytes, by
 * which the time of day is off; it may be written at any time.  The clock that
 * nobody sets (CLOCK_MONOTONIC) is left alone, as a real one would be.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift_file;	/* NULL = none */

__attribute__((constructor)) static void
shift_open(void)
{
	const char *path = getenv("DE_TEST_CLOCK");
	int			fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void	   *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		shift_file = map;
}

static int64_t
shift_seconds(void)
{
	return shift_file != NULL ? *shift_file : 0;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	static int (*next)(clockid_t, struct timespec *);
	int			result;

	if (next == NULL)
		next = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
	result = next(clock, now);
	if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += shift_seconds();
	return result;
}

int
gettimeofday(struct timeval *now, void *zone)
{
	struct timespec t;

	(void) zone;
	if (clock_gettime(CLOCK_REALTIME, &t) != 0)
		return -1;
	now->tv_sec = t.tv_sec;
	now->tv_usec = t.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *now)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (now != NULL)
		*now = t.tv_sec;
	return t.tv_sec;
}
