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
 * From IDLE to BLOCKED, for good, when the next record cannot be delivered:
 * it is too large, or the library could not read it.  Passing it would lose it
 * silently; a new assignment tries again.
 *
 * Invariants:
 *	 - One request under way at most: this is what keeps the order.
 *	 - An offset is acknowledged in the tracker only when an answer said so.
 *	   Giving up a request (revoked, stopped) is no answer: the events come
 *	   again (G7).
 *	 - A partition knows nothing of other assignments.  It dies with its own;
 *	   a late answer has nobody to reach.
 *
 * A batch ends early when memory is short (budget.c), and goes over the budget
 * by one event at most.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "extension/base/guc.h"
#include "extension/base/kill_point.h"
#include "worker/base/backoff.h"
#include "worker/delivery/answer.h"
#include "worker/life/worker.h"
#include "worker/proxy/batch.h"
#include "worker/proxy/partition.h"

/* Unacknowledged events of a partition; the largest batch_max_events. */
#define PARTITION_WINDOW 10000

typedef enum PartitionState
{
	PARTITION_IDLE,				/* no body */
	PARTITION_STARVED,			/* no body, and no memory for one */
	PARTITION_FILLING,			/* body grows until full or linger is over */
	PARTITION_SENDING,			/* request under way */
	PARTITION_BACKOFF,			/* waits to send the same body again */
	PARTITION_BLOCKED,			/* no body, and what comes next cannot be delivered */
	PARTITION_QUIET				/* about to go: takes and sends nothing any more */
} PartitionState;

struct DePartition
{
	DeLoop	   *loop;
	void	   *owner;			/* the caller's */
	const DeGroupDefinition *definition;	/* of the group; exchanged by it in place */
	DeSource   *source;
	int32		generation;		/* of the assignment: the fencing token */
	MemoryContext context;		/* of the struct */

	PartitionState state;
	DeTracker  *tracker;
	DeTimer		timer;			/* end of linger or of backoff */
	DeBatch		batch;
	DeBudgetClaim claim;		/* memory of the batch */
	char	   *blocked;		/* why nothing more is taken; NULL = it is */
	int64		blocked_at;		/* offset of what cannot be delivered */
	bool		blocked_told;	/* see de_partition_take_notice() */
	int64		sent_at;		/* first attempt with this or the last body; 0 = none yet */
	int			attempt;		/* of the request under way or the last one */
	DeHttpRequest *request;		/* in state SENDING, or QUIET with an answer to come */

	/* Commits; -1 = none yet */
	int64		committed;		/* confirmed by the broker in this assignment */
	int64		committing;		/* in a request under way */
};

static void partition_timer_expired(void *owner);
static void partition_memory_granted(void *owner);
static int64 partition_position(DePartition *partition);
static void partition_fill(DePartition *partition);
static bool partition_take(DePartition *partition);
static void partition_track(DePartition *partition);
static void partition_block(DePartition *partition, int64 offset, char *reason);
static void partition_clear_batch(DePartition *partition);
static void partition_send(DePartition *partition);

/*
 * Makes a partition of a new assignment.
 */
