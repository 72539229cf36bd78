/*-------------------------------------------------------------------------
 *
 * group_status.c
 *		What a consumer group tells about itself: state, figures, log.
 *
 * Nothing is logged for each batch or record.  A handler's first failure and
 * its recovery are, at most once a minute for a group; of Kafka's absence the
 * worker speaks once for all groups.  Errors between are in stat_group only.
 *
 * Shared memory is written under the entry's spinlock: copies of counters, no
 * call that can throw.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "worker/proxy/group_internal.h"

/* A failing handler is not spoken of again before. */
#define FAILURE_LOG_INTERVAL_MS 60000

static void group_note_recovery(DeGroup *group);
static void group_note_failure(DeGroup *group, const char *reason);
static bool group_has_failing_partition(DeGroup *group);

/*
 * Notes that Kafka is away from, or back to, this group.  Logged for the
 * first group that loses it, and when the last one has it again.
 */
void
de_group_set_disconnected(DeGroup *group, bool disconnected, const char *reason)
{
	DeGroupPool *pool = group->pool;

	if (group->disconnected == disconnected)
		return;
	group->disconnected = disconnected;
	group->probe_at = pool->loop->now + DE_GROUP_PROBE_INTERVAL_MS;
	if (disconnected)
	{
		if (pool->ndisconnected++ == 0)
			ereport(LOG,
					(errmsg("consumer groups have lost their connection to Kafka"),
					 errdetail("%s", reason)));
	}
	else
	{
		if (--pool->ndisconnected == 0)
			ereport(LOG,
					(errmsg("consumer groups are connected to Kafka again")));
	}
	de_group_publish_state(group);
}

/*
 * A request of one of the partitions is finished.
 */
void
de_group_note_answer(DeGroup *group, const DePartitionAnswer *answer)
{
	group->figures.requests++;
	if (answer->acknowledged)
	{
		group->figures.events_delivered += answer->nevents;
		group->figures.last_delivered_at = GetCurrentTimestamp();
		if (group->failing && !group_has_failing_partition(group))
			group_note_recovery(group);
	}
	else
	{
		group->figures.failures++;
		de_group_report_error(group->status, answer->reason);
		group->blocked_shown = false;
		if (group->drain == GROUP_NOT_DRAINING)
			group_note_failure(group, answer->reason);
	}
}

/*
 * The handler accepts again all that it did not.
 */
static void
group_note_recovery(DeGroup *group)
{
	group->failing = false;
	if (group->failure_logged)
		ereport(LOG,
				(errmsg("handler of consumer group \"%s\" accepts events again",
						group->definition->name)));
	group->failure_logged = false;
	de_group_publish_state(group);
}

/*
 * It did not accept events.
 */
static void
group_note_failure(DeGroup *group, const char *reason)
{
	int64		now = group->pool->loop->now;

	if (!group->failing)
	{
		group->failing = true;
		de_group_publish_state(group);
	}

	/* one that fails again too soon is spoken of later, if it still fails then */
	if (group->failure_logged ||
		(group->failure_logged_at != 0 &&
		 now < group->failure_logged_at + FAILURE_LOG_INTERVAL_MS))
		return;
	group->failure_logged = true;
	group->failure_logged_at = now;
	ereport(LOG,
			(errmsg("handler of consumer group \"%s\" did not accept events, they will be sent again",
					group->definition->name),
			 errdetail("%s", reason)));
}

static bool
group_has_failing_partition(DeGroup *group)
{
	for (int i = 0; i < group->npartitions; i++)
	{
		if (de_partition_failing(group->partitions[i]))
			return true;
	}
	return false;
}

/*
 * Says once in the log that a partition takes nothing any more, and why.
 */
void
de_group_note_blocked(DeGroup *group, DePartition *partition)
{
	const char *reason = de_partition_take_notice(partition);

	if (reason == NULL)
		return;
	de_group_report_error(group->status, reason);
	group->blocked_shown = true;
	ereport(LOG,
			(errmsg("a partition of consumer group \"%s\" is blocked, nothing behind is delivered",
					group->definition->name),
			 errdetail("%s", reason)));
	de_group_publish_state(group);
}

DePartition *
de_group_blocked_partition(DeGroup *group)
{
	for (int i = 0; i < group->npartitions; i++)
	{
		if (de_partition_blocked(group->partitions[i]) != NULL)
			return group->partitions[i];
	}
	return NULL;
}

/*
 * Publishes the state if it has changed.
 */
void
de_group_publish_state(DeGroup *group)
{
	DeGroupState state;

	if (group->status == NULL)
		return;
	if (!group->wanted || group->stopping || group->phase == GROUP_CLOSING)
		state = DE_GROUP_STOPPING;
	else if (group->phase != GROUP_MEMBER)
		state = group->definition->invalid != NULL || group->failed_starts > 0 ?
			DE_GROUP_INVALID :
			DE_GROUP_STARTING;
	else if (group->disconnected && (!group->assigned || group->npartitions > 0))
		state = DE_GROUP_DISCONNECTED;
	else if (!group->assigned)
		state = DE_GROUP_JOINING;
	else if (de_group_blocked_partition(group) != NULL)
		state = DE_GROUP_BLOCKED;
	else
		state = group->failing ? DE_GROUP_RETRYING : DE_GROUP_RUNNING;

	if (state == group->reported_state)
		return;
	group->reported_state = state;
	de_group_report_state(group->status, state);
}

/*
 * Publishes the figures.
 */
void
de_group_publish_figures(DeGroup *group)
{
	DeGroupStatus *status = group->status;
	DePartition *blocked = de_group_blocked_partition(group);
	int64		position = 0;
	int64		lag = 0;
	int64		in_flight = 0;
	TimestampTz oldest = 0;

	if (status == NULL)
		return;

	/* another error has taken its place, but this one stays */
	if (blocked != NULL && !group->blocked_shown)
	{
		de_group_report_error(status, de_partition_blocked(blocked));
		group->blocked_shown = true;
	}
	for (int i = 0; i < group->npartitions; i++)
	{
		DePartitionFigures figures;

		de_partition_figures(group->partitions[i], &figures);
		if (figures.lag < 0)
			lag = -1;
		else if (lag >= 0)
			lag += figures.lag;
		position += Max(figures.position, 0);
		in_flight += figures.in_flight;
		if (figures.oldest != 0 && (oldest == 0 || figures.oldest < oldest))
			oldest = figures.oldest;
	}

	SpinLockAcquire(&status->mutex);
	status->partitions = group->npartitions;
	status->position = position;
	status->lag = lag;
	status->in_flight = in_flight;
	status->oldest_unacked_at = oldest;
	status->events_delivered = group->figures.events_delivered;
	status->requests = group->figures.requests;
	status->failures = group->figures.failures;
	status->last_delivered_at = group->figures.last_delivered_at;
	SpinLockRelease(&status->mutex);
}
