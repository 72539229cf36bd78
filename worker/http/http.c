/*-------------------------------------------------------------------------
 *
 * http.c
 *		HTTP client of the proxy: its life and its loop.  With the other
 *		http_*.c files the only user of libcurl.
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

#define HTTP_EVENTS_PER_WAIT 64
#define HTTP_ROUNDS_PER_RUN 16	/* then the caller looks after its other work */

static void http_collect(HttpEngine *engine);

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

	engine = de_http_engine_create(http, options);
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
	HttpEngine *engine = de_http_engine_create(http, options);

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
		de_http_engine_destroy(slist_container(HttpEngine, node,
											   slist_pop_head_node(&http->engines)));
	close(http->timer_fd);
	close(http->epoll_fd);
	ReleaseExternalFD();
	ReleaseExternalFD();
	free(http);
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
			HttpEngine *engine = de_http_engine_find(http, (uint32) (events[i].data.u64 >> 32));
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

		now_us = de_http_now_us();
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
