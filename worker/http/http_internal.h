/*-------------------------------------------------------------------------
 *
 * http_internal.h
 *		What http.c (handles, loop, requests) and http_transfer.c (options,
 *		callbacks and result of one request) share.  The only header that
 *		includes libcurl's; only these two may include it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_HTTP_INTERNAL_H
#define DE_HTTP_INTERNAL_H

#include <curl/curl.h>

#include "lib/ilist.h"
#include "worker/http/http.h"
#include "worker/http/http_hosts.h"

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
	CURL	   *easy;
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
	int64		retry_after_ms;
	char		refusal[128];	/* why no address was acceptable */

	char		curl_error[CURL_ERROR_SIZE];
	DeHttpResult result;
};

/* Sets what is the same for all requests of an engine; false when out of memory. */
extern bool de_http_transfer_set_options(DeHttpRequest *request);

/* Sets the URL, if it is not the last one's; false with the reason when it is none for us. */
extern bool de_http_transfer_set_url(DeHttpRequest *request, const char *url,
									 char *error, int error_size);

/* Header lines in one chunk of malloc'd memory; NULL when out of memory. */
extern struct curl_slist *de_http_transfer_build_headers(const char *const *headers, int nheaders);

/* Fills in the result of a request that libcurl has finished. */
extern void de_http_transfer_finish(DeHttpRequest *request, CURLcode code);

/* Fills in the error text. */
extern void de_http_transfer_set_error(DeHttpRequest *request, const char *phase,
									   const char *detail);

#endif							/* DE_HTTP_INTERNAL_H */
