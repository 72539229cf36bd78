/*-------------------------------------------------------------------------
 *
 * http.c
 *		HTTP client of the proxy: handles and loop.  With http_request.c and
 *		http_transfer.c the only user of libcurl.
 *
 * One epoll descriptor holds libcurl's sockets and one timer, and is itself
 * one descriptor in the worker's wait set: PostgreSQL 15 cannot take an event
 * out of a wait set, and libcurl's sockets come and go (pitfall 3).
 *
 * Nothing of PostgreSQL is called from inside libcurl: its callbacks write to
 * malloc'd memory of bounded size and return a code (pitfall 2).  Signals are
 * blocked around each call into it, because a resolver thread inherits the
 * mask of the thread that starts it (pitfall 1).
 *
 * An "engine" is a libcurl multi handle with its connections, caches and
 * settings.  A reload starts a new one and lets the old one finish what is
 * under way.  Changing options on the handles would not do: pooled connections
 * skip the address check and the TLS handshake, and libcurl keeps a parsed CA
 * file for a day, so that an address taken off the list or a certificate
 * replaced would go on being used.
 *
 * Main thread of the proxy only.  After a crash nothing is left to clean up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "storage/fd.h"

#include "worker/base/thread.h"
#include "worker/http/http_internal.h"

/*
 * Connections of an engine over all hosts, from which on libcurl closes an idle
 * one for each request that ends.  Those in use count: with a limit below the
 * number of requests under way no connection would ever be used twice.
 */
#define HTTP_MAX_CONNECTIONS 2048

#define HTTP_EVENTS_PER_WAIT 64
#define HTTP_ROUNDS_PER_RUN 16	/* then the caller looks after its other work */

static HttpEngine *http_engine_create(DeHttp *http, const DeHttpOptions *options);
static void http_engine_destroy(HttpEngine *engine);
static HttpEngine *http_engine_find(DeHttp *http, uint32 serial);
static void http_collect(HttpEngine *engine);
static int64 http_now_us(void);

/* called by libcurl */
static int	http_socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg,
								void *socket_arg);
static int	http_timer_callback(CURLM *multi, long timeout_ms, void *arg);

/* ---- life ---- */

DeHttp *
de_http_create(const DeHttpOptions *options)
{
	static bool initialized = false;
	DeHttp	   *http;
	struct epoll_event event = {0};
	HttpEngine *engine;

	/* here and not in _PG_init: what it starts would not survive a fork (pitfall 8) */
	if (!initialized)
	{
		if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("could not initialize libcurl")));
		initialized = true;
	}

	http = calloc(1, sizeof(DeHttp));
	if (http == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	http->armed_us = -1;
	slist_init(&http->engines);
	dlist_init(&http->requests);
	dlist_init(&http->finished);
	dlist_init(&http->returned);

	http->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	http->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	event.events = EPOLLIN;
	event.data.u64 = 0;			/* serial 0: the timer */
	if (http->epoll_fd < 0 || http->timer_fd < 0 ||
		epoll_ctl(http->epoll_fd, EPOLL_CTL_ADD, http->timer_fd, &event) < 0)
	{
		int			save_errno = errno;

		if (http->epoll_fd >= 0)
			close(http->epoll_fd);
		if (http->timer_fd >= 0)
			close(http->timer_fd);
		free(http);
		errno = save_errno;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create descriptors for HTTP requests: %m")));
	}
	ReserveExternalFD();
	ReserveExternalFD();

	engine = http_engine_create(http, options);
	if (engine == NULL)
	{
		de_http_destroy(http);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	}
	slist_push_head(&http->engines, &engine->node);
	return http;
}

/*
 * Takes over options by a new engine, also when none has changed: the
 * certificate files may have.  Without memory for it the old one goes on.
 */
void
de_http_reload(DeHttp *http, const DeHttpOptions *options)
{
	HttpEngine *engine = http_engine_create(http, options);

	if (engine == NULL)
	{
		ereport(LOG,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not reload the settings of HTTP requests: out of memory")));
		return;
	}
	slist_push_head(&http->engines, &engine->node);
	de_http_engine_retire(http);
	de_http_arm(http);
}

/* Ends requests under way as well. */
void
de_http_destroy(DeHttp *http)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &http->requests)
		de_http_release(http, dlist_container(DeHttpRequest, node, iter.cur));
	dlist_foreach_modify(iter, &http->finished)
		de_http_release(http, dlist_container(DeHttpRequest, node, iter.cur));
	dlist_foreach_modify(iter, &http->returned)
		de_http_release(http, dlist_container(DeHttpRequest, node, iter.cur));
	while (!slist_is_empty(&http->engines))
		http_engine_destroy(slist_container(HttpEngine, node,
											slist_pop_head_node(&http->engines)));
	close(http->timer_fd);
	close(http->epoll_fd);
	ReleaseExternalFD();
	ReleaseExternalFD();
	free(http);
}

