/*-------------------------------------------------------------------------
 *
 * kafka_handle.c
 *		Life of a librdkafka handle inside a server process: its start, its
 *		end, its wake-ups, and what its error codes mean.
 *
 * Threads.  The library runs three threads and one for each broker.  None of
 * them may ever run a signal handler of the server (pitfall 1), so every
 * signal is blocked while one could be started, and none may call back into
 * the server (pitfall 2): what they have to say comes as events on queues that
 * the main thread polls, announced through an eventfd in its wait set (pitfall
 * 3); the one callback that runs there is arithmetic (kafka_producer.c).
 * Their stacks are small: a proxy has more than a thousand of them, and the
 * default is what ulimit says, commonly 8 MB of address space each.
 *
 * The end.  rd_kafka_destroy joins the threads, of which one may be inside
 * getaddrinfo() for many seconds, while a DROP DATABASE elsewhere waits for
 * our main thread to absorb a barrier (pitfall 4).  So it runs on a thread of
 * its own, made here for it, which touches nothing of the server: neither
 * memory contexts nor errors nor the latch.
 *
 * Descriptors of the library are not accounted by AcquireExternalFD.  It
 * opens and closes them on its threads, as many as there are brokers, so no
 * number told would be true; and a worker has next to no files of the server
 * open, which gives its own back when it meets the limit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "storage/ipc.h"

#include "worker/base/thread.h"
#include "worker/kafka/kafka_internal.h"

/*
 * Library threads' stacks; OpenSSL and cyrus-sasl stay well below half of it.
 */
#define HANDLE_STACK_SIZE (256 * 1024)

/* What a teardown thread works on; malloc'ed, freed by it. */
typedef struct HandleTeardown
{
	rd_kafka_t *rk;
	int			closefd;
	void (*release)(void *arg);
	void	   *arg;
} HandleTeardown;

/*
 * Teardowns begun and not finished.  The only data that the teardown threads
 * share with the main thread.
 */
static pthread_mutex_t teardown_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t teardown_done;	/* of the monotonic clock */
static int	teardown_count = 0;

/* Handles made and not yet torn down; under teardown_lock too. */
static int	handle_count = 0;

static void handle_init_threads(void);
static void handle_on_proc_exit(int code, Datum arg);
static void *handle_teardown_main(void *arg);
static void handle_teardown(HandleTeardown *teardown);

/*
 * Makes a handle; see kafka_internal.h.  Never throws.
 */
rd_kafka_t *
de_kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, char *error, int error_size)
{
	rd_kafka_t *rk;
	sigset_t	saved;

	handle_init_threads();
	de_thread_block_signals(&saved);
	rk = rd_kafka_new(type, conf, error, error_size);
	de_thread_restore_signals(&saved);
	if (rk == NULL)
	{
		rd_kafka_conf_destroy(conf);
		return NULL;
	}
	pthread_mutex_lock(&teardown_lock);
	handle_count++;
	pthread_mutex_unlock(&teardown_lock);
	return rk;
}

/*
 * Once in a process, before its first library thread.
 */
static void
handle_init_threads(void)
{
	static bool done = false;
	pthread_condattr_t condattr;
	pthread_attr_t attr;

	if (done)
		return;
	pthread_condattr_init(&condattr);
	pthread_condattr_setclock(&condattr, CLOCK_MONOTONIC);
	pthread_cond_init(&teardown_done, &condattr);
	pthread_condattr_destroy(&condattr);
#ifdef __GLIBC__
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, HANDLE_STACK_SIZE);
	pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
#else
	(void) attr;				/* musl's default is 128 kB */
#endif
	on_proc_exit(handle_on_proc_exit, (Datum) 0);
	done = true;
}

/*
 * on_proc_exit: leaves without exit()'s handlers if library threads are left,
 * which would go on using what those handlers take down (OpenSSL's tables, for
 * one): a crash there restarts the whole server (pitfall 7).  Shared memory is
 * released by now, and of the callbacks that this skips none matters to a
 * process that ends.
 */
static void
handle_on_proc_exit(int code, Datum arg)
{
	int			left;

	pthread_mutex_lock(&teardown_lock);
	left = handle_count;
	pthread_mutex_unlock(&teardown_lock);
	if (left > 0)
		_exit(code);
}

/*
 * Destroys a handle on a thread of its own; see kafka_internal.h.
 */
void
de_kafka_destroy_in_background(rd_kafka_t *rk, int closefd, void (*release)(void *arg), void *arg)
{
	HandleTeardown *teardown = malloc(sizeof(HandleTeardown));
	HandleTeardown here;
	pthread_attr_t attr;
	pthread_t	thread;
	sigset_t	saved;
	bool		started = false;

	if (teardown == NULL)
		teardown = &here;
	teardown->rk = rk;
	teardown->closefd = closefd;
	teardown->release = release;
	teardown->arg = arg;

	pthread_mutex_lock(&teardown_lock);
	teardown_count++;
	pthread_mutex_unlock(&teardown_lock);

	if (teardown != &here)
	{
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, HANDLE_STACK_SIZE);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		de_thread_block_signals(&saved);
		started = pthread_create(&thread, &attr, handle_teardown_main, teardown) == 0;
		de_thread_restore_signals(&saved);
		pthread_attr_destroy(&attr);
	}

	/*
	 * No thread to be had: rather wait here than leave a handle alive that
	 * goes on sending what its successor sends too.
	 */
	if (!started)
	{
		handle_teardown(teardown);
		if (teardown != &here)
			free(teardown);
	}
}

