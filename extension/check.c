/*-------------------------------------------------------------------------
 *
 * check.c
 *		check(): what newcomers and operators get wrong, with what to do
 *		about it.
 *
 * It does not talk to Kafka: a backend never loads a connection; what is said
 * about brokers is what the relay last reported.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/resource.h>

#include "catalog/pg_type_d.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/bgworker_internals.h"
#include "utils/builtins.h"

#include "extension/base/catalog.h"
#include "extension/base/identity.h"
#include "extension/base/shmem.h"
#include "extension/outbox/horizon.h"
#include "extension/rows.h"
#include "extension/stats.h"

PG_FUNCTION_INFO_V1(durable_event_check);

/* descriptors and threads that one consumer group takes with a small cluster; see reference */
#define DESCRIPTORS_PER_GROUP 14

/* A commit takes as long as its events take to be inserted, 2 microseconds each. */
#define HORIZON_WARN_MS 5000

/* Collects the rows of check(). */
typedef struct Check
{
	ReturnSetInfo *rsinfo;
} Check;

static void check_row(Check *check, const char *name, const char *status, const char *detail,
					  const char *hint);
static bool check_extension(Check *check);
static void check_settings(Check *check, bool *served);
static void check_relay(Check *check, bool served);
static const char *check_source_mismatch(void);
static void check_horizon(Check *check);
static void check_groups(Check *check);
static void check_limits(Check *check, bool served);
static void check_publications(Check *check);
static int64 count_rows(const char *query);

/*
 * SQL: check() returns a row for each thing that newcomers and operators get
 * wrong, with what to do about it.
 */
Datum
durable_event_check(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Check		check;
	bool		served = true;

	check.rsinfo = de_rows_begin(fcinfo, lengthof(types), types);

	if (de_shared == NULL)
	{
		check_row(&check, "preloaded", "error",
				  "The library is not in shared_preload_libraries.",
				  "Add durable_event to shared_preload_libraries in postgresql.conf and restart the server.");
		return (Datum) 0;
	}
	check_row(&check, "preloaded", "ok", NULL, NULL);
	if (!check_extension(&check))
		return (Datum) 0;
	check_settings(&check, &served);
	check_relay(&check, served);
	check_horizon(&check);
	check_groups(&check);
	check_limits(&check, served);
	check_publications(&check);
	return (Datum) 0;
}

/*
 * Adds a row.
 */
static void
check_row(Check *check, const char *name, const char *status, const char *detail, const char *hint)
{
	Datum		values[4];
	bool		nulls[4] = {false};

	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(status);
	nulls[2] = detail == NULL;
	values[2] = detail == NULL ? (Datum) 0 : CStringGetTextDatum(detail);
	nulls[3] = hint == NULL;
	values[3] = hint == NULL ? (Datum) 0 : CStringGetTextDatum(hint);
	tuplestore_putvalues(check->rsinfo->setResult, check->rsinfo->setDesc, values, nulls);
}

/*
 * Whether the extension is where it should be; without that nothing else can
 * be looked at.
 */
static bool
check_extension(Check *check)
{
	const char *hint;
	const char *problem = de_extension_problem(&hint);

	if (problem == NULL)
		check_row(check, "extension", "ok", NULL, NULL);
	else
		check_row(check, "extension", "error", problem, hint);
	return problem == NULL;
}

/*
 * Settings without which nothing is sent; *served = this database is listed.
 */
static void
check_settings(Check *check, bool *served)
{
	char	   *dbname = get_database_name(MyDatabaseId);

	*served = de_database_is_listed(dbname);
	if (*served)
		check_row(check, "database listed", "ok", NULL, NULL);
	else
		check_row(check, "database listed", "error",
				  psprintf("Database \"%s\" is not in durable_event.databases: its events are kept, but not sent.",
						   dbname),
				  psprintf("Add %s to durable_event.databases in postgresql.conf and reload.",
						   quote_identifier(dbname)));
	if (de_signing_secrets_are_usable())
		check_row(check, "signing_secret", "ok", NULL, NULL);
	else
		check_row(check, "signing_secret", "error",
				  "A signing secret could not be read at the start of the server, so proxies send nothing.",
				  "See durable_event.signing_secret and durable_event.signing_secret_previous in postgresql.conf: \"whsec_\" and base64, or any text that does not begin so. Then reload.");
	if (de_source[0] != '\0')
		check_row(check, "source", "ok", psprintf("The source is \"%s\".", de_source), NULL);
	else
		check_row(check, "source", "error", "durable_event.source is not set.",
				  "Set durable_event.source to a URI of this event stream, such as /myapp/production, and reload.");
	if (de_bootstrap_servers[0] != '\0')
		check_row(check, "bootstrap_servers", "ok", NULL, NULL);
	else
		check_row(check, "bootstrap_servers", "error",
				  "durable_event.bootstrap_servers is not set.",
				  "Set durable_event.bootstrap_servers to host:port of a Kafka broker and reload.");
}

