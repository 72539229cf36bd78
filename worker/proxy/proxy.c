/*-------------------------------------------------------------------------
 *
 * proxy.c
 *		The proxy worker: runs consumer groups of one database, on the
 *		primary or on a hot standby.
 *
 * One thread, one wait set: the latch, the HTTP client's descriptor, and an
 * epoll descriptor that holds one eventfd for each group (a wait set cannot
 * lose an event once added, pitfall 3).  All waits of groups and partitions are
 * deadlines in one heap.
 *
 * The database is read, never written, in short transactions while nothing
 * else is done; none is open while the network is waited for (pitfall 9).
 * Offsets are in Kafka.  So nothing has to be stored at the end, and a crash
 * at any point means that what was not yet committed comes again.
 *
 * Any ERROR ends the process with exit code 1; the launcher starts it again.
 * Handles of the libraries are let go in an exit callback, which is registered
 * before the first of them exists and does not wait for the network.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "extension/base/clock.h"
#include "extension/base/config_change.h"
#include "extension/base/guc.h"
#include "worker/life/worker.h"
#include "worker/proxy/group.h"

/* Groups served in one turn of the loop. */
#define MAX_READY_GROUPS 128

/* Between attempts to read the registry. */
#define REGISTRY_RETRY_MS 1000

/* Commits and good-byes after the last answer, when we stop. */
#define STOP_EXTRA_MS 2000

/* For library threads to end, when we exit. */
#define TEARDOWN_WAIT_MS 1000

static DeProxy proxy;
static dlist_head groups;		/* of DeGroup */

/* What the members were made with; a change means new members. */
static char *used_bootstrap_servers;
static char *used_kafka_config;
static char *used_group_prefix;

static bool registry_known = false;
static DeRegistryState registry_state;
static bool was_in_recovery;
static int64 registry_retry_at; /* 0 = not to be read */

static void proxy_set_up(void);
static void proxy_raise_descriptor_limit(void);
static bool proxy_wait(WaitEventSet *set);
static void proxy_serve(void);
static void proxy_set_memory_limit(void);
static void proxy_note_settings(void);
static void proxy_apply_settings(void);
static void proxy_refresh_registry(bool reloaded);
static void proxy_log_state(const DeRegistry *registry);
static void proxy_apply_registry(const DeRegistry *registry);
static DeGroup *proxy_find_group(const char *name);
static void proxy_reap_groups(void);
static void proxy_stop(WaitEventSet *set);
static void proxy_at_exit(int code, Datum arg);

/*
 * Entry point; the argument is worker.c's.
 */
void
de_proxy_main(Datum main_arg)
{
	WaitEventSet *set;
	int			fds[2];

	de_worker_begin(DE_WORKER_PROXY, main_arg);
	proxy_set_up();
	fds[0] = de_http_fd(proxy.http);
	fds[1] = proxy.epoll_fd;
	set = de_worker_create_wait_set(lengthof(fds), fds);

	while (!de_worker_stopping())
	{
		bool		reloaded = proxy_wait(set);

		if (reloaded)
			proxy_apply_settings();
		proxy_serve();
		proxy_refresh_registry(reloaded);
		proxy_reap_groups();
	}
	proxy_stop(set);
	proc_exit(0);
}

static void
proxy_set_up(void)
{
	MemoryContext old = MemoryContextSwitchTo(de_worker->context);

	dlist_init(&groups);
	dlist_init(&proxy.starved);
	proxy.epoll_fd = -1;
	proxy.now = de_monotonic_ms();
	proxy.timers = pairingheap_allocate(de_timer_compare, NULL);
	proxy_set_memory_limit();
	proxy_note_settings();
	was_in_recovery = RecoveryInProgress();
	registry_retry_at = proxy.now;

	before_shmem_exit(proxy_at_exit, (Datum) 0);
	proxy_raise_descriptor_limit();
	proxy.http = de_http_create();
	proxy.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (proxy.epoll_fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create an epoll descriptor: %m")));
	MemoryContextSwitchTo(old);
}

/*
 * A group takes about a dozen descriptors; the usual soft limit would end at
 * 75 groups.  The server's own files are bounded by max_files_per_process,
 * which it has fitted to the limit before.
 */
static void
proxy_raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		ereport(LOG,
				(errmsg("could not raise the limit of open file descriptors: %m")));
}

/*
 * Waits until there is something to do; true if settings were reloaded.
 */