/* An engine with these options; NULL when out of memory. */
static HttpEngine *
http_engine_create(DeHttp *http, const DeHttpOptions *options)
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
		http_engine_destroy(engine);
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
static void
http_engine_destroy(HttpEngine *engine)
{
	sigset_t	saved;

	Assert(engine->nrequests == 0);
	de_thread_block_signals(&saved);
	while (!dlist_is_empty(&engine->idle))
		de_http_request_free(dlist_container(DeHttpRequest, node,
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
			http_engine_destroy(engine);
		}
	}
}

static HttpEngine *
http_engine_find(DeHttp *http, uint32 serial)
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

/* ---- the loop ---- */

int
de_http_fd(DeHttp *http)
{
	return http->epoll_fd;
}

/*
 * Lets libcurl work on the sockets that are ready and the timers that are due.
 *
 * Timers are looked up by the clock and not by timer_fd, which exists only to
 * wake the worker: no descriptor has to be read, and a late or early
 * expiration does no harm.
 */
void
de_http_run(DeHttp *http)
{
	struct epoll_event events[HTTP_EVENTS_PER_WAIT];
	slist_iter	iter;
	sigset_t	saved;
	int			running;

	http->refused = false;
	de_thread_block_signals(&saved);
	for (int round = 0; round < HTTP_ROUNDS_PER_RUN; round++)
	{
		int			nevents = epoll_wait(http->epoll_fd, events, HTTP_EVENTS_PER_WAIT, 0);
		int64		now_us;

		for (int i = 0; i < nevents; i++)
		{
			HttpEngine *engine = http_engine_find(http, (uint32) (events[i].data.u64 >> 32));
			int			mask = 0;

			if (engine == NULL)	/* the timer */
				continue;
			if (events[i].events & EPOLLIN)
				mask |= CURL_CSELECT_IN;
			if (events[i].events & EPOLLOUT)
				mask |= CURL_CSELECT_OUT;
			if (events[i].events & (EPOLLERR | EPOLLHUP))
				mask |= CURL_CSELECT_ERR;
			(void) curl_multi_socket_action(engine->multi,
											(curl_socket_t) (uint32) events[i].data.u64,
											mask, &running);
		}

		now_us = http_now_us();
		slist_foreach(iter, &http->engines)
		{
			HttpEngine *engine = slist_container(HttpEngine, node, iter.cur);

			if (engine->deadline_us >= 0 && engine->deadline_us <= now_us)
			{
				engine->deadline_us = -1;
				(void) curl_multi_socket_action(engine->multi, CURL_SOCKET_TIMEOUT, 0, &running);
			}
			http_collect(engine);
		}

		if (nevents < HTTP_EVENTS_PER_WAIT)
			break;
	}
	de_http_arm(http);
	de_thread_restore_signals(&saved);
}

/* Takes what libcurl has finished. */
static void
http_collect(HttpEngine *engine)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(engine->multi, &left)) != NULL)
	{
		DeHttpRequest *request = NULL;
		CURLcode	code;

		if (message->msg != CURLMSG_DONE)
			continue;
		code = message->data.result;	/* gone with the removal below */
		(void) curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &request);
		(void) curl_multi_remove_handle(engine->multi, request->easy);
		de_http_transfer_finish(request, code);
		de_http_request_finish(request);
	}
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
		http->armed_us > http_now_us())
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

static int64
http_now_us(void)
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
	int64		now_us = http_now_us();

	(void) multi;
	if (timeout_ms < 0)
		engine->deadline_us = -1;
	else if (timeout_ms > 0 || engine->deadline_us < 0 || engine->deadline_us > now_us)
		engine->deadline_us = now_us + (int64) timeout_ms * 1000;
	/* else it is due already: another time would only set the timer again */
	return 0;
}
