/*-------------------------------------------------------------------------
 *
 * partition.c
 *		One assigned partition: a batch is filled, sent, sent again until it
 *		is acknowledged; then the next.
 *
 *		IDLE ──────▶ FILLING ──────▶ SENDING ──acknowledged──▶ IDLE
 *		  │▲ memory                   │   ▲
 *		  ▼│                    failed▼   │jittered backoff
 *		STARVED                     BACKOFF
 *
 * Invariants:
 *	 - One request under way at most: this is what keeps the order.
 *	 - An offset is acknowledged in the tracker only when an answer said so.
 *	   Giving up a request (revoked, stopped) is no answer: the events come
 *	   again (G7).
 *	 - Records are encoded as they are taken and then given back.  A retry sends
 *	   the very same bytes, so it has the same webhook-id.
 *	 - A partition knows nothing of other assignments.  It dies with its own;
 *	   a late answer has nobody to reach.
 *
 * Memory.  Bodies of all groups share a budget; half of it is free for all,
 * the other half is divided among the groups, so that the bodies of a group
 * whose handler is down, which stay for as long as it is down, cannot starve
 * the others.  A batch ends early when memory is short, and goes over the
 * budget by one event at most.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "extension/base/guc.h"
#include "extension/base/kill_point.h"
#include "worker/base/backoff.h"
#include "worker/delivery/answer.h"
#include "worker/life/worker.h"
#include "worker/proxy/partition.h"

/* Unacknowledged events of a partition; the largest batch_max_events. */
#define PARTITION_WINDOW 10000

static void partition_timer_expired(void *owner);
static bool partition_has_memory(DePartition *partition);
static void partition_fill(DePartition *partition);
static void partition_append(DePartition *partition, const DeRecord *record);
static TimestampTz partition_timestamp(int64 unix_ms);
static void partition_charge(DePartition *partition, Size bytes);
static void partition_send(DePartition *partition);
static void partition_retry_later(DePartition *partition, const char *reason);
static void partition_free_body(DePartition *partition);

/*
 * Makes a partition of a new assignment.
 */