/*
 * Start of a teardown thread.
 */
static void *
handle_teardown_main(void *arg)
{
	handle_teardown(arg);
	free(arg);
	return NULL;
}

/*
 * Destroys the handle and says so.  On a teardown thread: nothing of the
 * server may be called.
 */
static void
handle_teardown(HandleTeardown *teardown)
{
	/* whoever wanted to leave a group has done so before */
	rd_kafka_destroy_flags(teardown->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	/* not before: the handle's queues wrote to it until now */
	if (teardown->closefd >= 0)
		close(teardown->closefd);
	if (teardown->release != NULL)
		teardown->release(teardown->arg);
	pthread_mutex_lock(&teardown_lock);
	teardown_count--;
	handle_count--;
	pthread_cond_broadcast(&teardown_done);
	pthread_mutex_unlock(&teardown_lock);
}

/*
 * Waits for all teardowns; see kafka.h.  Handles no interrupts: callers wait
 * for at most a second.
 */
bool
de_kafka_teardown_wait(int timeout_ms)
{
	struct timespec until;
	bool		none;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (timeout_ms % 1000) * 1000000L;
	if (until.tv_nsec >= 1000000000L)
	{
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	pthread_mutex_lock(&teardown_lock);
	while (teardown_count > 0 && timeout_ms > 0)
	{
		if (pthread_cond_timedwait(&teardown_done, &teardown_lock, &until) != 0)
			break;
	}
	none = teardown_count == 0;
	pthread_mutex_unlock(&teardown_lock);
	return none;
}

/*
 * What an error code means for the record, topic or handle it came for.
 * What is not known to be final is worth another try: a wrong RETRIABLE
 * delays, a wrong REFUSED parks what could have been sent.
 */
DeKafkaOutcome
de_kafka_classify(rd_kafka_t *rk, rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
			return DE_KAFKA_OK;

		case RD_KAFKA_RESP_ERR__FATAL:
		case RD_KAFKA_RESP_ERR__FENCED:
		case RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE:
		case RD_KAFKA_RESP_ERR__INCONSISTENT:
		case RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE:
		case RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER:
		case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
		case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING:
		case RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER:
		case RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID:
			return DE_KAFKA_FATAL;

		case RD_KAFKA_RESP_ERR__BAD_MSG:
		case RD_KAFKA_RESP_ERR__INVALID_ARG:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_INVALID_CONFIG:
		case RD_KAFKA_RESP_ERR_INVALID_PARTITIONS:
		case RD_KAFKA_RESP_ERR_INVALID_RECORD:
		case RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR:
		case RD_KAFKA_RESP_ERR_INVALID_REQUEST:
		case RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS:
		case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
		case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
			return DE_KAFKA_REFUSED;

		default:
			return DE_KAFKA_RETRIABLE;
	}
}

/*
 * Turns an error or log event into a notice; false if nobody needs to know.
 * Logs go to the server's log at the debug levels only: what matters in them
 * comes as an error too, and the library repeats itself each second while a
 * broker is away.
 */
bool
de_kafka_notice_from_event(rd_kafka_t *rk, rd_kafka_event_t *event, DeKafkaNotice *notice)
{
	rd_kafka_resp_err_t err;

	if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_LOG)
	{
		const char *facility;
		const char *text;
		int			level;

		if (rd_kafka_event_log(event, &facility, &text, &level) == 0)
			ereport(level <= 4 ? DEBUG1 : DEBUG2,
					(errmsg_internal("librdkafka %s: %s", facility, text)));
		return false;
	}
	if (rd_kafka_event_type(event) != RD_KAFKA_EVENT_ERROR)
		return false;

	memset(notice, 0, offsetof(DeKafkaNotice, text));
	err = rd_kafka_event_error(event);
	if (rd_kafka_event_error_is_fatal(event) || err == RD_KAFKA_RESP_ERR__FATAL)
	{
		notice->fatal = true;
		/* the event's own text may be of a consequence, this is of the cause */
		if (rd_kafka_fatal_error(rk, notice->text, sizeof(notice->text)) ==
			RD_KAFKA_RESP_ERR_NO_ERROR)
			strlcpy(notice->text, rd_kafka_event_error_string(event), sizeof(notice->text));
		return true;
	}
	notice->all_brokers_down = err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
	strlcpy(notice->text, rd_kafka_event_error_string(event), sizeof(notice->text));
	return true;
}

/*
 * A descriptor that library threads write to and a wait set waits for; -1 if
 * there is none to be had.
 */
int
de_kafka_eventfd_create(void)
{
	return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

/*
 * Makes it unreadable.  To be called before the queues are drained: what
 * comes afterwards makes it readable again.
 */
void
de_kafka_eventfd_drain(int fd)
{
	uint64		value;

	while (read(fd, &value, sizeof(value)) < 0 && errno == EINTR)
		;
}

/*
 * Has a queue write to the descriptor when it ceases to be empty (pitfall 3).
 * The library writes what it is given, and an eventfd wants a number in 8
 * bytes.
 */
void
de_kafka_queue_notify(rd_kafka_queue_t *queue, int fd)
{
	static const uint64 one = 1;

	rd_kafka_queue_io_event_enable(queue, fd, &one, sizeof(one));
}
