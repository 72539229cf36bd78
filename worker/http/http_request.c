/*-------------------------------------------------------------------------
 *
 * http_request.c
 *		Requests of the HTTP client: from the caller's hand to libcurl, and
 *		back to him.
 *
 * Requests keep their easy handle for the next one: its creation and two dozen
 * options cost more than a small request.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "worker/base/thread.h"
#include "worker/http/http_internal.h"

/* Finished requests kept for reuse; each is a few kB and an easy handle */
#define HTTP_MAX_IDLE_REQUESTS 128

/* Memory for the answer that such a request keeps */
#define HTTP_MAX_IDLE_BODY 4096

#define HTTP_CONNECT_TIMEOUT_MS 10000

static DeHttpRequest *http_request_get(HttpEngine *engine);
static bool http_request_prepare(DeHttpRequest *request, const char *url,
								 const char *const *headers, int nheaders,
								 const char *body, size_t body_len);
static void http_request_refuse(DeHttpRequest *request, const char *phase, const char *reason);

/*
 * Starts a POST; see http.h.  Only hands it to libcurl, which begins with it
 * in de_http_run(): no thread is started here, so signals need not be blocked.
 */
DeHttpRequest *
de_http_post(DeHttp *http, const char *url, const char *const *headers, int nheaders,
			 const char *body, size_t body_len, int timeout_ms, void *opaque)
{
	HttpEngine *engine = slist_container(HttpEngine, node, slist_head_node(&http->engines));
	DeHttpRequest *request = http_request_get(engine);
	CURLMcode	code;

	if (request == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	request->opaque = opaque;
	request->timeout_ms = Max(timeout_ms, 1);
	request->sent_len = body_len;
	request->state = HTTP_ACTIVE;
	engine->nrequests++;
	dlist_push_tail(&http->requests, &request->node);

	if (http_request_prepare(request, url, headers, nheaders, body, body_len) &&
		(code = curl_multi_add_handle(engine->multi, request->easy)) != CURLM_OK)
		http_request_refuse(request, "connect", curl_multi_strerror(code));
	de_http_arm(http);
	return request;
}

/* Readies a request for libcurl; if that cannot be, it is finished and the answer is false. */
static bool
http_request_prepare(DeHttpRequest *request, const char *url,
					 const char *const *headers, int nheaders, const char *body, size_t body_len)
{
	CURL	   *easy = request->easy;
	const char *reason;
	char		text[128];

	if (easy == NULL)
	{
		http_request_refuse(request, "request", "out of memory");
		return false;
	}
	reason = de_http_transfer_set_url(request, url);
	if (reason != NULL)
	{
		http_request_refuse(request, "request", reason);
		return false;
	}
	if (!request->name_allowed && !de_http_hosts_have_networks(request->engine->hosts))
	{
		/* no address can make it allowed: do not even ask for one */
		snprintf(text, sizeof(text), "host is not allowed by %s", request->engine->hosts_setting);
		http_request_refuse(request, "resolve", text);
		return false;
	}

	request->headers = de_http_transfer_build_headers(headers, nheaders);
	if (request->headers == NULL ||
		curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request->headers) != CURLE_OK ||
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) body_len) != CURLE_OK ||
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body_len > 0 ? body : "") != CURLE_OK ||
		curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) request->timeout_ms) != CURLE_OK ||
		curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
						 (long) Min(request->timeout_ms, HTTP_CONNECT_TIMEOUT_MS)) != CURLE_OK)
	{
		http_request_refuse(request, "request", "out of memory");
		return false;
	}
	return true;
}

/* Finishes a request that libcurl never had. */
static void
http_request_refuse(DeHttpRequest *request, const char *phase, const char *reason)
{
	request->result.outcome = DE_HTTP_NOBODY;
	de_http_transfer_set_error(request, phase, reason);
	de_http_request_finish(request);
	request->engine->http->refused = true;
}

DeHttpRequest *
de_http_next_finished(DeHttp *http)
{
	DeHttpRequest *request;

	if (dlist_is_empty(&http->finished))
		return NULL;
	request = dlist_container(DeHttpRequest, node, dlist_pop_head_node(&http->finished));
	dlist_push_tail(&http->returned, &request->node);
	return request;
}

void *
de_http_opaque(DeHttpRequest *request)
{
	return request->opaque;
}

const DeHttpResult *
de_http_result(DeHttpRequest *request)
{
	Assert(request->state == HTTP_FINISHED);
	return &request->result;
}

/*
 * Gives a request back, for reuse if its engine is still the one in use.
 * Cancelling one under way closes its connection (its stream, with HTTP/2).
 */
void
de_http_release(DeHttp *http, DeHttpRequest *request)
{
	HttpEngine *engine = request->engine;
	sigset_t	saved;

	Assert(request->state != HTTP_IDLE);
	if (request->state == HTTP_ACTIVE)
	{
		de_thread_block_signals(&saved);
		(void) curl_multi_remove_handle(engine->multi, request->easy);
		de_thread_restore_signals(&saved);
	}
	dlist_delete(&request->node);
	engine->nrequests--;

	free(request->headers);
	request->headers = NULL;
	if (request->body_size > HTTP_MAX_IDLE_BODY)
	{
		free(request->body);
		request->body = NULL;
		request->body_size = 0;
	}
	if (request->easy != NULL && &engine->node == slist_head_node(&http->engines) &&
		engine->nidle < HTTP_MAX_IDLE_REQUESTS)
	{
		request->state = HTTP_IDLE;
		dlist_push_head(&engine->idle, &request->node);
		engine->nidle++;
	}
	else
	{
		de_http_transfer_free(request);
		de_http_engine_retire(http);
	}
	de_http_arm(http);
}

/* An idle request of the engine, or a new one; NULL when out of memory. */
static DeHttpRequest *
http_request_get(HttpEngine *engine)
{
	DeHttpRequest *request;

	if (dlist_is_empty(&engine->idle))
		request = de_http_transfer_create(engine);
	else
	{
		/* the last one used: its URL and its connection are the likeliest to fit */
		request = dlist_container(DeHttpRequest, node, dlist_pop_head_node(&engine->idle));
		engine->nidle--;
	}
	if (request == NULL)
		return NULL;

	request->body_len = 0;
	request->headers_len = 0;
	request->too_large = false;
	request->out_of_memory = false;
	request->has_content_length = false;
	request->is_chunked = false;
	request->retry_after_ms = -1;
	request->refusal[0] = '\0';
	request->curl_error[0] = '\0';
	memset(&request->result, 0, offsetof(DeHttpResult, error));
	request->result.error[0] = '\0';
	request->result.retry_after_ms = -1;
	return request;
}

/* Files a request that libcurl has no longer (or never had). */
void
de_http_request_finish(DeHttpRequest *request)
{
	DeHttp	   *http = request->engine->http;

	if (request->result.body == NULL)
		request->result.body = "";
	request->state = HTTP_FINISHED;
	dlist_delete(&request->node);
	dlist_push_tail(&http->finished, &request->node);
}
