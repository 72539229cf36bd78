/*-------------------------------------------------------------------------
 *
 * http_internal.h
 *		What the http*.c files share.  http.c calls http_request.c, both
 *		http_engine.c, and all http_transfer.c.  The only header that includes
 *		libcurl's; only these may include it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_HTTP_INTERNAL_H
#define DE_HTTP_INTERNAL_H

#include <curl/curl.h>

#include "lib/ilist.h"
#include "worker/http/http.h"
#include "worker/http/http_hosts.h"

struct DeHttp
{
	int			epoll_fd;
	int			timer_fd;
	int64		armed_us;		/* what timer_fd is set to; -1 = not */
	bool		refused;		/* a request was finished by de_http_post itself */
	uint32		last_serial;
	slist_head	engines;		/* the first is for new requests, the others end */
	dlist_head	requests;		/* all under way */
	dlist_head	finished;		/* all finished, oldest first */
	dlist_head	returned;		/* of those, what the caller has seen and not released */
};

/* A libcurl multi handle with its connections, caches and settings. */
typedef struct HttpEngine
{
	slist_node	node;			/* in DeHttp.engines */
	DeHttp	   *http;
	CURLM	   *multi;
	uint32		serial;			/* in the epoll data of its sockets; never 0 */
	int64		deadline_us;	/* when libcurl wants to be called; -1 = never */
	int			nrequests;		/* under way or finished, not given back */
	DeHttpHosts *hosts;
	const char *hosts_setting;	/* for messages */
	char	   *ca_file;
	char	   *cert_file;
	char	   *key_file;
	dlist_head	idle;			/* DeHttpRequests for reuse */
	int			nidle;
} HttpEngine;

typedef enum HttpRequestState
{
	HTTP_IDLE,
	HTTP_ACTIVE,				/* libcurl has it */
	HTTP_FINISHED
} HttpRequestState;

struct DeHttpRequest
{
	dlist_node	node;			/* in the list of its state */
	HttpRequestState state;
	HttpEngine *engine;
	CURL	   *easy;			/* NULL: no memory for one */
	void	   *opaque;
	int			timeout_ms;
	size_t		sent_len;		/* length of the request's body */

	/* kept with the easy handle, valid while the same URL is asked for */
	char	   *url;
	bool		name_allowed;

	struct curl_slist *headers; /* one chunk of memory with all nodes and texts */

	/* the answer as it comes; written by callbacks */
	char	   *body;
	size_t		body_len;
	size_t		body_size;
	size_t		headers_len;
	bool		too_large;
	bool		out_of_memory;
	bool		has_content_length;
	bool		is_chunked;
	int64		retry_after_ms;
	char		refusal[128];	/* why no address was acceptable */

	char		curl_error[CURL_ERROR_SIZE];
	DeHttpResult result;
};

/* ---- http_engine.c ---- */

/* An engine with these options; NULL when out of memory. */
extern HttpEngine *de_http_engine_create(DeHttp *http, const DeHttpOptions *options);

/* Frees an engine that has no requests any more and is in no list. */
extern void de_http_engine_destroy(HttpEngine *engine);

/* Destroys engines that are not the first and have nothing to do. */
extern void de_http_engine_retire(DeHttp *http);

extern HttpEngine *de_http_engine_find(DeHttp *http, uint32 serial);

/* Microseconds of the monotonic clock. */
extern int64 de_http_now_us(void);

/* Sets the timer to what is to be done next; to be called when that has changed. */
extern void de_http_arm(DeHttp *http);

/* ---- http_request.c ---- */

/* Files a request that libcurl has no longer (or never had). */
extern void de_http_request_finish(DeHttpRequest *request);

/* ---- http_transfer.c ---- */

/* A new request of an engine; NULL when out of memory, without a handle when only that failed. */
extern DeHttpRequest *de_http_transfer_create(HttpEngine *engine);

/* Frees a request that is in no list and not with libcurl. */
extern void de_http_transfer_free(DeHttpRequest *request);

/* Sets the URL, if it is not the last one's; NULL, or the reason why it is none for us. */
extern const char *de_http_transfer_set_url(DeHttpRequest *request, const char *url);

/* Header lines in one chunk of malloc'd memory; NULL when out of memory. */
extern struct curl_slist *de_http_transfer_build_headers(const char *const *headers, int nheaders);

/* Fills in the result of a request that libcurl has finished. */
extern void de_http_transfer_finish(DeHttpRequest *request, CURLcode code);

/* Fills in the error text. */
extern void de_http_transfer_set_error(DeHttpRequest *request, const char *phase,
									   const char *detail);

#endif							/* DE_HTTP_INTERNAL_H */