DePartition *
de_partition_create(DeLoop *loop, void *owner, DeBudgetShare *share,
					const DeGroupDefinition *definition,
					DeSource *source, int32 generation)
{
	MemoryContext context = AllocSetContextCreate(de_worker->context, "durable_event partition",
												  ALLOCSET_SMALL_SIZES);
	DePartition *partition = MemoryContextAllocZero(context, sizeof(DePartition));

	partition->loop = loop;
	partition->owner = owner;
	partition->definition = definition;
	partition->source = source;
	partition->generation = generation;
	partition->context = context;
	partition->state = PARTITION_IDLE;
	partition->committed = -1;
	partition->committing = -1;
	de_batch_init(&partition->batch, de_source_topic(source), de_source_number(source));
	de_budget_claim_init(&partition->claim, &loop->bodies, share, partition_memory_granted,
						 partition);
	de_timer_init(&partition->timer, partition_timer_expired, partition);
	partition->tracker = de_tracker_create(PARTITION_WINDOW);
	if (partition->tracker == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	de_source_set_owner(source, partition);
	return partition;
}

void *
de_partition_owner(DePartition *partition)
{
	return partition->owner;
}

void
de_partition_detach(DePartition *partition)
{
	de_source_set_owner(partition->source, NULL);
}

/*
 * Forgets the partition; see partition.h.
 */
void
de_partition_destroy(DePartition *partition)
{
	de_partition_quiesce(partition);
	if (partition->request != NULL)
		de_http_release(partition->loop->http, partition->request);
	partition->request = NULL;
	/* all its memory goes with the context */
	de_budget_charge(&partition->claim, 0);
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
	de_timer_cancel(partition->loop->timers, &partition->timer);
	de_budget_cancel_wait(&partition->claim);
	partition->state = PARTITION_QUIET;
	if (partition->request == NULL)
		partition_clear_batch(partition);
}

/*
 * Takes a changed definition.  Who waits in backoff tries at once: the change
 * may well be the remedy, and the wait a minute or more.  So does who lingers.
 */
void
de_partition_redefine(DePartition *partition, const DeGroupDefinition *definition)
{
	partition->definition = definition;
	if (partition->state == PARTITION_BACKOFF || partition->state == PARTITION_FILLING)
		de_timer_set(partition->loop->timers, &partition->timer, partition->loop->now + 1);
}

bool
de_partition_busy(DePartition *partition)
{
	return partition->request != NULL;
}

/*
 * What may be committed.  Needs "source".
 *
 * At the end of the log, with all acknowledged, that is the end itself.  It
 * may lie beyond the last record: without it, a transaction marker at the end
 * would be a lag of one for good, and a group that starts at the end of a
 * silent topic would have no committed offset, so that a restart would skip
 * what was published meanwhile.
 *
 * Never beyond what is taken and not tracked yet, nor beyond what cannot be
 * delivered, wherever the log ends.
 */
static int64
partition_position(DePartition *partition)
{
	int64		position = de_tracker_position(partition->tracker);

	if (de_tracker_unacked(partition->tracker) == 0)
		position = Max(position, de_source_end(partition->source));
	if (partition->batch.carry.filled)
		position = Min(position, partition->batch.carry.offset);
	if (partition->blocked != NULL)
		position = Min(position, partition->blocked_at);
	return position;
}

bool
de_partition_note_commit(DePartition *partition, DeCommitMode mode)
{
	int64		position = partition_position(partition);
	bool		wanted = false;

	switch (mode)
	{
		case DE_COMMIT_CHANGED:
			wanted = partition->committing < 0 && position != partition->committed;
			break;
		case DE_COMMIT_PROBE:
			wanted = partition->committing < 0;
			break;
		case DE_COMMIT_LAST:
			if (partition->committing >= 0)
				wanted = position != partition->committing;
			else
				wanted = position != partition->committed;
			break;
	}
	if (position < 0 || !wanted)
		return false;
	partition->committing = position;
	de_source_commit(partition->source, position);
	return true;
}

void
de_partition_committed(DePartition *partition, int64 offset, bool ok)
{
	/* of an earlier request than the last one: that is still to come */
	if (offset == partition->committing)
		partition->committing = -1;
	if (ok)
		partition->committed = offset;
}

bool
de_partition_committing(DePartition *partition)
{
	return partition->committing >= 0;
}

void
de_partition_figures(DePartition *partition, DePartitionFigures *figures)
{
	int64		low;
	int64		high;

	de_source_watermarks(partition->source, &low, &high);
	figures->position = partition_position(partition);
	figures->lag = (figures->position < 0 || high < 0) ? -1 : Max(high - figures->position, 0);
	figures->in_flight = partition->request != NULL ? partition->batch.nevents : 0;
	figures->oldest = partition->batch.oldest;
}

bool
de_partition_failing(DePartition *partition)
{
	return partition->batch.nevents > 0 &&
		(partition->attempt > 1 || partition->state == PARTITION_BACKOFF);
}

/*
 * Takes records if there is nothing else to do first.
 */
void
de_partition_run(DePartition *partition)
{
	if (partition->state != PARTITION_IDLE && partition->state != PARTITION_FILLING)
		return;

	/*
	 * A carried event has its memory already.  If it had to wait for more, and
	 * others for theirs, nothing would ever be given back.
	 */
	if (partition->state == PARTITION_IDLE && !partition->batch.carry.filled &&
		!de_budget_may_grow(&partition->claim))
	{
		partition->state = PARTITION_STARVED;
		de_budget_wait(&partition->claim);
		return;
	}
	partition_fill(partition);
}

/*
 * There is memory for a body now.
 */
static void
partition_memory_granted(void *owner)
{
	DePartition *partition = owner;

	partition->state = PARTITION_IDLE;
	partition_fill(partition);
}

/*
 * Takes records until the batch is full or there are none, then sends it or
 * lets it linger.
 */
static void
partition_fill(DePartition *partition)
{
	const DeGroupDefinition *definition = partition->definition;
	DeBatch    *batch = &partition->batch;
	MemoryContext old = MemoryContextSwitchTo(partition->context);
	bool		full;
	int64		due;

	if (batch->nevents == 0 && de_batch_take_carried(batch, definition))
	{
		partition_track(partition);
		de_budget_charge(&partition->claim, de_batch_memory(batch));
	}
	while (!de_batch_full(batch, definition) &&
		   (batch->nevents == 0 || de_budget_may_grow(&partition->claim)) &&
		   partition_take(partition))
	{
		/* 10,000 records of some kB each are more than a moment */
		CHECK_FOR_INTERRUPTS();
	}
	de_source_release_record(partition->source);
	MemoryContextSwitchTo(old);

	if (batch->nevents == 0)
	{
		if (partition->blocked != NULL)
			partition->state = PARTITION_BLOCKED;
		return;
	}

	/*
	 * Linger counts from the batch before, not from the first record: after
	 * a pause nothing is gained by waiting, and in a steady flow batches are
	 * as large and as far apart either way.
	 */
	full = de_batch_full(batch, definition) || !de_budget_may_grow(&partition->claim) ||
		partition->blocked != NULL;
	due = partition->sent_at + definition->linger_ms;
	if (full || due <= partition->loop->now)
		partition_send(partition);
	else if (partition->state != PARTITION_FILLING)
	{
		partition->state = PARTITION_FILLING;
		de_timer_set(partition->loop->timers, &partition->timer, due);
	}
}

/*
 * Takes the next record; false if there is none, or no room to remember it.
 */
static bool
partition_take(DePartition *partition)
{
	DeSource   *source = partition->source;
	DeRecord	record;
	Size		size;

	if (partition->blocked != NULL || de_tracker_reserve(partition->tracker) != DE_TRACKER_OK)
		return false;
	if (!de_source_next_record(source, &record))
	{
		const char *reason;
		int64		offset;

		if (de_source_broken(source, &offset, &reason))
			partition_block(partition, offset,
							psprintf("topic \"%s\" partition %d cannot be read from offset " INT64_FORMAT " on: %s",
									 de_source_topic(source), de_source_number(source), offset,
									 reason));
		return false;
	}

	/* before it is encoded: that may need twelve times as much, and 1 GB is the end */
	size = de_record_size(&record);
	if (size > de_record_limit())
	{
		partition_block(partition, record.offset,
						psprintf("record at offset " INT64_FORMAT " of topic \"%s\" partition %d has %zu bytes, more than durable_event.max_record_size allows",
								 record.offset, record.topic, record.partition, size));
		return false;
	}
	if (de_batch_append(&partition->batch, partition->definition, &record))
		partition_track(partition);
	de_budget_charge(&partition->claim, de_batch_memory(&partition->batch));
	return true;
}

/*
 * An event has come into the batch.
 */
static void
partition_track(DePartition *partition)
{
	int64		offset = de_batch_last_offset(&partition->batch);
	DeTrackerResult result = de_tracker_add(partition->tracker, offset);

	/*
	 * Offsets that do not ascend: an unclean leader election took part of the
	 * log back.  Such a record begins a batch, so no acknowledgement of the
	 * one that it takes the place of can come any more.
	 */
	if (result == DE_TRACKER_NOT_ASCENDING)
	{
		de_tracker_truncate(partition->tracker, offset);
		result = de_tracker_add(partition->tracker, offset);
	}
	if (result != DE_TRACKER_OK)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));

	if (partition->batch.nevents == 1)
		partition->attempt = 0;
}

