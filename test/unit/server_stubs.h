/*-------------------------------------------------------------------------
 *
 * server_stubs.h
 *		Stand-ins for what the units under test take from the server and its
 *		static libraries do not have.  Strings, memory, JSON, hashes, base64
 *		and encodings are not here: those are PostgreSQL's own, from
 *		libpgcommon and libpgport.
 *
 * Included by one file of a program, after postgres.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_SERVER_STUBS_H
#define DE_SERVER_STUBS_H

#include "utils/builtins.h"

sigjmp_buf *PG_exception_stack = NULL;
ErrorContextCallback *error_context_stack = NULL;

/* An error is the end of the test: no unit under test raises one for its input. */
bool
errstart(int elevel, const char *domain)
{
	(void) domain;
	return elevel >= ERROR;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

int
errmsg_internal(const char *fmt, ...)
{
	printf("# error raised: %s\n", fmt);
	return 0;
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	printf("Bail out! error raised in %s (%s:%d)\n", funcname, filename, lineno);
	exit(1);
}

void
pg_re_throw(void)
{
	exit(1);
}

int
pg_lltoa(int64 value, char *a)
{
	return sprintf(a, INT64_FORMAT, value);
}

#endif							/* DE_SERVER_STUBS_H */