DePartition *
de_partition_create(DeProxy *proxy, DeGroup *group, Size *group_memory,
					const DeGroupDefinition *definition,
					DeSource *source, int32 generation)
{
	MemoryContext context = AllocSetContextCreate(de_worker->context, "durable_event partition",
												  ALLOCSET_SMALL_SIZES);
	DePartition *partition = MemoryContextAllocZero(context, sizeof(DePartition));

	partition->proxy = proxy;
	partition->group = group;
	partition->group_memory = group_memory;
	partition->definition = definition;
	partition->source = source;
	partition->generation = generation;
	partition->context = context;
	partition->body_context = AllocSetContextCreate(context, "durable_event request body",
													ALLOCSET_SMALL_SIZES);
	partition->state = DE_PARTITION_IDLE;
	partition->committed = -1;
	partition->committing = -1;
	de_timer_init(&partition->timer, partition_timer_expired, partition);
	partition->tracker = de_tracker_create(PARTITION_WINDOW);
	if (partition->tracker == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	return partition;
}

/*
 * Forgets the partition; see partition.h.
 */
void
de_partition_destroy(DePartition *partition)
{
	de_partition_quiesce(partition);
	if (partition->request != NULL)
		de_http_release(partition->proxy->http, partition->request);
	partition->request = NULL;
	partition_free_body(partition);
	de_tracker_destroy(partition->tracker);
	MemoryContextDelete(partition->context);
}

/*
 * Stops taking and sending.  A body without a request under way goes: its
 * records were never acknowledged, so they are not lost by that.
 */
void
de_partition_quiesce(DePartition *partition)
{
	de_timer_cancel(partition->proxy->timers, &partition->timer);
	if (partition->state == DE_PARTITION_STARVED)
		dlist_delete(&partition->starved_node);
	partition->state = DE_PARTITION_QUIET;
	if (partition->request == NULL)
		partition_free_body(partition);
}

/*
 * Takes a changed definition.  Who waits in backoff tries at once: the change
 * may well be the remedy, and the wait a minute or more.  So does who lingers.
 */
void
de_partition_redefine(DePartition *partition, const DeGroupDefinition *definition)
{
	partition->definition = definition;
	if (partition->state == DE_PARTITION_BACKOFF || partition->state == DE_PARTITION_FILLING)
		de_timer_set(partition->proxy->timers, &partition->timer, partition->proxy->now + 1);
}

bool
de_partition_busy(DePartition *partition)
{
	return partition->request != NULL;
}

/*
 * Returns what may be committed; see partition.h.  Needs "source".
 *
 * At the end of the log, with all acknowledged, that is the end itself.  It
 * may lie beyond the last record: without it, a transaction marker at the end
 * would be a lag of one for good, and a group that starts at the end of a
 * silent topic would have no committed offset, so that a restart would skip
 * what was published meanwhile.
 */
int64
de_partition_position(DePartition *partition)
{
	int64		position = de_tracker_position(partition->tracker);

	if (de_tracker_unacked(partition->tracker) == 0)
		position = Max(position, de_source_end(partition->source));
	return position;
}

/*
 * Takes records if there is nothing else to do first.
 */
void
de_partition_run(DePartition *partition)
{
	if (partition->state != DE_PARTITION_IDLE && partition->state != DE_PARTITION_FILLING)
		return;

	if (partition->state == DE_PARTITION_IDLE && !partition_has_memory(partition))
	{
		partition->state = DE_PARTITION_STARVED;
		dlist_push_tail(&partition->proxy->starved, &partition->starved_node);
		return;
	}
	partition_fill(partition);
}

/*
 * May a body of this partition begin or grow?  A group that has none may.
 */
static bool
partition_has_memory(DePartition *partition)
{
	DeProxy    *proxy = partition->proxy;

	return proxy->memory_used < proxy->memory_limit / 2 ||
		*partition->group_memory < proxy->memory_limit / 2 / Max(proxy->ngroups, 1) ||
		*partition->group_memory == 0;
}

/*
 * Serves those that wait for memory, each at most once.
 */
void
de_partition_feed_starved(DeProxy *proxy)
{
	dlist_mutable_iter iter;

	if (!proxy->memory_freed)
		return;
	proxy->memory_freed = false;
	dlist_foreach_modify(iter, &proxy->starved)
	{
		DePartition *partition = dlist_container(DePartition, starved_node, iter.cur);

		if (!partition_has_memory(partition))
			continue;
		dlist_delete(&partition->starved_node);
		partition->state = DE_PARTITION_IDLE;
		partition_fill(partition);
	}
}

/*
 * Takes records until the batch is full or there are none, then sends it or
 * lets it linger.
 */
static void
partition_fill(DePartition *partition)
{
	const DeGroupDefinition *definition = partition->definition;
	bool		full = false;
	int64		due;
	DeRecord	record;

	while (!full && de_source_next_record(partition->source, &record))
	{
		partition_append(partition, &record);

		/*
		 * A record cannot be put back once taken, so a batch ends with the
		 * one that reaches its limit, not before it.
		 */
		full = partition->body.nevents >= definition->batch_max_events ||
			partition->body.json.len >= definition->batch_max_bytes ||
			!partition_has_memory(partition);
	}
	de_source_release_record(partition->source);

	if (!partition->has_body)
		return;

	/*
	 * Linger counts from the batch before, not from the first record: after
	 * a pause nothing is gained by waiting, and in a steady flow batches are
	 * as large and as far apart either way.
	 */
	due = partition->sent_at + definition->linger_ms;
	if (full || due <= partition->proxy->now)
		partition_send(partition);
	else if (partition->state != DE_PARTITION_FILLING)
	{
		partition->state = DE_PARTITION_FILLING;
		de_timer_set(partition->proxy->timers, &partition->timer, due);
	}
}

/*
 * Adds a record to the body, which is begun if there is none.
 */
static void
partition_append(DePartition *partition, const DeRecord *record)
{
	MemoryContext old;
	Size		bytes;

	if (!partition->has_body)
	{
		old = MemoryContextSwitchTo(partition->body_context);
		de_request_begin(&partition->body, partition->definition->mode,
						 partition->definition->name_utf8, record->topic, record->partition);
		partition->max_offsets = Min(16, partition->definition->batch_max_events);
		partition->offsets = palloc(sizeof(int64) * partition->max_offsets);
		MemoryContextSwitchTo(old);
		partition->has_body = true;
		partition->attempt = 0;
		partition->oldest = partition_timestamp(record->timestamp_ms);
	}
	else if (partition->body.nevents >= partition->max_offsets)
	{
		partition->max_offsets *= 2;
		partition->offsets = repalloc_huge(partition->offsets,
										   sizeof(int64) * partition->max_offsets);
	}

	/*
	 * Offsets that do not ascend: an unclean leader election took part of the
	 * log back.  What was tracked is of a log that is no more.
	 */
	if (!de_tracker_add(partition->tracker, record->offset))
	{
		de_tracker_reset(partition->tracker);
		if (!de_tracker_add(partition->tracker, record->offset))
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
	}
	partition->offsets[partition->body.nevents] = record->offset;
	de_request_append(&partition->body, record);
	bytes = (Size) partition->body.json.maxlen + sizeof(int64) * partition->max_offsets;
	partition_charge(partition, bytes);
}

/*
 * A record's timestamp as the server's; 0 = it has none.
 */
static TimestampTz
partition_timestamp(int64 unix_ms)
{
	const int64 epoch_ms = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000;

	return unix_ms < 0 ? 0 : (unix_ms - epoch_ms) * 1000;
}

/*
 * Makes "bytes" what the partition has of the budget.
 */
static void
partition_charge(DePartition *partition, Size bytes)
{
	DeProxy    *proxy = partition->proxy;

	if (bytes < partition->charged)
		proxy->memory_freed = true;
	proxy->memory_used = proxy->memory_used - partition->charged + bytes;
	*partition->group_memory = *partition->group_memory - partition->charged + bytes;
	partition->charged = bytes;
}

static void
partition_free_body(DePartition *partition)
{
	if (!partition->has_body)
		return;
	de_request_free(&partition->body);
	MemoryContextReset(partition->body_context);
	partition->has_body = false;
	partition->offsets = NULL;
	partition->oldest = 0;
	partition_charge(partition, 0);
}

/*
 * End of linger or of backoff.
 */
static void
partition_timer_expired(void *owner)
{
	partition_send(owner);
}

/*
 * Sends the body, for the first time or again.
 */
static void
partition_send(DePartition *partition)
{
	const DeGroupDefinition *definition = partition->definition;
	DeAttempt attempt;
	char		error[DE_HTTP_ERROR_SIZE];
	const char **own;
	const char **headers;
	int			nown;

	de_timer_cancel(partition->proxy->timers, &partition->timer);
	if (partition->attempt == 0)
	{
		de_request_finish(&partition->body);
		partition->sent_at = partition->proxy->now;
	}
	partition->attempt++;

	attempt.group = definition->name_utf8;
	attempt.topic = de_source_topic(partition->source);
	attempt.partition = de_source_number(partition->source);
	attempt.attempt = partition->attempt;
	attempt.timeout_ms = definition->timeout_ms;
	attempt.generation = partition->generation;
	attempt.unix_seconds = (int64) time(NULL);
	attempt.secret = de_signing_secret;
	attempt.previous_secret = de_signing_secret_previous;
	nown = de_request_headers(&partition->body, &attempt, &own);

	headers = palloc(sizeof(char *) * (nown + definition->nhandler_headers));
	memcpy(headers, own, sizeof(char *) * nown);
	if (definition->nhandler_headers > 0)
		memcpy(headers + nown, definition->handler_headers,
			   sizeof(char *) * definition->nhandler_headers);

	partition->state = DE_PARTITION_SENDING;
	partition->request = de_http_post(partition->proxy->http, definition->handler_url,
									  headers, nown + definition->nhandler_headers,
									  partition->body.json.data, partition->body.json.len,
									  definition->timeout_ms, partition, error, sizeof(error));
	if (partition->request == NULL)
		partition_retry_later(partition, error);
	DE_KILL_POINT("proxy-after-post");
}

/*
 * Takes the answer to the request under way.  A partition that was QUIET may
 * be gone when the group has been told: it was what the group waited for.
 */
void
de_partition_finished(DePartition *partition)
{
	DeHttpRequest *request = partition->request;
	char		reason[DE_HTTP_ERROR_SIZE];
	DeVerdict	verdict;

	verdict = de_answer_read(de_http_result(request), reason, sizeof(reason));
	partition->request = NULL;
	de_http_release(partition->proxy->http, request);

	if (verdict == DE_VERDICT_ACKNOWLEDGED)
	{
		bool		quiet = partition->state == DE_PARTITION_QUIET;
		int			nevents = partition->body.nevents;

		DE_KILL_POINT("proxy-after-answer");
		/* one that is not tracked any more is of a log taken back, see above */
		for (int i = 0; i < nevents; i++)
			(void) de_tracker_ack(partition->tracker, partition->offsets[i]);
		partition_free_body(partition);
		if (!quiet)
			partition->state = DE_PARTITION_IDLE;
		de_group_note_delivered(partition->group, nevents);
		if (!quiet)
			de_partition_run(partition);
	}
	else if (partition->state == DE_PARTITION_SENDING)
		partition_retry_later(partition, reason);
	else
	{
		partition_free_body(partition);
		de_group_note_failed(partition->group, reason);
	}
}

/*
 * Waits before the next attempt, with the body kept.
 */
static void
partition_retry_later(DePartition *partition, const char *reason)
{
	const DeGroupDefinition *definition = partition->definition;
	int64		wait_ms = de_backoff_ms(partition->attempt, definition->backoff_min_ms,
								  definition->backoff_max_ms,
								  pg_prng_double(&pg_global_prng_state));

	partition->state = DE_PARTITION_BACKOFF;
	de_timer_set(partition->proxy->timers, &partition->timer, partition->proxy->now + wait_ms);
	de_group_note_failed(partition->group, reason);
}
