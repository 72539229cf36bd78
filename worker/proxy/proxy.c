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
#include "nodes/pg_list.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "extension/base/clock.h"
#include "extension/base/config_change.h"
#include "extension/base/guc.h"
#include "worker/base/settings.h"
#include "worker/life/worker.h"
#include "worker/proxy/group.h"
#include "worker/proxy/registry.h"

/* Groups served in one turn of the loop. */
#define MAX_READY_GROUPS 128

/* Between attempts to read the registry. */
#define REGISTRY_RETRY_MS 1000

/* Commits and good-byes after the last answer, when we stop. */
#define STOP_EXTRA_MS 2000

/* For library threads to end, when we exit. */
#define TEARDOWN_WAIT_MS 1000

static DeLoop loop;
static DeGroupPool pool;
static List *groups = NIL;		/* of DeGroup, in de_worker->context */

/* What the members are made with; a change means new members. */
static const DeSetting member_settings[] = {
	DE_TEXT_SETTING(de_bootstrap_servers),
	DE_TEXT_SETTING(de_kafka_config),
	DE_TEXT_SETTING(de_group_prefix)
};
static DeSettings *used_member_settings;

/* What may have blocked a partition. */
static const DeSetting limit_settings[] = {
	DE_NUMBER_SETTING(de_max_record_size),
	DE_NUMBER_SETTING(de_max_event_size)
};
static DeSettings *used_limit_settings;

static bool registry_known = false;
static DeRegistryState registry_state;
static bool was_in_recovery;
static int64 registry_retry_at; /* 0 = not to be read */

static void proxy_set_up(void);
static void proxy_raise_descriptor_limit(void);
static bool proxy_wait(WaitEventSet *set);
static void proxy_serve(void);
static void proxy_http_options(DeHttpOptions *options);
static void proxy_set_memory_limit(void);
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
	fds[0] = de_http_fd(loop.http);
	fds[1] = loop.epoll_fd;
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
	DeHttpOptions options;

	pool.loop = &loop;
	de_budget_init(&loop.bodies);
	loop.epoll_fd = -1;
	loop.now = de_monotonic_ms();
	loop.timers = pairingheap_allocate(de_timer_compare, NULL);
	proxy_set_memory_limit();
	used_member_settings = de_settings_note(de_worker->context, member_settings,
											lengthof(member_settings));
	used_limit_settings = de_settings_note(de_worker->context, limit_settings,
										   lengthof(limit_settings));
	was_in_recovery = RecoveryInProgress();
	registry_retry_at = loop.now;

	before_shmem_exit(proxy_at_exit, (Datum) 0);
	proxy_raise_descriptor_limit();
	proxy_http_options(&options);
	loop.http = de_http_create(&options);
	loop.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop.epoll_fd < 0)
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
	int64		due = de_timer_next(loop.timers);
	long		timeout = DE_MAX_WAIT_MS;
	bool		reloaded;

	if (due != 0)
		timeout = (long) Min(Max(due - de_monotonic_ms(), 0), DE_MAX_WAIT_MS);
	reloaded = de_worker_wait(set, timeout, "delivering events");
	loop.now = de_monotonic_ms();
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
	de_http_run(loop.http);
	while ((request = de_http_next_finished(loop.http)) != NULL)
	{
		DePartition *partition = de_http_opaque(request);
		DePartitionAnswer answer;

		de_partition_finished(partition, &answer);
		de_group_answered(de_partition_owner(partition), partition, &answer);
	}

	/* the rest, if there are more, keeps the descriptor readable */
	nready = epoll_wait(loop.epoll_fd, ready, MAX_READY_GROUPS, 0);
	for (int i = 0; i < nready; i++)
	{
		CHECK_FOR_INTERRUPTS();
		de_group_run(ready[i].data.ptr);
	}
	de_timer_run(loop.timers, loop.now);
	de_budget_serve(&loop.bodies);
}

