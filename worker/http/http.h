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

#include "worker/http/result.h"

typedef struct DeHttp DeHttp;
typedef struct DeHttpRequest DeHttpRequest;

/* Strings are copied. */
typedef struct DeHttpOptions
{
	const char *hosts;			/* that may be called; see http_hosts.h */
	const char *hosts_setting;	/* for messages: where that is set; a constant, not copied */
	const char *ca_file;		/* "" = the system's */
	const char *cert_file;		/* "" = none */
	const char *key_file;		/* "" = none */
} DeHttpOptions;

/* Throws when out of memory or descriptors. */
extern DeHttp *de_http_create(const DeHttpOptions *options);

/*
 * Takes other options, also when only the files have changed; requests under
 * way keep theirs.
 */
extern void de_http_reload(DeHttp *http, const DeHttpOptions *options);
extern void de_http_destroy(DeHttp *http);

/* readable when de_http_run has something to do (sockets or a timer) */
extern int	de_http_fd(DeHttp *http);
extern void de_http_run(DeHttp *http);

/*
 * Starts a POST.  headers: "name: value" lines, copied; body: borrowed until
 * the request is released; opaque: the caller's.  What cannot be sent (a URL
 * that is none, a host that is not allowed) comes back as a finished request
 * like any other.  Throws when there is no memory for the request itself.
 */
extern DeHttpRequest *de_http_post(DeHttp *http, const char *url,
								   const char *const *headers, int nheaders,
								   const char *body, size_t body_len,
								   int timeout_ms, void *opaque);

/* A finished request, or NULL; to be called until NULL after de_http_run. */
extern DeHttpRequest *de_http_next_finished(DeHttp *http);
extern void *de_http_opaque(DeHttpRequest *request);
extern const DeHttpResult *de_http_result(DeHttpRequest *request);

/* Gives a finished request back, or cancels one under way (its outcome stays unknown). */
extern void de_http_release(DeHttp *http, DeHttpRequest *request);

#endif							/* DE_HTTP_H */
