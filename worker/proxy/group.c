/*-------------------------------------------------------------------------
 *
 * group.c
 *		Runs one consumer group: joins, hands the assignment to partitions,
 *		gives it back, leaves.
 *
 * Everything is an event of the member, an answer, or the group's one timer.
 * Nothing waits here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/epoll.h>

#include "common/pg_prng.h"
#include "utils/memutils.h"

#include "extension/base/guc.h"
#include "worker/base/backoff.h"
#include "worker/life/worker.h"
#include "worker/proxy/group_internal.h"

/* Figures and commits. */
#define TICK_MS 1000

/* Between two members that join, so that brokers are not flooded. */
#define JOIN_INTERVAL_MS 20

/* For the broker to take our leave. */
#define CLOSE_WAIT_MS 1000

/* Between attempts to make a member. */
#define START_BACKOFF_MIN_MS 1000
#define START_BACKOFF_MAX_MS 60000

/*
 * What a partition may have of the memory for prefetched records.  The lower
 * end still works, the upper is more than the library needs to keep up: it is
 * what holds the total down where a topic has more partitions than expected.
 */
#define QUEUE_BYTES_MIN (64 * 1024)
#define QUEUE_BYTES_MAX (16 * 1024 * 1024)

/* How soon a topic that is created later shall be noticed. */
#define METADATA_REFRESH_MIN_MS 2000
#define METADATA_REFRESH_MAX_MS 10000

static void group_timer_expired(void *owner);
static void group_schedule(DeGroup *group, int64 due);
static void group_start(DeGroup *group);
static DeConsumer *group_create_consumer(DeGroup *group, char *error, int error_size);
static void group_start_later(DeGroup *group, const char *reason);
static void group_tick(DeGroup *group);
static void group_handle_event(DeGroup *group, const DeConsumerEvent *event);
static void group_take_assignment(DeGroup *group, const DeConsumerEvent *event);
static void group_drain(DeGroup *group, DeGroupDrainEvent event);
static void group_end_drain(DeGroup *group);
static void group_drop_partitions(DeGroup *group);
static void group_drop_consumer(DeGroup *group);

/*
 * Makes a group; see group.h.
 */
