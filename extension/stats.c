/*-------------------------------------------------------------------------
 *
 * stats.c
 *		What the workers say about themselves, as rows for the views
 *		stat_relay and stat_group.
 *
 * Everything comes from shared memory: an entry is copied under its
 * spinlock and made into a tuple afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "extension/base/compat.h"
#include "extension/base/shmem.h"
#include "extension/outbox/horizon.h"
#include "extension/rows.h"
#include "extension/stats.h"

PG_FUNCTION_INFO_V1(durable_event_stat_relay);
PG_FUNCTION_INFO_V1(durable_event_stat_group);

static const char *const relay_states[] = {
	[DE_RELAY_STOPPED] = "stopped",
	[DE_RELAY_STARTING] = "starting",
	[DE_RELAY_NO_EXTENSION] = "extension missing",
	[DE_RELAY_UNCONFIGURED] = "unconfigured",
	[DE_RELAY_SOURCE_MISMATCH] = "source mismatch",
	[DE_RELAY_PAUSED] = "paused",
	[DE_RELAY_CONNECTING] = "connecting",
	[DE_RELAY_RUNNING] = "running"
};

static const char *const group_states[] = {
	[DE_GROUP_STARTING] = "starting",
	[DE_GROUP_JOINING] = "joining",
	[DE_GROUP_RUNNING] = "running",
	[DE_GROUP_RETRYING] = "retrying",
	[DE_GROUP_BLOCKED] = "blocked",
	[DE_GROUP_DISCONNECTED] = "disconnected",
	[DE_GROUP_INVALID] = "invalid",
	[DE_GROUP_STOPPING] = "stopping"
};

static double age_in_seconds(TimestampTz at);
static void put_timestamp(Datum *value, bool *isnull, TimestampTz at);
static void put_text(Datum *value, bool *isnull, const char *text);

/*
 * A consistent copy of what the relay reports under its mutex.
 */
void
de_relay_get_report(DeDatabase *db, DeRelayReport *report)
{
	SpinLockAcquire(&db->mutex);
	report->state = db->relay_state;
	report->state_since = db->relay_state_since;
	report->error = db->relay_error;
	report->outbox_error = db->outbox_error;
	report->last_acked_at = db->last_acked_at;
	report->oldest_unacked_at = db->oldest_unacked_at;
	SpinLockRelease(&db->mutex);
	report->pid = (int) pg_atomic_read_u32(&db->relay.pid);
	if (report->pid == 0)
		report->state = DE_RELAY_STOPPED;	/* whatever it said last */
}

/*
 * SQL: stat_relay() returns the row of this database's relay.
 */
Datum
durable_event_stat_relay(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {
		INT4OID, TEXTOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, FLOAT8OID,
		INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, INT4OID, FLOAT8OID
	};
	ReturnSetInfo *rsinfo;
	DeDatabase *db;
	DeRelayReport report;
	Datum		values[lengthof(types)];
	bool		nulls[lengthof(types)] = {false};
	int			holder = 0;
	int64		held_ms = 0;
	bool		held;
	uint64		acked;
	uint64		drawn;
	int			i = 0;

	de_shmem_require();
	rsinfo = de_rows_begin(fcinfo, lengthof(types), types);
	db = de_database_get(MyDatabaseId);
	de_relay_get_report(db, &report);
	/* acked first: read the other way round, the lag could be negative */
	acked = pg_atomic_read_u64(&db->acked_id);
	pg_read_barrier();
	drawn = pg_atomic_read_u64(&db->last_drawn);

	nulls[i] = report.pid == 0;
	values[i++] = Int32GetDatum(report.pid);
	values[i++] = CStringGetTextDatum(relay_states[report.state]);
	put_timestamp(&values[i], &nulls[i], report.state_since);
	i++;
	nulls[i] = pg_atomic_read_u32(&db->ids_ready) == 0;
	values[i++] = Int64GetDatum((int64) drawn);
	values[i++] = Int64GetDatum((int64) pg_atomic_read_u64(&db->read_id));
	values[i++] = Int64GetDatum((int64) acked);
	values[i++] = Int64GetDatum((int64) pg_atomic_read_u64(&db->stored_id));

	/*
	 * The ids given out since the start are dense but for rollbacks; those of
	 * before say nothing of the number of events.
	 */
	nulls[i] = pg_atomic_read_u32(&db->ids_ready) == 0 ||
		acked < pg_atomic_read_u64(&db->start_id);
	values[i++] = Int64GetDatum(drawn > acked ? (int64) (drawn - acked) : 0);
	nulls[i] = report.oldest_unacked_at == 0;
	values[i] = Float8GetDatum(age_in_seconds(report.oldest_unacked_at));
	i++;
	values[i++] = Int64GetDatum((int64) pg_atomic_read_u64(&db->events_acked));
	values[i++] = Int64GetDatum((int64) pg_atomic_read_u64(&db->bytes_acked));
	values[i++] = Int64GetDatum((int64) pg_atomic_read_u64(&db->produce_errors));
	put_timestamp(&values[i], &nulls[i], report.last_acked_at);
	i++;
	put_text(&values[i], &nulls[i], report.error.at != 0 ? report.error.text : NULL);
	i++;
	put_timestamp(&values[i], &nulls[i], report.error.at);
	i++;
	held = de_horizon_holder(db, &holder, &held_ms);
	nulls[i] = !held;
	values[i++] = Int32GetDatum(holder);
	nulls[i] = !held;
	values[i++] = Float8GetDatum(held_ms / 1e3);
	Assert(i == lengthof(values));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}

