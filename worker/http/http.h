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