/*
 * The relay of this database and what it says.
 */
static void
check_relay(Check *check, bool served)
{
	DeDatabase *db = de_database_get(MyDatabaseId);
	DeRelayReport report;
	const char *detail;

	if (RecoveryInProgress())
	{
		check_row(check, "relay", "ok", "This server is a standby; its relay starts at promotion.", NULL);
		return;
	}
	if (!served)
		return;
	de_relay_get_report(db, &report);
	detail = report.error.at != 0 ? report.error.text : NULL;
	switch (report.state)
	{
		case DE_RELAY_RUNNING:
			check_row(check, "relay", "ok", psprintf("Running with pid %d.", report.pid), NULL);
			break;
		case DE_RELAY_STARTING:
		case DE_RELAY_NO_EXTENSION:
			check_row(check, "relay", "warning", "The relay is starting.",
					  "Call check() again in a few seconds.");
			break;
		case DE_RELAY_UNCONFIGURED:
			check_row(check, "relay", "error",
					  detail != NULL ? detail : "The relay waits for its settings.",
					  "Set durable_event.source and durable_event.bootstrap_servers and reload.");
			break;
		case DE_RELAY_SOURCE_MISMATCH:
			check_row(check, "relay", "error",
					  check_source_mismatch(),
					  "If this database is a copy, give it a durable_event.source of its own; then call durable_event.adopt() to go on under it.");
			break;
		case DE_RELAY_PAUSED:
			check_row(check, "relay", "warning", "The relay is paused.",
					  "Call durable_event.resume_relay().");
			break;
		case DE_RELAY_CONNECTING:
			check_row(check, "relay", "error",
					  detail != NULL ? detail : "Kafka has not answered yet.",
					  psprintf("If the detail names an event or a topic, see what Kafka has against it; else check that the brokers at durable_event.bootstrap_servers (%s) are running and can be reached from this server.",
							   de_bootstrap_servers));
			break;
		case DE_RELAY_STOPPED:
			if (!de_relay)
				check_row(check, "relay", "warning", "durable_event.relay is off.",
						  "Set durable_event.relay to on and reload.");
			else if (pg_atomic_read_u32(&de_shared->launcher.pid) == 0)
				check_row(check, "relay", "error", "The launcher is not running.",
						  "See the server log; it is started again every 5 seconds.");
			else
				check_row(check, "relay", "error", "No relay is running in this database.",
						  "It needs a background worker slot: see max_worker_processes and the server log.");
			break;
	}
	if (report.pid != 0 && report.outbox_error.at != 0)
		check_row(check, "outbox", "error", report.outbox_error.text,
				  "Free disk space, or end the session that holds the lock; the relay tries again by itself and sends meanwhile what it can.");
	else if (report.pid != 0)
		check_row(check, "outbox", "ok", NULL, NULL);
}

/*
 * Says how the stored source differs from the configured one.
 */
static const char *
check_source_mismatch(void)
{
	DeRelayStateRow row;

	de_state_read(&row);
	if (row.identity == DE_IDENTITY_COPIED)
		return "The source was stored in another database: this one is a copy of it.";
	return psprintf("The stored source is \"%s\", the configured one is \"%s\".",
					row.source != NULL ? row.source : "", de_source);
}

/*
 * A commit that holds back all later ones.
 */
static void
check_horizon(Check *check)
{
	int			pid;
	int64		held_ms;

	if (de_horizon_holder(de_database_get(MyDatabaseId), &pid, &held_ms) &&
		held_ms >= HORIZON_WARN_MS)
		check_row(check, "commit", "warning",
				  psprintf("The commit of process %d has been under way for " INT64_FORMAT " seconds and holds back the events of all later ones.",
						   pid, held_ms / 1000),
				  psprintf("See wait_event of pid %d in pg_stat_activity. If it waits for a standby: synchronous_standby_names and synchronous_commit (remote_apply waits for replay); if it is writing: durable_event.max_events_per_transaction.",
						   pid));
	else
		check_row(check, "commit", "ok", NULL, NULL);
}

/*
 * Consumer groups of this server that have come to a stop before a record.
 */