/*
 * Takes nothing any more.
 */
static void
partition_block(DePartition *partition, int64 offset, char *reason)
{
	partition->blocked = reason;
	partition->blocked_at = offset;
}

const char *
de_partition_blocked(DePartition *partition)
{
	return partition->blocked;
}

const char *
de_partition_take_notice(DePartition *partition)
{
	if (partition->blocked == NULL || partition->blocked_told)
		return NULL;
	partition->blocked_told = true;
	return partition->blocked;
}

/*
 * Frees the body; what is carried stays, and counts.
 */
static void
partition_clear_batch(DePartition *partition)
{
	de_batch_clear(&partition->batch);
	de_budget_charge(&partition->claim, de_batch_memory(&partition->batch));
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
 * Sends the body, for the first time or again.  That it could not be sent
 * comes as an answer, too.
 */
static void
partition_send(DePartition *partition)
{
	const DeGroupDefinition *definition = partition->definition;
	DeRequest *body = &partition->batch.body;
	DeAttempt attempt;
	const char **own;
	const char **headers;
	int			nown;

	de_timer_cancel(partition->loop->timers, &partition->timer);
	if (partition->attempt == 0)
	{
		de_request_finish(body);
		partition->sent_at = partition->loop->now;
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
	nown = de_request_headers(body, &attempt, &own);

	headers = palloc(sizeof(char *) * (nown + definition->nhandler_headers));
	memcpy(headers, own, sizeof(char *) * nown);
	if (definition->nhandler_headers > 0)
		memcpy(headers + nown, definition->handler_headers,
			   sizeof(char *) * definition->nhandler_headers);

	partition->state = PARTITION_SENDING;
	partition->request = de_http_post(partition->loop->http, definition->handler_url,
									  headers, nown + definition->nhandler_headers,
									  body->json.data, body->json.len,
									  definition->timeout_ms, partition);
	DE_KILL_POINT("proxy-after-post");
}

/*
 * Takes the answer to the request under way; see partition.h.
 */
void
de_partition_finished(DePartition *partition, DePartitionAnswer *answer)
{
	const DeGroupDefinition *definition = partition->definition;
	DeHttpRequest *request = partition->request;
	int64		wait_ms;

	answer->nevents = partition->batch.nevents;
	answer->acknowledged = de_answer_read(de_http_result(request), answer->reason,
										  sizeof(answer->reason)) == DE_VERDICT_ACKNOWLEDGED;
	partition->request = NULL;
	de_http_release(partition->loop->http, request);

	if (answer->acknowledged)
	{
		de_batch_acknowledge(&partition->batch, partition->tracker);
		DE_KILL_POINT("proxy-after-answer");
	}
	if (answer->acknowledged || partition->state == PARTITION_QUIET)
	{
		partition_clear_batch(partition);
		if (partition->state != PARTITION_QUIET)
			partition->state = PARTITION_IDLE;
	}
	else
	{
		/* the body is kept, and sent as it is */
		partition->state = PARTITION_BACKOFF;
		wait_ms = de_backoff_ms(partition->attempt, definition->backoff_min_ms,
								definition->backoff_max_ms,
								pg_prng_double(&pg_global_prng_state));
		de_timer_set(partition->loop->timers, &partition->timer, partition->loop->now + wait_ms);
	}
}
