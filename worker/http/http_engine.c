/*-------------------------------------------------------------------------
 *
 * http_engine.c
 *		Engines of the HTTP client, and what libcurl asks of them: to watch
 *		its sockets, to be called in time.
 *
 * An "engine" is a libcurl multi handle with its connections, caches and
 * settings.  A reload starts a new one and lets the old one finish what is
 * under way.  Changing options on the handles would not do: pooled connections
 * skip the address check and the TLS handshake, and libcurl keeps a parsed CA
 * file for a day, so that an address taken off the list or a certificate
 * replaced would go on being used.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

#include "worker/base/thread.h"
#include "worker/http/http_internal.h"

/*
 * Connections of an engine over all hosts, from which on libcurl closes an idle
 * one for each request that ends.  Those in use count: with a limit below the
 * number of requests under way no connection would ever be used twice.
 */
#define HTTP_MAX_CONNECTIONS 2048

/* called by libcurl */
static int	http_socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg,
								void *socket_arg);
static int	http_timer_callback(CURLM *multi, long timeout_ms, void *arg);

/* An engine with these options; NULL when out of memory. */
HttpEngine *
de_http_engine_create(DeHttp *http, const DeHttpOptions *options)
{
	HttpEngine *engine = calloc(1, sizeof(HttpEngine));
	char		invalid[128] = "";
	sigset_t	saved;

	if (engine == NULL)
		return NULL;
	engine->http = http;
	if (++http->last_serial == 0)
		http->last_serial = 1;
	engine->serial = http->last_serial;
	engine->deadline_us = -1;
	dlist_init(&engine->idle);
	engine->ca_file = strdup(options->ca_file);
	engine->cert_file = strdup(options->cert_file);
	engine->key_file = strdup(options->key_file);
	engine->hosts = de_http_hosts_parse(options->hosts, invalid, sizeof(invalid));
	engine->hosts_setting = options->hosts_setting;

	de_thread_block_signals(&saved);
	engine->multi = curl_multi_init();
	de_thread_restore_signals(&saved);

	if (engine->ca_file == NULL || engine->cert_file == NULL || engine->key_file == NULL ||
		engine->hosts == NULL || engine->multi == NULL ||
		curl_multi_setopt(engine->multi, CURLMOPT_SOCKETFUNCTION,
						  http_socket_callback) != CURLM_OK ||
		curl_multi_setopt(engine->multi, CURLMOPT_SOCKETDATA, engine) != CURLM_OK ||
		curl_multi_setopt(engine->multi, CURLMOPT_TIMERFUNCTION, http_timer_callback) != CURLM_OK ||
		curl_multi_setopt(engine->multi, CURLMOPT_TIMERDATA, engine) != CURLM_OK ||
		curl_multi_setopt(engine->multi, CURLMOPT_MAXCONNECTS,
						  (long) HTTP_MAX_CONNECTIONS) != CURLM_OK)
	{
		de_http_engine_destroy(engine);
		return NULL;
	}

	if (invalid[0] != '\0')
		ereport(LOG,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("entry \"%s\" of %s is ignored", invalid, engine->hosts_setting),
				 errhint("Entries are host names, patterns such as *.example.com, "
						 "addresses and networks such as 10.0.0.0/8, separated by commas.")));
	return engine;
}

/* Frees an engine that has no requests any more and is in no list. */
void
de_http_engine_destroy(HttpEngine *engine)
{
	sigset_t	saved;

	Assert(engine->nrequests == 0);
	de_thread_block_signals(&saved);
	while (!dlist_is_empty(&engine->idle))
		de_http_transfer_free(dlist_container(DeHttpRequest, node,
											  dlist_pop_head_node(&engine->idle)));
	if (engine->multi != NULL)
		curl_multi_cleanup(engine->multi);
	de_thread_restore_signals(&saved);
	de_http_hosts_free(engine->hosts);
	free(engine->ca_file);
	free(engine->cert_file);
	free(engine->key_file);
	free(engine);
}

/* Destroys engines that are not the first and have nothing to do. */
void
de_http_engine_retire(DeHttp *http)
{
	slist_mutable_iter iter;

	slist_foreach_modify(iter, &http->engines)
	{
		HttpEngine *engine = slist_container(HttpEngine, node, iter.cur);

		if (engine->nrequests == 0 && &engine->node != slist_head_node(&http->engines))
		{
			slist_delete_current(&iter);
			de_http_engine_destroy(engine);
		}
	}
}

HttpEngine *
de_http_engine_find(DeHttp *http, uint32 serial)
{
	slist_iter	iter;

	slist_foreach(iter, &http->engines)
	{
		HttpEngine *engine = slist_container(HttpEngine, node, iter.cur);

		if (engine->serial == serial)
			return engine;
	}
	return NULL;
}

/*
 * Sets the timer to the earliest deadline.  A timer set to an earlier time is
 * left alone: deadlines move on with each answer, and one needless wake-up
 * when it expires is cheaper than a system call for each request.
 */
void
de_http_arm(DeHttp *http)
{
	struct itimerspec spec = {{0}};
	slist_iter	iter;
	int64		deadline_us = http->refused ? 1 : -1;

	slist_foreach(iter, &http->engines)
	{
		HttpEngine *engine = slist_container(HttpEngine, node, iter.cur);

		if (engine->deadline_us >= 0 && (deadline_us < 0 || engine->deadline_us < deadline_us))
			deadline_us = engine->deadline_us;
	}
	if (deadline_us == http->armed_us)
		return;
	if (http->armed_us >= 0 && (deadline_us < 0 || deadline_us > http->armed_us) &&
		http->armed_us > de_http_now_us())
		return;

	/* zero would disarm; setting also takes an expiration back that nobody has read */
	if (deadline_us >= 0)
	{
		deadline_us = Max(deadline_us, 1);
		spec.it_value.tv_sec = deadline_us / 1000000;
		spec.it_value.tv_nsec = (deadline_us % 1000000) * 1000;
	}
	(void) timerfd_settime(http->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
	http->armed_us = deadline_us;
}

int64
de_http_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- called by libcurl: no palloc, no ereport, no interrupts (pitfall 2) ---- */

/*
 * Watches a socket or stops to.  A failure is not returned: libcurl would give
 * up all transfers of the engine for it, where only this one's timeout is due.
 */
static int
http_socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	HttpEngine *engine = arg;
	struct epoll_event event = {0};

	(void) easy;
	(void) socket_arg;
	if (what == CURL_POLL_REMOVE)
	{
		(void) epoll_ctl(engine->http->epoll_fd, EPOLL_CTL_DEL, fd, &event);
		return 0;
	}

	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	event.data.u64 = ((uint64) engine->serial << 32) | (uint32) fd;
	if (socket_arg == NULL)
	{
		(void) curl_multi_assign(engine->multi, fd, engine);
		if (epoll_ctl(engine->http->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 || errno != EEXIST)
			return 0;
	}
	(void) epoll_ctl(engine->http->epoll_fd, EPOLL_CTL_MOD, fd, &event);
	return 0;
}

/* Notes when libcurl wants to be called; de_http_arm() sets the timer once for all notes. */
static int
http_timer_callback(CURLM *multi, long timeout_ms, void *arg)
{
	HttpEngine *engine = arg;
	int64		now_us = de_http_now_us();

	(void) multi;
	if (timeout_ms < 0)
		engine->deadline_us = -1;
	else if (timeout_ms > 0 || engine->deadline_us < 0 || engine->deadline_us > now_us)
		engine->deadline_us = now_us + (int64) timeout_ms * 1000;
	/* else it is due already: another time would only set the timer again */
	return 0;
}
