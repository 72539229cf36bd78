/*-------------------------------------------------------------------------
 *
 * first.c
 *		Makes AddressSanitizer ready before the libraries of a server begin.
 *
 * In a program that was compiled for it, it is ready before all else.  A
 * server of the system's gets it by LD_PRELOAD, and then it makes itself ready
 * at the first malloc() of anybody.  In Debian's server that is inside of
 * bindtextdomain(), called by a library's constructor; making ready asks for a
 * translated message, and locks what bindtextdomain() has locked already.
 *
 * To be linked with -z initfirst: the constructor of this library comes before
 * those of all others.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>

static void __attribute__((constructor))
first(void)
{
	/* volatile, or the compiler sees that it comes to nothing */
	void	   *volatile memory = malloc(1);

	free(memory);
}