static bool
proxy_wait(WaitEventSet *set)
{
	int64		due = de_timer_next(proxy.timers);
	long		timeout = DE_MAX_WAIT_MS;
	bool		reloaded;

	if (due != 0)
		timeout = (long) Min(Max(due - de_monotonic_ms(), 0), DE_MAX_WAIT_MS);
	reloaded = de_worker_wait(set, timeout, "delivering events");
	proxy.now = de_monotonic_ms();
	return reloaded;
}

/*
 * Answers, events and records, deadlines.
 */
static void
proxy_serve(void)
{
	struct epoll_event ready[MAX_READY_GROUPS];
	DeHttpRequest *request;
	int			nready;

	/* answers first: what they acknowledge makes room for records */
	de_http_run(proxy.http);
	while ((request = de_http_next_finished(proxy.http)) != NULL)
		de_partition_finished(de_http_opaque(request));

	/* the rest, if there are more, keeps the descriptor readable */
	nready = epoll_wait(proxy.epoll_fd, ready, MAX_READY_GROUPS, 0);
	for (int i = 0; i < nready; i++)
	{
		CHECK_FOR_INTERRUPTS();
		de_group_run(ready[i].data.ptr);
	}
	de_timer_run(proxy.timers, proxy.now);
	de_partition_feed_starved(&proxy);
}

/*
 * Half of proxy_memory is for request bodies, the other for what the library
 * prefetches.
 */
static void
proxy_set_memory_limit(void)
{
	proxy.memory_limit = (Size) de_proxy_memory * 1024 / 2;
	proxy.memory_freed = true;
}

/*
 * Remembers the settings that members are made with.
 */
static void
proxy_note_settings(void)
{
	used_bootstrap_servers = MemoryContextStrdup(de_worker->context, de_bootstrap_servers);
	used_kafka_config = MemoryContextStrdup(de_worker->context, de_kafka_config);
	used_group_prefix = MemoryContextStrdup(de_worker->context, de_group_prefix);
}

/*
 * Takes changed settings.  Those not mentioned here are looked at when used.
 */
static void
proxy_apply_settings(void)
{
	bool		changed = strcmp(used_bootstrap_servers, de_bootstrap_servers) != 0 ||
		strcmp(used_kafka_config, de_kafka_config) != 0 ||
		strcmp(used_group_prefix, de_group_prefix) != 0;
	dlist_iter	iter;

	proxy_set_memory_limit();
	de_http_reload(proxy.http);
	if (!changed)
		return;

	pfree(used_bootstrap_servers);
	pfree(used_kafka_config);
	pfree(used_group_prefix);
	proxy_note_settings();
	dlist_foreach(iter, &groups)
	{
		DeGroup    *group = dlist_container(DeGroup, node, iter.cur);

		if (group->wanted)
			de_group_restart(group);
	}
}

/*
 * Reads the registry again if it may have changed.
 */
static void
proxy_refresh_registry(bool reloaded)
{
	DeRegistry *registry;
	bool		changed = reloaded;

	/* each of them, so that none is left to be seen at the next turn */
	changed |= de_config_changed(DE_CONFIG_RELAY_STATE);
	changed |= de_config_changed(DE_CONFIG_EVENT_TYPE);
	changed |= de_config_changed(DE_CONFIG_CONSUMER_GROUP);
	if (was_in_recovery && !RecoveryInProgress())
	{
		was_in_recovery = false;
		changed = true;
	}
	if (changed && registry_retry_at == 0)
		registry_retry_at = proxy.now;
	if (registry_retry_at == 0 || registry_retry_at > proxy.now)
		return;

	registry = de_registry_read(de_worker->index, de_proxy_workers);
	if (registry == NULL)
	{
		registry_retry_at = proxy.now + REGISTRY_RETRY_MS;
		return;
	}
	registry_retry_at = 0;
	proxy_log_state(registry);
	proxy_apply_registry(registry);
	MemoryContextDelete(registry->context);
}

/*
 * Says why groups run or not, when that has changed.
 */
