/*-------------------------------------------------------------------------
 *
 * kafka_start.c
 *		Where the partitions of an assignment start that have no committed
 *		offset, in a group that starts with the latest events.
 *
 * "Latest" is the moment at which the group was made, start_at_ms: what has a
 * later timestamp is the group's, whenever its topic or partition came to be
 * and whether a member ran then or not.  The library's own way,
 * auto.offset.reset=latest, knows no such moment.  It goes to the end that is
 * there when it looks: also when the committed offset is not in the log any
 * more (the handler was down for longer than the topic's retention: all that
 * is left would be skipped), when a partition is added to a topic, when a
 * topic comes to be after the group.  And what was committed for one
 * partition says nothing about another.
 *
 * So committed offsets, and offsets for that moment where there are none, are
 * needed before the assignment is accepted.  The library's calls for them wait
 * for brokers.  They run on a thread of their own, which touches nothing of
 * the server, and has the handle for as long as it runs: a consumer that is
 * destroyed meanwhile leaves the handle to it.
 *
 * The end is asked for before the offset for the moment: if no record is that
 * young, it is where the younger ones will be.  Asked for afterwards, it might
 * lie behind one that has come in between.
 *
 * A partition whose leader does not answer while others' do, within a few
 * seconds for all of them, starts at its beginning.  It must not hold up the
 * others, and history is better than loss.
 *
 * Called by kafka_consumer.c, for such groups only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <pthread.h>
#include <unistd.h>

#include "extension/base/clock.h"
#include "worker/base/thread.h"
#include "worker/kafka/kafka_consumer.h"

/* For the brokers' answers: to a question about all partitions, about one. */
#define START_TIMEOUT_MS 5000
#define START_ONE_TIMEOUT_MS 1000

/* For all questions about single ones together: many may have their leader on one broker. */
#define START_ONES_TIMEOUT_MS 5000

/* Between attempts; the next look at the queue after it is within a second. */
#define START_RETRY_MS 200

/* Two or three partition lists and what they call. */
#define START_STACK_SIZE (256 * 1024)

/* A question to the brokers; malloc'ed, the thread's until it is done. */
struct DeStartQuery
{
	rd_kafka_t *rk;
	int			fd;				/* of the consumer: written to when it is done */
	uint32		serial;			/* of the assignment */
	int64		start_at_ms;
	rd_kafka_topic_partition_list_t *list;	/* the answer: where to start */
	bool		ok;

	/* Under start_lock */
	bool		done;
	bool		abandoned;		/* the consumer is gone: the handle is the thread's to destroy */
};

static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER;

static void start_free(DeStartQuery *query);
static void *start_main(void *arg);
static bool start_ask(DeStartQuery *query);
static bool start_offsets_for_times(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list,
									int64 time);

/*
 * Asks where the sources of the assignment start; de_kafka_start_ready() has
 * the answer.
 */
void
de_kafka_start_request(DeConsumer *consumer)
{
	DeStartQuery *query;
	pthread_attr_t attr;
	pthread_t	thread;
	sigset_t	saved;
	int			failed;

	/* if this or anything below fails, it is tried again */
	consumer->start_retry_at = de_monotonic_ms() + START_RETRY_MS;

	/* of a former assignment: soon at its end, for which de_kafka_start_ready() waits */
	if (consumer->start_query != NULL)
		return;
	query = calloc(1, sizeof(DeStartQuery));
	if (query == NULL)
		return;
	query->rk = consumer->rk;
	query->fd = consumer->fd;
	query->serial = consumer->serial;
	query->start_at_ms = consumer->start_at_ms;
	query->list = rd_kafka_topic_partition_list_new(consumer->nsources);
	for (int i = 0; i < consumer->nsources; i++)
		rd_kafka_topic_partition_list_add(query->list, consumer->sources[i]->topic,
										  consumer->sources[i]->number);

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, START_STACK_SIZE);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	de_thread_block_signals(&saved);
	failed = pthread_create(&thread, &attr, start_main, query);
	de_thread_restore_signals(&saved);
	pthread_attr_destroy(&attr);
	if (failed != 0)
	{
		start_free(query);
		return;
	}
	consumer->start_query = query;
	consumer->start_retry_at = 0;
}

/*
 * Takes the answer, if it has come: then true, and the sources have their
 * start.  Asks again after a failure.
 */
bool
de_kafka_start_ready(DeConsumer *consumer)
{
	DeStartQuery *query = consumer->start_query;
	bool		ready = false;

	if (query != NULL)
	{
		bool		done;

		pthread_mutex_lock(&start_lock);
		done = query->done;
		pthread_mutex_unlock(&start_lock);
		if (!done)
			return false;

		consumer->start_query = NULL;
		if (!consumer->assigning)
			consumer->start_retry_at = 0;
		else if (query->serial == consumer->serial && query->ok)
		{
			/* same order: the list was made of the sources */
			for (int i = 0; i < consumer->nsources; i++)
				consumer->sources[i]->start = query->list->elems[i].offset;
			ready = true;
		}
		else
			consumer->start_retry_at = de_monotonic_ms() + (query->ok ? 0 : START_RETRY_MS);
		start_free(query);
	}
	if (!ready && consumer->assigning && consumer->start_retry_at != 0 &&
		consumer->start_retry_at <= de_monotonic_ms())
		de_kafka_start_request(consumer);
	return ready;
}

