/*-------------------------------------------------------------------------
 *
 * group_drain.c
 *		What happens before a consumer group's partitions go.
 *
 * Whether Kafka revokes the assignment or we want to leave, the way is the
 * same: the partitions take and send nothing more; answers under way are
 * awaited for at most shutdown_timeout; what they acknowledged is committed,
 * awaited for at most COMMIT_WAIT_MS; then the partitions go.  Meanwhile the
 * loop serves all other groups: every wait here is a deadline of the timer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "extension/base/guc.h"
#include "worker/proxy/group_internal.h"

/* For the broker to confirm what is committed before partitions go. */
#define COMMIT_WAIT_MS 1000

static void drain_set_deadline(DeGroup *group, int64 wait_ms);
static bool drain_awaits_answers(DeGroup *group);

/*
 * Stops the partitions.
 */
void
de_group_begin_drain(DeGroup *group)
{
	for (int i = 0; i < group->npartitions; i++)
		de_partition_quiesce(group->partitions[i]);
	group->drain = GROUP_AWAITING_ANSWERS;
	drain_set_deadline(group, de_shutdown_timeout + 1);
}

/*
 * Goes on; see group_internal.h.
 */
bool
de_group_drained(DeGroup *group, DeGroupDrainEvent event)
{
	if (group->drain == GROUP_AWAITING_ANSWERS)
	{
		if (event != DE_DRAIN_TIMEOUT && drain_awaits_answers(group))
			return false;
		group->drain = GROUP_AWAITING_COMMITS;
		drain_set_deadline(group, COMMIT_WAIT_MS);
		de_group_commit(group, DE_COMMIT_LAST);
	}
	else if (event == DE_DRAIN_TIMEOUT)
		return true;
	else if (event == DE_DRAIN_ANSWER)
	{
		/* was not waited for any longer, and came after all */
		de_group_commit(group, DE_COMMIT_LAST);
	}
	return !de_group_committing(group);
}

static void
drain_set_deadline(DeGroup *group, int64 wait_ms)
{
	DeLoop	   *loop = group->pool->loop;

	de_timer_set(loop->timers, &group->timer, loop->now + wait_ms);
}

static bool
drain_awaits_answers(DeGroup *group)
{
	for (int i = 0; i < group->npartitions; i++)
	{
		if (de_partition_busy(group->partitions[i]))
			return true;
	}
	return false;
}