static void
check_groups(Check *check)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < de_shared->max_groups; i++)
	{
		DeGroupStatus *status = &de_shared->groups[i];
		char		name[DE_GROUP_NAME_SIZE];
		bool		blocked;

		if (status->dboid != MyDatabaseId)
			continue;
		SpinLockAcquire(&status->mutex);
		blocked = status->dboid == MyDatabaseId && status->state == DE_GROUP_BLOCKED;
		strlcpy(name, status->name, sizeof(name));
		SpinLockRelease(&status->mutex);
		if (blocked)
			appendStringInfo(&names, "%s\"%s\"", names.len > 0 ? ", " : "", name);
	}
	if (names.len > 0)
		check_row(check, "consumer groups", "error",
				  psprintf("A partition is blocked by a record that cannot be delivered, in %s.",
						   names.data),
				  "See last_error in durable_event.stat_group, and durable_event.max_record_size.");
	else
		check_row(check, "consumer groups", "ok", NULL, NULL);
}

/*
 * Worker slots, wal_level, descriptors, registered groups nobody runs.
 */
static void
check_limits(Check *check, bool served)
{
	int			databases = list_length(de_listed_databases());
	int			needed = 1 + databases * (1 + (de_proxy != DE_PROXY_OFF ? de_proxy_workers : 0));
	int64		groups = count_rows("SELECT count(*) FROM durable_event.consumer_group WHERE enabled");
	struct rlimit limit;

	if (max_worker_processes < needed)
		check_row(check, "worker slots", "error",
				  psprintf("max_worker_processes is %d; durable_event alone needs %d.",
						   max_worker_processes, needed),
				  "Increase max_worker_processes and restart the server.");
	else if (max_worker_processes < needed + 1 + max_parallel_workers)
		check_row(check, "worker slots", "warning",
				  psprintf("max_worker_processes is %d; durable_event needs %d of them beside max_parallel_workers (%d) and the logical replication launcher.",
						   max_worker_processes, needed, max_parallel_workers),
				  psprintf("Increase max_worker_processes to %d or more and restart the server.",
						   needed + 1 + max_parallel_workers));
	else
		check_row(check, "worker slots", "ok", NULL, NULL);

	if (wal_level < WAL_LEVEL_REPLICA)
		check_row(check, "wal_level", "warning",
				  "wal_level is minimal: there can be no standby to take over, and workers on standbys cannot notice changes.",
				  "Set wal_level to replica and restart the server.");
	else
		check_row(check, "wal_level", "ok", NULL, NULL);

	if (groups > 0 && de_proxy == DE_PROXY_OFF)
		check_row(check, "proxy", "warning",
				  psprintf(INT64_FORMAT " consumer groups are registered, but durable_event.proxy is off on this server.",
						   groups),
				  "Set durable_event.proxy to primary, standby or any on the servers that shall run them, and reload.");
	else if (served)
		check_row(check, "proxy", "ok", NULL, NULL);

	if (de_proxy != DE_PROXY_OFF && getrlimit(RLIMIT_NOFILE, &limit) == 0)
	{
		int64		descriptors = groups * DESCRIPTORS_PER_GROUP / de_proxy_workers;

		if (limit.rlim_max != RLIM_INFINITY && descriptors > (int64) limit.rlim_max)
			check_row(check, "descriptors", "error",
					  psprintf("A proxy needs about " INT64_FORMAT " file descriptors for its groups; the hard limit is " INT64_FORMAT ".",
							   descriptors, (int64) limit.rlim_max),
					  "Raise the limit of open files of the server (ulimit -Hn), or increase durable_event.proxy_workers.");
		else
			check_row(check, "descriptors", "ok", NULL, NULL);
	}
	if (groups > de_shared->max_groups)
		check_row(check, "max_groups", "error",
				  psprintf(INT64_FORMAT " consumer groups are registered; shared memory has room for %d, and no more are run.",
						   groups, de_shared->max_groups),
				  "Increase durable_event.max_groups and restart the server.");
}

/*
 * Publications that carry the segments to subscribers for nothing.
 */
static void
check_publications(Check *check)
{
	int64		n;

	n = count_rows("SELECT count(DISTINCT pubname) FROM pg_catalog.pg_publication_tables"
				   " WHERE schemaname = 'durable_event'"
				   " AND (tablename LIKE 'outbox\\_%' OR tablename = 'relay_state')");
	if (n > 0)
		check_row(check, "publications", "warning",
				  psprintf(INT64_FORMAT " publications carry the outbox or relay_state; subscribers with durable_event leave their rows out.", n),
				  "Publish the tables that subscribers need instead of FOR ALL TABLES.");
	else
		check_row(check, "publications", "ok", NULL, NULL);
}

/*
 * Result of a query that counts.
 */
static int64
count_rows(const char *query)
{
	DeSpiUser	caller;
	int64		n;
	bool		isnull;

	de_spi_connect(&caller);
	if (SPI_execute(query, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not count rows");
	n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	de_spi_finish(&caller);
	return n;
}