DeGroup *
de_group_create(DeGroupPool *pool, const DeGroupDefinition *definition)
{
	MemoryContext context = AllocSetContextCreate(de_worker->context, "durable_event group",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	DeGroup    *group = palloc0(sizeof(DeGroup));

	group->pool = pool;
	group->context = context;
	group->definition_context = AllocSetContextCreate(context, "durable_event group definition",
													  ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(group->definition_context);
	group->definition = de_definition_copy(definition);
	MemoryContextSwitchTo(old);

	group->phase = GROUP_WAITING;
	group->wanted = true;
	group->reported_state = DE_GROUP_STARTING;
	de_timer_init(&group->timer, group_timer_expired, group);
	group_schedule(group, pool->loop->now + 1);
	return group;
}

const char *
de_group_name(DeGroup *group)
{
	return group->definition->name;
}

bool
de_group_wanted(DeGroup *group)
{
	return group->wanted;
}

bool
de_group_gone(DeGroup *group)
{
	return group->phase == GROUP_GONE;
}

/*
 * Takes a changed definition; see group.h.
 */
void
de_group_redefine(DeGroup *group, const DeGroupDefinition *definition)
{
	const DeGroupDefinition *before = group->definition;
	MemoryContext before_context = group->definition_context;
	MemoryContext old;

	if (group->wanted && de_definition_equal(before, definition))
		return;

	group->definition_context = AllocSetContextCreate(group->context,
													  "durable_event group definition",
													  ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(group->definition_context);
	group->definition = de_definition_copy(definition);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < group->npartitions; i++)
		de_partition_redefine(group->partitions[i], group->definition);

	group->wanted = true;
	group->failed_starts = 0;
	group->start_logged = false;
	if (group->phase == GROUP_GONE)
		group->phase = GROUP_WAITING;
	if (group->phase == GROUP_WAITING)
		group_schedule(group, group->pool->loop->now + 1);
	else if (group->phase == GROUP_MEMBER && !group->stopping)
	{
		char		error[DE_KAFKA_ERROR_SIZE];

		if (!de_definition_fits(before, group->definition))
			de_group_restart(group);
		else if (!de_definition_same_topics(before, group->definition) &&
				 !de_consumer_subscribe(group->consumer, group->definition->topics,
										group->definition->ntopics, error, sizeof(error)))
			de_group_restart(group);
	}
	MemoryContextDelete(before_context);
}

/*
 * Leaves and joins anew.
 */
void
de_group_restart(DeGroup *group)
{
	de_group_stop(group);
	group->wanted = true;
	if (group->phase == GROUP_GONE)
		group->phase = GROUP_WAITING;
	if (group->phase == GROUP_WAITING)
		group_schedule(group, group->pool->loop->now + 1);
}

/*
 * Reads again what is blocked, by joining anew.
 */
void
de_group_retry_blocked(DeGroup *group)
{
	if (group->wanted && de_group_blocked_partition(group) != NULL)
		de_group_restart(group);
}

/*
 * Begins to leave.
 */
void
de_group_stop(DeGroup *group)
{
	group->wanted = false;
	if (group->phase == GROUP_WAITING)
	{
		de_timer_cancel(group->pool->loop->timers, &group->timer);
		group->phase = GROUP_GONE;
	}
	else if (group->phase == GROUP_MEMBER && !group->stopping)
	{
		group->stopping = true;
		de_group_begin_drain(group);
		group_drain(group, DE_DRAIN_BEGUN);
	}
	de_group_publish_state(group);
}

/*
 * Frees the group; see group.h.
 */
void
de_group_destroy(DeGroup *group)
{
	group_drop_consumer(group);
	de_timer_cancel(group->pool->loop->timers, &group->timer);
	if (group->status != NULL)
		de_group_status_release(group->status);
	MemoryContextDelete(group->context);
}

/*
 * The timer stands for whatever the phase waits for.
 */
static void
group_timer_expired(void *owner)
{
	DeGroup    *group = owner;

	switch (group->phase)
	{
		case GROUP_WAITING:
			group_start(group);
			break;
		case GROUP_MEMBER:
			if (group->drain != GROUP_NOT_DRAINING)
				group_drain(group, DE_DRAIN_TIMEOUT);
			else
				group_tick(group);
			break;
		case GROUP_CLOSING:
			/* the broker does not answer: it will find out by itself */
			group_drop_consumer(group);
			break;
		case GROUP_GONE:
			break;
	}
}

static void
group_schedule(DeGroup *group, int64 due)
{
	de_timer_set(group->pool->loop->timers, &group->timer, due);
}

/*
 * Makes the member, if the group can run.
 */
static void
group_start(DeGroup *group)
{
	char		error[DE_KAFKA_ERROR_SIZE];

	if (group->status == NULL)
		group->status = de_group_status_claim(de_worker->dboid, group->definition->name);
	if (group->status == NULL)
	{
		snprintf(error, sizeof(error),
				 "durable_event.max_groups (%d) groups are running already", de_max_groups);
		group_start_later(group, error);
		return;
	}
	if (group->definition->invalid != NULL)
	{
		/* until the definition changes: no timer */
		if (!group->start_logged)
			ereport(LOG,
					(errmsg("consumer group \"%s\" cannot be run", group->definition->name),
					 errdetail("Its %s.", group->definition->invalid)));
		group->start_logged = true;
		de_group_report_error(group->status, group->definition->invalid);
		de_group_publish_state(group);
		return;
	}

	if (group->pool->loop->now < group->pool->next_join_at)
	{
		group_schedule(group, group->pool->next_join_at);
		return;
	}
	group->pool->next_join_at = group->pool->loop->now + JOIN_INTERVAL_MS;

	group->consumer = group_create_consumer(group, error, sizeof(error));
	if (group->consumer == NULL)
	{
		group_start_later(group, error);
		return;
	}
	group->phase = GROUP_MEMBER;
	group->failed_starts = 0;
	group->start_logged = false;
	de_group_publish_state(group);
	group_schedule(group, group->pool->loop->now + TICK_MS);
	ereport(DEBUG1,
			(errmsg_internal("consumer group \"%s\" joins", group->definition->name)));
}

/*
 * Makes the member and has its descriptor watched.  NULL with the reason.
 */
static DeConsumer *
group_create_consumer(DeGroup *group, char *error, int error_size)
{
	DeGroupPool *pool = group->pool;
	DeConsumerOptions options;
	struct epoll_event event;
	DeConsumer *consumer;
	int64		queue_bytes;

	/*
	 * The half of proxy_memory that is not for bodies, divided by the
	 * partitions there probably are: the library wants to know before it
	 * knows them, and a limit for all partitions of a member it has not.
	 */
	queue_bytes = (int64) de_proxy_memory * 1024 / 2 / Max(pool->ngroups, 1) /
		((int64) Max(group->definition->ntopics, 1) * de_topic_partitions);

	options.group_id = psprintf("%s%s", de_group_prefix, group->definition->name_utf8);
	options.topics = group->definition->topics;
	options.ntopics = group->definition->ntopics;
	options.from_latest = group->definition->from_latest;
	options.start_at_ms = group->definition->created_at_ms;
	options.queue_bytes = (int) Min(Max(queue_bytes, QUEUE_BYTES_MIN), QUEUE_BYTES_MAX);

	/* the brokers of hundreds of groups are asked no more often than those of a hundred */
	options.metadata_refresh_ms = Min(Max(pool->ngroups_everywhere * 25, METADATA_REFRESH_MIN_MS),
									  METADATA_REFRESH_MAX_MS);
	consumer = de_consumer_create(&options, error, error_size);
	if (consumer == NULL)
		return NULL;

	event.events = EPOLLIN;
	event.data.ptr = group;
	if (epoll_ctl(pool->loop->epoll_fd, EPOLL_CTL_ADD, de_consumer_fd(consumer), &event) < 0)
	{
		snprintf(error, error_size, "could not watch an event descriptor: %s", strerror(errno));
		de_consumer_destroy(consumer);
		return NULL;
	}
	return consumer;
}

/*
 * Tries again later.
 */
static void
group_start_later(DeGroup *group, const char *reason)
{
	int64		wait_ms;

	/* said once: it is the same for as long as nobody changes something */
	if (!group->start_logged)
		ereport(LOG,
				(errmsg("consumer group \"%s\" could not be started, it will be tried again",
						group->definition->name),
				 errdetail("%s.", reason),
				 group->status == NULL ?
					 errhint("You might need to increase durable_event.max_groups.") :
					 0));
	group->start_logged = true;
	group->failed_starts++;
	if (group->status != NULL)
		de_group_report_error(group->status, reason);
	de_group_publish_state(group);

	/* what keeps one group from starting keeps all: they must not try in step */
	wait_ms = de_backoff_ms(group->failed_starts, START_BACKOFF_MIN_MS, START_BACKOFF_MAX_MS,
							pg_prng_double(&pg_global_prng_state));
	group_schedule(group, group->pool->loop->now + wait_ms);
}

/*
 * What a member does each second: commit, tell, and look at its queue even if
 * nothing woke it, since Kafka takes a member for dead that does not.
 */
static void
group_tick(DeGroup *group)
{
	group_schedule(group, group->pool->loop->now + TICK_MS);
	de_group_run(group);
	if (group->phase != GROUP_MEMBER || group->drain != GROUP_NOT_DRAINING)
		return;
	de_group_commit_regularly(group);
	de_group_publish_figures(group);
}

/*
 * Serves events, then records.
 */
void
de_group_run(DeGroup *group)
{
	DeConsumerEvent event;

	while (group->consumer != NULL && de_consumer_next_event(group->consumer, &event))
		group_handle_event(group, &event);

	if (group->phase == GROUP_CLOSING && de_consumer_closed(group->consumer))
	{
		group_drop_consumer(group);
		return;
	}
	for (int i = 0; i < group->npartitions; i++)
	{
		de_partition_run(group->partitions[i]);
		de_group_note_blocked(group, group->partitions[i]);
	}
}

static void
group_handle_event(DeGroup *group, const DeConsumerEvent *event)
{
	switch (event->type)
	{
		case DE_CONSUMER_ASSIGN:
			group_take_assignment(group, event);
			break;

		case DE_CONSUMER_REVOKE:
			if (group->phase == GROUP_CLOSING)
				de_consumer_accept_revoke(group->consumer); /* drained before */
			else
			{
				group->revoking = true;
				if (group->drain == GROUP_NOT_DRAINING)
				{
					de_group_begin_drain(group);
					group_drain(group, DE_DRAIN_BEGUN);
				}
			}
			break;

		case DE_CONSUMER_LOST:
			group_drop_partitions(group);
			de_consumer_accept_revoke(group->consumer);
			group->assigned = false;
			group->revoking = false;
			if (group->drain != GROUP_NOT_DRAINING)
				group_end_drain(group);
			de_group_publish_state(group);
			break;

		case DE_CONSUMER_COMMITTED:
			de_group_note_committed(group, event);
			if (group->drain == GROUP_AWAITING_COMMITS)
				group_drain(group, DE_DRAIN_COMMITTED);
			break;

		case DE_CONSUMER_ERROR:
			de_group_report_error(group->status, event->notice.text);
			if (event->notice.fatal)
			{
				bool		wanted = group->wanted;

				group_drop_consumer(group);
				if (wanted)
					group_start_later(group, event->notice.text);
			}
			else if (event->notice.all_brokers_down &&
					 !(group->assigned && group->npartitions == 0))
				/* (with no partition nothing is missed, and no commit could tell of the end) */
				de_group_set_disconnected(group, true, event->notice.text);
			break;
	}
}

/*
 * Makes partitions of an assignment and starts fetching.
 */
static void
group_take_assignment(DeGroup *group, const DeConsumerEvent *event)
{
	int32		generation = de_consumer_generation(group->consumer);

	/* too late: it is revoked next */
	if (group->phase == GROUP_CLOSING)
	{
		de_consumer_accept_assign(group->consumer);
		return;
	}

	/* none is left over: a revoke came before; but if so, it would be lost */
	group_drop_partitions(group);

	group->partitions = MemoryContextAlloc(group->context,
										   sizeof(DePartition *) * Max(event->nsources, 1));
	for (int i = 0; i < event->nsources; i++)
	{
		group->partitions[i] = de_partition_create(group->pool->loop, group, &group->share,
												   group->definition, event->sources[i],
												   generation);
		group->npartitions++;
	}
	de_consumer_accept_assign(group->consumer);
	group->assigned = true;
	de_group_set_disconnected(group, false, NULL);
	de_group_publish_state(group);
	de_group_publish_figures(group);
	ereport(DEBUG1,
			(errmsg_internal("consumer group \"%s\" has %d partitions in generation %d",
							 group->definition->name, group->npartitions, generation)));
}

/*
 * Takes what became of a request.
 */
void
de_group_answered(DeGroup *group, DePartition *partition, const DePartitionAnswer *answer)
{
	de_group_note_answer(group, answer);
	if (group->drain != GROUP_NOT_DRAINING)
		group_drain(group, DE_DRAIN_ANSWER);
	else if (answer->acknowledged)
	{
		de_partition_run(partition);
		de_group_note_blocked(group, partition);
	}
}

/*
 * Goes on giving the partitions back.
 */
static void
group_drain(DeGroup *group, DeGroupDrainEvent event)
{
	if (de_group_drained(group, event))
		group_end_drain(group);
}

/*
 * The partitions go; to Kafka, or with us.
 */
static void
group_end_drain(DeGroup *group)
{
	group->drain = GROUP_NOT_DRAINING;

	/* the assignment outlives them, until it is revoked or closed: results still come */
	for (int i = 0; i < group->npartitions; i++)
		de_partition_detach(group->partitions[i]);
	group_drop_partitions(group);
	if (group->revoking)
	{
		group->revoking = false;
		group->assigned = false;
		de_consumer_accept_revoke(group->consumer);
	}
	if (group->stopping)
	{
		de_consumer_close(group->consumer);
		group->phase = GROUP_CLOSING;
		group_schedule(group, group->pool->loop->now + CLOSE_WAIT_MS);
	}
	else
		group_schedule(group, group->pool->loop->now + TICK_MS);
	de_group_publish_state(group);
	de_group_publish_figures(group);
}

static void
group_drop_partitions(DeGroup *group)
{
	for (int i = 0; i < group->npartitions; i++)
		de_partition_destroy(group->partitions[i]);
	if (group->partitions != NULL)
		pfree(group->partitions);
	group->partitions = NULL;
	group->npartitions = 0;
	group->failing = false;
}

/*
 * Lets the member go, whatever it is doing; the group starts anew if it is
 * wanted.
 */
static void
group_drop_consumer(DeGroup *group)
{
	group_drop_partitions(group);
	if (group->disconnected)
		group->pool->ndisconnected--;
	group->disconnected = false;
	if (group->consumer != NULL)
	{
		(void) epoll_ctl(group->pool->loop->epoll_fd, EPOLL_CTL_DEL,
						 de_consumer_fd(group->consumer), NULL);
		de_consumer_destroy(group->consumer);
	}
	group->consumer = NULL;
	group->assigned = false;
	group->revoking = false;
	group->stopping = false;
	group->drain = GROUP_NOT_DRAINING;
	de_timer_cancel(group->pool->loop->timers, &group->timer);
	group->phase = group->wanted ? GROUP_WAITING : GROUP_GONE;
	if (group->wanted)
		group_schedule(group, group->pool->loop->now + 1);
}
