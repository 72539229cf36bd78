/*-------------------------------------------------------------------------
 *
 * result.h
 *		What became of a request: made by http.c, judged by the delivery.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_RESULT_H
#define DE_RESULT_H

#define DE_HTTP_MAX_BODY (64 * 1024)	/* of an answer; more is a protocol error */
#define DE_HTTP_ERROR_SIZE 512

typedef enum DeHttpOutcome
{
	DE_HTTP_ANSWERED,			/* complete answer: status and body are valid */
	DE_HTTP_NOBODY,				/* nothing was sent: refused, DNS, TLS, address not allowed */
	DE_HTTP_UNKNOWN,			/* sent, no whole answer: timeout, connection lost, too large */
	DE_HTTP_CANCELLED
} DeHttpOutcome;

typedef struct DeHttpResult
{
	DeHttpOutcome outcome;
	bool		timed_out;
	int			status;
	bool		body_complete;	/* HTTP says where the body ended, not just the connection */
	const char *body;			/* valid until de_http_release */
	size_t		body_len;
	int64		retry_after_ms; /* -1 = no Retry-After */
	char		error[DE_HTTP_ERROR_SIZE];	/* with the phase (resolve, connect, TLS, answer) */
} DeHttpResult;

#endif							/* DE_RESULT_H */