/*
 * SQL: stat_group() returns a row for each consumer group of this database
 * that a proxy of this server runs.
 */
Datum
durable_event_stat_group(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {
		TEXTOID, INT4OID, TEXTOID, TIMESTAMPTZOID, INT4OID, INT8OID, INT8OID, FLOAT8OID, INT8OID,
		INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID
	};
	ReturnSetInfo *rsinfo;

	de_shmem_require();
	rsinfo = de_rows_begin(fcinfo, lengthof(types), types);
	for (int n = 0; n < de_shared->max_groups; n++)
	{
		DeGroupStatus *status = &de_shared->groups[n];
		DeGroupStatus copy;
		Datum		values[lengthof(types)];
		bool		nulls[lengthof(types)] = {false};
		int			i = 0;

		if (status->dboid != MyDatabaseId)
			continue;
		SpinLockAcquire(&status->mutex);
		copy = *status;
		SpinLockRelease(&status->mutex);
		if (copy.dboid != MyDatabaseId)
			continue;

		values[i++] = PointerGetDatum(cstring_to_text(copy.name));
		values[i++] = Int32GetDatum(copy.pid);
		values[i++] = CStringGetTextDatum(group_states[copy.state]);
		put_timestamp(&values[i], &nulls[i], copy.state_since);
		i++;
		values[i++] = Int32GetDatum(copy.partitions);
		values[i++] = Int64GetDatum(copy.position);
		nulls[i] = copy.lag < 0;
		values[i++] = Int64GetDatum(copy.lag);
		nulls[i] = copy.oldest_unacked_at == 0;
		values[i] = Float8GetDatum(age_in_seconds(copy.oldest_unacked_at));
		i++;
		values[i++] = Int64GetDatum(copy.in_flight);
		values[i++] = Int64GetDatum(copy.events_delivered);
		values[i++] = Int64GetDatum(copy.requests);
		values[i++] = Int64GetDatum(copy.failures);
		put_timestamp(&values[i], &nulls[i], copy.last_delivered_at);
		i++;
		put_text(&values[i], &nulls[i], copy.error.at != 0 ? copy.error.text : NULL);
		i++;
		put_timestamp(&values[i], &nulls[i], copy.error.at);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * Seconds since a time; not below 0, should clocks differ.
 */
static double
age_in_seconds(TimestampTz at)
{
	return Max(0.0, (GetCurrentTimestamp() - at) / 1e6);
}

/*
 * A time, or null for 0.
 */
static void
put_timestamp(Datum *value, bool *isnull, TimestampTz at)
{
	*isnull = at == 0;
	*value = TimestampTzGetDatum(at);
}

/*
 * A text, or null for NULL.
 */
static void
put_text(Datum *value, bool *isnull, const char *text)
{
	*isnull = text == NULL;
	*value = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}