static void
proxy_log_state(const DeRegistry *registry)
{
	if (registry_known && registry_state == registry->state)
		return;
	registry_known = true;
	registry_state = registry->state;

	switch (registry->state)
	{
		case DE_REGISTRY_NO_EXTENSION:
			ereport(DEBUG1,
					(errmsg_internal("no consumer groups are run: the extension is not there")));
			break;
		case DE_REGISTRY_UNCONFIGURED:
			ereport(LOG,
					(errmsg("no consumer groups are run until %s is set",
							de_source[0] == '\0' ? "durable_event.source" :
												   "durable_event.bootstrap_servers")));
			break;
		case DE_REGISTRY_NOT_ADOPTED:
			if (registry->stored_source == NULL)
				ereport(LOG,
						(errmsg("no consumer groups are run until a relay has stored durable_event.source in this database")));
			else if (registry->copied)
				ereport(LOG,
						(errmsg("no consumer groups are run because this database is a copy of another one"),
						 errhint("Call durable_event.adopt() if it shall go on as a source of its own.")));
			else
				ereport(LOG,
						(errmsg("no consumer groups are run because durable_event.source is \"%s\" but the database belongs to \"%s\"",
								de_source, registry->stored_source),
						 errhint("Call durable_event.adopt() if this server is to take it over.")));
			break;
		case DE_REGISTRY_READY:
			break;
	}
}

/*
 * Starts, changes and stops groups until they are those of the registry.
 */
static void
proxy_apply_registry(const DeRegistry *registry)
{
	bool		ready = registry->state == DE_REGISTRY_READY;
	int			started = 0;
	int			stopped = 0;
	List	   *keep = NIL;
	dlist_mutable_iter iter;
	ListCell   *lc;

	proxy.ngroups = list_length(registry->groups);
	proxy.ngroups_everywhere = registry->total;
	proxy.memory_freed = true;	/* shares have changed */
	if (ready)
	{
		foreach(lc, registry->groups)
		{
			const DeGroupDefinition *definition = lfirst(lc);
			DeGroup    *group = proxy_find_group(definition->name);

			if (group == NULL || !group->wanted)
				started++;
			if (group == NULL)
			{
				group = de_group_create(&proxy, definition);
				dlist_push_tail(&groups, &group->node);
			}
			else
				de_group_redefine(group, definition);
			keep = lappend(keep, group);
		}
	}

	dlist_foreach_modify(iter, &groups)
	{
		DeGroup    *group = dlist_container(DeGroup, node, iter.cur);

		if (group->wanted && !list_member_ptr(keep, group))
		{
			de_group_stop(group);
			stopped++;
		}
	}
	if (started + stopped > 0)
		ereport(LOG,
				(errmsg("running %d consumer groups (%d started, %d stopped)",
						list_length(keep), started, stopped)));
}

static DeGroup *
proxy_find_group(const char *name)
{
	dlist_iter	iter;

	dlist_foreach(iter, &groups)
	{
		DeGroup    *group = dlist_container(DeGroup, node, iter.cur);

		if (strcmp(group->definition->name, name) == 0)
			return group;
	}
	return NULL;
}

/*
 * Frees the groups that have left.  Only here, so that a group found earlier
 * in a turn of the loop is still there.
 */
static void
proxy_reap_groups(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &groups)
	{
		DeGroup    *group = dlist_container(DeGroup, node, iter.cur);

		if (group->phase != DE_GROUP_PHASE_GONE)
			continue;
		dlist_delete(&group->node);
		de_group_destroy(group);
	}
}

/*
 * Leaves all groups in good order, as far as the time allows; not at all if a
 * DDL command waits for us to be out of its database.
 */
static void
proxy_stop(WaitEventSet *set)
{
	int64		until = de_monotonic_ms() + de_shutdown_timeout + STOP_EXTRA_MS;
	dlist_iter	iter;

	if (de_worker_held())
		return;
	dlist_foreach(iter, &groups)
		de_group_stop(dlist_container(DeGroup, node, iter.cur));
	proxy_reap_groups();
	while (!dlist_is_empty(&groups) && proxy.now < until && !de_worker_held())
	{
		(void) proxy_wait(set);
		proxy_serve();
		proxy_reap_groups();
	}
}

/*
 * before_shmem_exit: lets all handles go.  What was acknowledged and not yet
 * committed comes again.
 */
static void
proxy_at_exit(int code, Datum arg)
{
	while (!dlist_is_empty(&groups))
	{
		DeGroup    *group = dlist_container(DeGroup, node, dlist_pop_head_node(&groups));

		de_group_destroy(group);
	}
	if (proxy.http != NULL)
		de_http_destroy(proxy.http);
	proxy.http = NULL;
	(void) de_kafka_teardown_wait(TEARDOWN_WAIT_MS);
}