/*
 * The consumer goes.  True if its handle and descriptor are a thread's now,
 * which destroys them.
 */
bool
de_kafka_start_abandon(DeConsumer *consumer)
{
	DeStartQuery *query = consumer->start_query;
	bool		done;

	if (query == NULL)
		return false;
	consumer->start_query = NULL;
	pthread_mutex_lock(&start_lock);
	done = query->done;
	query->abandoned = !done;
	pthread_mutex_unlock(&start_lock);
	if (done)
		start_free(query);
	return !done;
}

static void
start_free(DeStartQuery *query)
{
	rd_kafka_topic_partition_list_destroy(query->list);
	free(query);
}

/* ---- on the thread: nothing of the server ---- */

static void *
start_main(void *arg)
{
	DeStartQuery *query = arg;
	static const uint64 one = 1;
	bool		abandoned;

	query->ok = start_ask(query);

	pthread_mutex_lock(&start_lock);
	abandoned = query->abandoned;
	query->done = true;
	/* under the lock: the descriptor is closed by who abandons, after he has had it */
	if (!abandoned && write(query->fd, &one, sizeof(one)) < 0)
		abandoned = false;		/* full: readable anyway */
	pthread_mutex_unlock(&start_lock);

	if (abandoned)
	{
		de_kafka_destroy_in_background(query->rk, query->fd, NULL, NULL);
		start_free(query);
	}
	return NULL;
}

/*
 * Finds out; false if the brokers do not answer.
 */
static bool
start_ask(DeStartQuery *query)
{
	rd_kafka_topic_partition_list_t *list = query->list;
	rd_kafka_topic_partition_list_t *ends;
	rd_kafka_topic_partition_list_t *times;
	bool		ok;

	if (rd_kafka_committed(query->rk, list, START_TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	ends = rd_kafka_topic_partition_list_new(list->cnt);
	times = rd_kafka_topic_partition_list_new(list->cnt);
	for (int i = 0; i < list->cnt; i++)
	{
		rd_kafka_topic_partition_t *element = &list->elems[i];

		/* an error of one partition would look like "nothing committed" */
		if (element->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			ok = false;
			goto done;
		}
		if (element->offset >= 0)
		{
			/* the library finds it again, and its metadata with it */
			element->offset = RD_KAFKA_OFFSET_INVALID;
			continue;
		}
		rd_kafka_topic_partition_list_add(ends, element->topic, element->partition);
		rd_kafka_topic_partition_list_add(times, element->topic, element->partition);
	}

	ok = ends->cnt == 0 ||
		(start_offsets_for_times(query->rk, ends, RD_KAFKA_OFFSET_END) &&
		 start_offsets_for_times(query->rk, times, query->start_at_ms));
	for (int i = 0; ok && i < ends->cnt; i++)
	{
		rd_kafka_topic_partition_t *element =
			rd_kafka_topic_partition_list_find(list, ends->elems[i].topic,
											   ends->elems[i].partition);

		if (ends->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR || ends->elems[i].offset < 0 ||
			times->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
			element->offset = RD_KAFKA_OFFSET_BEGINNING;
		else if (times->elems[i].offset >= 0)
			element->offset = times->elems[i].offset;
		else
			element->offset = ends->elems[i].offset;
	}

done:
	rd_kafka_topic_partition_list_destroy(ends);
	rd_kafka_topic_partition_list_destroy(times);
	return ok;
}

/*
 * Asks for the first offset with a timestamp of "time" or later, or for the end
 * (RD_KAFKA_OFFSET_END).  False if no partition's leader answers; those
 * that do not while others do have an error in their element.
 */
static bool
start_offsets_for_times(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list, int64 time)
{
	int			answered = 0;
	int64		deadline;

	for (int i = 0; i < list->cnt; i++)
		list->elems[i].offset = time;
	if (rd_kafka_offsets_for_times(rk, list, START_TIMEOUT_MS) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		for (int i = 0; i < list->cnt; i++)
			answered += list->elems[i].err == RD_KAFKA_RESP_ERR_NO_ERROR;
		if (answered == list->cnt)
			return true;
	}

	/* one that has no leader fails the question about all */
	answered = 0;
	deadline = de_monotonic_ms() + START_ONES_TIMEOUT_MS;
	for (int i = 0; i < list->cnt; i++)
	{
		rd_kafka_topic_partition_t *element = &list->elems[i];
		rd_kafka_topic_partition_list_t *one;
		rd_kafka_resp_err_t err;

		if (de_monotonic_ms() >= deadline)
		{
			element->err = RD_KAFKA_RESP_ERR__TIMED_OUT;
			continue;
		}
		one = rd_kafka_topic_partition_list_new(1);

		rd_kafka_topic_partition_list_add(one, element->topic, element->partition)->offset = time;
		err = rd_kafka_offsets_for_times(rk, one, START_ONE_TIMEOUT_MS);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			err = one->elems[0].err;
		element->err = err;
		element->offset = one->elems[0].offset;
		answered += err == RD_KAFKA_RESP_ERR_NO_ERROR;
		rd_kafka_topic_partition_list_destroy(one);
	}
	return answered > 0;
}
