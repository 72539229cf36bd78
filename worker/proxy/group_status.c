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

#include "worker/proxy/group.h"

/* A failing handler is not spoken of again before. */
#define FAILURE_LOG_INTERVAL_MS 60000

static bool group_has_failing_partition(DeGroup *group);

/*
 * Notes that Kafka is away from, or back to, this group.  Logged for the
 * first group that loses it, and when the last one has it again.
 */
void
de_group_set_disconnected(DeGroup *group, bool disconnected, const char *reason)
{
	DeProxy    *proxy = group->proxy;

	if (group->disconnected == disconnected)
		return;
	group->disconnected = disconnected;
	group->probe_at = proxy->now + DE_GROUP_PROBE_INTERVAL_MS;
	if (disconnected)
	{
		if (proxy->ndisconnected++ == 0)
			ereport(LOG,
					(errmsg("consumer groups have lost their connection to Kafka"),
					 errdetail("%s", reason)));
	}
	else
	{
		if (--proxy->ndisconnected == 0)
			ereport(LOG,
					(errmsg("consumer groups are connected to Kafka again")));
	}
	de_group_publish_state(group);
}

/*
 * A request of one of the partitions was acknowledged.
 */
void
de_group_note_delivered(DeGroup *group, int nevents)
{
	group->requests++;
	group->events_delivered += nevents;
	group->last_delivered_at = GetCurrentTimestamp();

	if (group->failing && !group_has_failing_partition(group))
	{
		group->failing = false;
		if (group->failure_logged)
			ereport(LOG,
					(errmsg("handler of consumer group \"%s\" accepts events again",
							group->definition->name)));
		group->failure_logged = false;
		de_group_publish_state(group);
	}
	if (group->drain != DE_GROUP_NOT_DRAINING)
		de_group_continue_drain(group, false);
}

/*
 * A request of one of the partitions was not.
 */
void
de_group_note_failed(DeGroup *group, const char *reason)
{
	int64		now = group->proxy->now;

	group->requests++;
	group->failures++;
	de_group_report_error(group->status, reason);
	if (group->drain != DE_GROUP_NOT_DRAINING)
	{
		de_group_continue_drain(group, false);
		return;
	}
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
		DePartition *partition = group->partitions[i];

		if (partition->has_body &&
			(partition->attempt > 1 || partition->state == DE_PARTITION_BACKOFF))
			return true;
	}
	return false;
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
	if (!group->wanted || group->stopping || group->phase == DE_GROUP_PHASE_CLOSING)
		state = DE_GROUP_STOPPING;
	else if (group->phase != DE_GROUP_PHASE_MEMBER)
		state = group->definition->invalid != NULL || group->failed_starts > 0 ?
			DE_GROUP_INVALID :
			DE_GROUP_STARTING;
	else if (group->disconnected && (!group->assigned || group->npartitions > 0))
		state = DE_GROUP_DISCONNECTED;
	else if (!group->assigned)
		state = DE_GROUP_JOINING;
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
	int64		position = 0;
	int64		lag = 0;
	int64		in_flight = 0;
	TimestampTz oldest = 0;

	if (status == NULL)
		return;
	for (int i = 0; i < group->npartitions; i++)
	{
		DePartition *partition = group->partitions[i];
		int64		next = de_partition_position(partition);
		int64		low;
		int64		high;

		de_source_watermarks(partition->source, &low, &high);
		if (next < 0 || high < 0)
			lag = -1;
		else if (lag >= 0)
			lag += Max(high - next, 0);
		position += Max(next, 0);
		if (partition->request != NULL)
			in_flight += partition->body.nevents;
		if (partition->oldest != 0 && (oldest == 0 || partition->oldest < oldest))
			oldest = partition->oldest;
	}

	SpinLockAcquire(&status->mutex);
	status->partitions = group->npartitions;
	status->position = position;
	status->lag = lag;
	status->in_flight = in_flight;
	status->oldest_unacked_at = oldest;
	status->events_delivered = group->events_delivered;
	status->requests = group->requests;
	status->failures = group->failures;
	status->last_delivered_at = group->last_delivered_at;
	SpinLockRelease(&status->mutex);
}
