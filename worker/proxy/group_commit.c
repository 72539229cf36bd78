/*-------------------------------------------------------------------------
 *
 * group_commit.c
 *		A consumer group's commits.
 *
 * The offsets come from the partitions alone.  A failed commit loses nothing:
 * the value is sent again with the next tick.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "extension/base/kill_point.h"
#include "worker/proxy/group_internal.h"

/*
 * Commits what the partitions have, in one request.
 */
void
de_group_commit(DeGroup *group, DeCommitMode mode)
{
	bool		any = false;

	for (int i = 0; i < group->npartitions; i++)
		any |= de_partition_note_commit(group->partitions[i], mode);
	if (any)
	{
		DE_KILL_POINT("proxy-before-commit");
		de_consumer_send_commits(group->consumer);
		DE_KILL_POINT("proxy-after-commit");
	}
}

void
de_group_commit_regularly(DeGroup *group)
{
	int64		now = group->pool->loop->now;
	bool		probe = group->disconnected && now >= group->probe_at;

	if (probe)
		group->probe_at = now + DE_GROUP_PROBE_INTERVAL_MS;
	de_group_commit(group, probe ? DE_COMMIT_PROBE : DE_COMMIT_CHANGED);
}

/*
 * Takes the result for one partition.
 */
void
de_group_note_committed(DeGroup *group, const DeConsumerEvent *event)
{
	DePartition *partition = de_source_owner(event->source);
	bool		ok = event->outcome == DE_KAFKA_OK;

	/* comes late: the drain did not wait for it any longer, the partition is gone */
	if (partition == NULL)
		return;

	if (ok)
		DE_KILL_POINT("proxy-after-confirmation");
	de_partition_committed(partition, event->offset, ok);
	if (ok)
		de_group_set_disconnected(group, false, NULL);
	else
		de_group_report_error(group->status, event->notice.text);
}

bool
de_group_committing(DeGroup *group)
{
	for (int i = 0; i < group->npartitions; i++)
	{
		if (de_partition_committing(group->partitions[i]))
			return true;
	}
	return false;
}
