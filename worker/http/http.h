/*-------------------------------------------------------------------------
 *
 * http.h
 *		HTTP client of the proxy; no libcurl type shows (http.c and
 *		http_transfer.c are the only users of libcurl).
 *
 * All functions are for the main thread, never block, never throw after
 * create, and block signals around calls that may start a thread (the
 * resolver's).  Redirects are never followed, no proxy, netrc or cookies.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_HTTP_H
#define DE_HTTP_H

#define DE_HTTP_MAX_BODY (64 * 1024)	/* of an answer; more is a protocol error */
#define DE_HTTP_ERROR_SIZE 512

typedef struct DeHttp DeHttp;
typedef struct DeHttpRequest DeHttpRequest;

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
	bool		has_content_length;
	const char *body;			/* valid until de_http_release */
	size_t		body_len;
	int64		retry_after_ms; /* -1 = no Retry-After */
	char		error[DE_HTTP_ERROR_SIZE];	/* with the phase (resolve, connect, TLS, answer) */
} DeHttpResult;

/* Reads the handler_* settings; call again after a reload (requests under way keep theirs). */
extern DeHttp *de_http_create(void);
extern void de_http_reload(DeHttp *http);
extern void de_http_destroy(DeHttp *http);

/* readable when de_http_run has something to do (sockets or a timer) */
extern int	de_http_fd(DeHttp *http);
extern void de_http_run(DeHttp *http);

/*
 * Starts a POST.  headers: "name: value" lines, copied; body: borrowed until
 * the request is released; opaque: the caller's.  NULL only when out of
 * memory or the URL cannot be parsed, with the reason in error.
 */
extern DeHttpRequest *de_http_post(DeHttp *http, const char *url,
								   const char *const *headers, int nheaders,
								   const char *body, size_t body_len,
								   int timeout_ms, void *opaque,
								   char *error, int error_size);

/* A finished request, or NULL; to be called until NULL after de_http_run. */
extern DeHttpRequest *de_http_next_finished(DeHttp *http);
extern void *de_http_opaque(DeHttpRequest *request);
extern const DeHttpResult *de_http_result(DeHttpRequest *request);

/* Gives a finished request back, or cancels one under way (its outcome stays unknown). */
extern void de_http_release(DeHttp *http, DeHttpRequest *request);

#endif							/* DE_HTTP_H */