/*
 * How handlers are called.
 */
static void
proxy_http_options(DeHttpOptions *options)
{
	options->hosts = de_handler_hosts;
	options->hosts_setting = "durable_event.handler_hosts";
	options->ca_file = de_handler_ca_file;
	options->cert_file = de_handler_cert_file;
	options->key_file = de_handler_key_file;
}

/*
 * Half of proxy_memory is for request bodies, the other for what the library
 * prefetches.
 */
static void
proxy_set_memory_limit(void)
{
	de_budget_resize(&loop.bodies, (Size) de_proxy_memory * 1024 / 2, pool.ngroups);
}

/*
 * Takes changed settings.  Those not mentioned here are looked at when used.
 */
static void
proxy_apply_settings(void)
{
	DeHttpOptions options;
	ListCell   *lc;

	proxy_set_memory_limit();
	proxy_http_options(&options);
	de_http_reload(loop.http, &options);
	if (de_settings_changed(used_limit_settings))
	{
		foreach(lc, groups)
			de_group_retry_blocked(lfirst(lc));
	}
	if (de_settings_changed(used_member_settings))
	{
		foreach(lc, groups)
		{
			if (de_group_wanted(lfirst(lc)))
				de_group_restart(lfirst(lc));
		}
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
		registry_retry_at = loop.now;
	if (registry_retry_at == 0 || registry_retry_at > loop.now)
		return;

	registry = de_registry_read(de_worker->index, de_proxy_workers);
	if (registry == NULL)
	{
		registry_retry_at = loop.now + REGISTRY_RETRY_MS;
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
								de_bootstrap_servers[0] == '\0' ? "durable_event.bootstrap_servers" :
																  "a well-formed durable_event.signing_secret")));
			break;
		case DE_REGISTRY_NOT_ADOPTED:
			if (registry->identity == DE_IDENTITY_NEW)
				ereport(LOG,
						(errmsg("no consumer groups are run until a relay has stored durable_event.source in this database")));
			else if (registry->identity == DE_IDENTITY_COPIED)
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
	ListCell   *lc;

	pool.ngroups = list_length(registry->groups);
	pool.ngroups_everywhere = registry->total;
	proxy_set_memory_limit();	/* shares have changed */
	if (ready)
	{
		foreach(lc, registry->groups)
		{
			const DeGroupDefinition *definition = lfirst(lc);
			DeGroup    *group = proxy_find_group(definition->name);

			if (group == NULL || !de_group_wanted(group))
				started++;
			if (group == NULL)
			{
				MemoryContext old = MemoryContextSwitchTo(de_worker->context);

				group = de_group_create(&pool, definition);
				groups = lappend(groups, group);
				MemoryContextSwitchTo(old);
			}
			else
				de_group_redefine(group, definition);
			keep = lappend(keep, group);
		}
	}

	foreach(lc, groups)
	{
		DeGroup    *group = lfirst(lc);

		if (de_group_wanted(group) && !list_member_ptr(keep, group))
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
	ListCell   *lc;

	foreach(lc, groups)
	{
		if (strcmp(de_group_name(lfirst(lc)), name) == 0)
			return lfirst(lc);
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
	ListCell   *lc;

	foreach(lc, groups)
	{
		DeGroup    *group = lfirst(lc);

		if (!de_group_gone(group))
			continue;
		groups = foreach_delete_current(groups, lc);
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
	ListCell   *lc;

	if (de_worker_held())
		return;
	foreach(lc, groups)
		de_group_stop(lfirst(lc));
	proxy_reap_groups();
	while (groups != NIL && loop.now < until && !de_worker_held())
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
	ListCell   *lc;

	foreach(lc, groups)
		de_group_destroy(lfirst(lc));
	groups = NIL;
	if (loop.http != NULL)
		de_http_destroy(loop.http);
	loop.http = NULL;
	(void) de_kafka_teardown_wait(TEARDOWN_WAIT_MS);
}
