/*-------------------------------------------------------------------------
 *
 * registry.c
 *		Reads the consumer groups and the state of the database that decide
 *		what a proxy worker runs.
 *
 * One short read-only transaction, which a hot standby can do as well.  There
 * a recovery conflict may cancel it at any time; that error is caught and the
 * caller keeps what it has (pitfall 17): the groups must not rebalance, nor
 * the worker end, because WAL was replayed.  Other errors end the worker.
 *
 * The table's CHECKs refuse most nonsense; what is checked here needs another
 * table, a setting, or more than an expression.  A group that cannot run says
 * why in its definition and does not keep others from running.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "extension/base/catalog.h"
#include "extension/base/config_change.h"
#include "extension/base/event.h"
#include "extension/base/guc.h"
#include "extension/base/identity.h"
#include "extension/base/reserved.h"
#include "worker/life/worker.h"
#include "worker/proxy/registry.h"

static const char *const registry_query =
	"SELECT g.name::text, g.handler_url::text, g.mode::text, g.batch_max_events::int4,"
	" g.batch_max_bytes::int4,"
	" ceil(extract(epoch FROM g.linger) * 1000)::int8,"
	" ceil(extract(epoch FROM g.timeout) * 1000)::int8,"
	" ceil(extract(epoch FROM g.backoff_min) * 1000)::int8,"
	" ceil(extract(epoch FROM g.backoff_max) * 1000)::int8,"
	" g.start_from::text,"
	" greatest(floor(extract(epoch FROM g.created_at) * 1000), 0)::int8,"
	" g.event_types::text[],"
	" ARRAY(SELECT e.topic::text FROM unnest(g.event_types) WITH ORDINALITY AS u(n, i)"
	"  LEFT JOIN durable_event.event_type AS e ON e.name = u.n ORDER BY u.i),"
	" g.topics::text[],"
	" ARRAY(SELECT key FROM jsonb_each(g.handler_headers) ORDER BY key),"
	" ARRAY(SELECT CASE jsonb_typeof(value) WHEN 'string' THEN value #>> '{}' END"
	"  FROM jsonb_each(g.handler_headers) ORDER BY key)"
	" FROM durable_event.consumer_group AS g WHERE g.enabled ORDER BY g.name";

enum
{
	COLUMN_NAME = 1,
	COLUMN_HANDLER_URL,
	COLUMN_MODE,
	COLUMN_BATCH_MAX_EVENTS,
	COLUMN_BATCH_MAX_BYTES,
	COLUMN_LINGER,
	COLUMN_TIMEOUT,
	COLUMN_BACKOFF_MIN,
	COLUMN_BACKOFF_MAX,
	COLUMN_START_FROM,
	COLUMN_CREATED_AT,
	COLUMN_EVENT_TYPES,
	COLUMN_TYPE_TOPICS,			/* of each, NULL = by the prefix */
	COLUMN_TOPICS,
	COLUMN_HEADER_NAMES,
	COLUMN_HEADER_VALUES
};

static bool registry_error_passes(int sqlerrcode);
static void registry_fill(DeRegistry *registry, int index, int nworkers);
static DeGroupDefinition *registry_read_group(HeapTuple tuple, TupleDesc desc, const char *name);
static void registry_read_topics(DeGroupDefinition *group, HeapTuple tuple, TupleDesc desc);
static char *registry_get_text(HeapTuple tuple, TupleDesc desc, int column);
static int64 registry_get_int(HeapTuple tuple, TupleDesc desc, int column);
static int	registry_get_texts(HeapTuple tuple, TupleDesc desc, int column, char ***texts);
static const char *registry_utf8(char *s);
static void registry_check(DeGroupDefinition *group);
static void registry_read_headers(DeGroupDefinition *group, HeapTuple tuple, TupleDesc desc);
static const char *registry_check_header(const char *name, const char *value);

/*
 * Reads the registry; see registry.h.  Outside of transactions only; the
 * current context is de_worker->scratch afterwards.
 */
DeRegistry *
de_registry_read(int index, int nworkers)
{
	static bool failing = false;
	DeRegistry *volatile registry = NULL;

	PG_TRY();
	{
		MemoryContext context = AllocSetContextCreate(de_worker->context, "durable_event registry",
													  ALLOCSET_SMALL_SIZES);

		registry = MemoryContextAllocZero(context, sizeof(DeRegistry));
		registry->context = context;
		de_worker_start_transaction("reading the consumer groups");
		registry_fill(registry, index, nworkers);
		de_worker_commit_transaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		/* not the error context, which AbortCurrentTransaction need not leave alone */
		MemoryContextSwitchTo(de_worker->scratch);
		edata = CopyErrorData();
		if (!registry_error_passes(edata->sqlerrcode))
			PG_RE_THROW();

		/* releases LWLocks, snapshots, buffers and SPI's state as well */
		HOLD_INTERRUPTS();
		FlushErrorState();
		AbortCurrentTransaction();
		RESUME_INTERRUPTS();
		MemoryContextSwitchTo(de_worker->scratch);
		pgstat_report_activity(STATE_IDLE, NULL);

		if (registry != NULL)
			MemoryContextDelete(registry->context);
		registry = NULL;
		if (!failing)
			ereport(LOG,
					(errmsg("could not read the consumer groups, those read before stay in effect"),
					 errdetail("%s", edata->message)));
		failing = true;
		FreeErrorData(edata);
	}
	PG_END_TRY();

	if (registry != NULL && failing)
	{
		failing = false;
		ereport(LOG,
				(errmsg("consumer groups can be read again")));
	}
	return registry;
}

/*
 * Is this an error of the moment?  Besides conflicts and cancels, DROP
 * EXTENSION between our look at the catalog and the query.
 */
static bool
registry_error_passes(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case ERRCODE_T_R_SERIALIZATION_FAILURE: /* also a recovery conflict */
		case ERRCODE_T_R_DEADLOCK_DETECTED:
		case ERRCODE_QUERY_CANCELED:
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_UNDEFINED_TABLE:
		case ERRCODE_UNDEFINED_SCHEMA:
			return true;
		default:
			return false;
	}
}

/*
 * Reads all, inside the transaction.
 */
static void
registry_fill(DeRegistry *registry, int index, int nworkers)
{
	MemoryContext old = MemoryContextSwitchTo(registry->context);
	DeRelayStateRow row;
	DeSpiUser	caller;

	de_config_note_tables();
	if (!OidIsValid(de_extension_lock()))
	{
		registry->state = DE_REGISTRY_NO_EXTENSION;
		MemoryContextSwitchTo(old);
		return;
	}

	/* groups that run must not stand still while somebody holds a lock */
	(void) de_table_lock_nowait("relay_state", AccessShareLock, false);
	(void) de_table_lock_nowait("consumer_group", AccessShareLock, false);
	(void) de_table_lock_nowait("event_type", AccessShareLock, false);
	de_state_read(&row);
	registry->stored_source = row.source;
	registry->identity = row.identity;
	if (row.identity == DE_IDENTITY_UNCONFIGURED || !de_signing_secrets_are_usable())
		registry->state = DE_REGISTRY_UNCONFIGURED;
	else if (row.identity == DE_IDENTITY_OURS)
		registry->state = DE_REGISTRY_READY;
	else
		registry->state = DE_REGISTRY_NOT_ADOPTED;

	de_spi_connect(&caller);
	if (SPI_execute(registry_query, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read consumer_group");
	MemoryContextSwitchTo(registry->context);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		char	   *name = registry_get_text(tuple, SPI_tuptable->tupdesc, COLUMN_NAME);
		uint32		hash = hash_bytes((const unsigned char *) name, strlen(name));

		registry->total++;
		if (hash % nworkers == index)
			registry->groups = lappend(registry->groups,
									   registry_read_group(tuple, SPI_tuptable->tupdesc, name));
	}
	de_spi_finish(&caller);
	MemoryContextSwitchTo(old);
}

/*
 * Makes a definition of a row, in the current context.
 */
static DeGroupDefinition *
registry_read_group(HeapTuple tuple, TupleDesc desc, const char *name)
{
	DeGroupDefinition *group = palloc0(sizeof(DeGroupDefinition));
	char	   *url = registry_get_text(tuple, desc, COLUMN_HANDLER_URL);

	group->name = name;
	group->name_utf8 = registry_utf8(pstrdup(name));
	group->handler_url = url != NULL ? url : pstrdup(de_handler_url);
	group->mode = strcmp(registry_get_text(tuple, desc, COLUMN_MODE), "single") == 0 ?
		DE_DELIVERY_SINGLE :
		DE_DELIVERY_BATCH;
	group->batch_max_events = 1;
	if (group->mode == DE_DELIVERY_BATCH)
		group->batch_max_events = (int) registry_get_int(tuple, desc, COLUMN_BATCH_MAX_EVENTS);
	group->batch_max_bytes = (int) registry_get_int(tuple, desc, COLUMN_BATCH_MAX_BYTES);
	group->linger_ms = (int) registry_get_int(tuple, desc, COLUMN_LINGER);
	group->timeout_ms = (int) registry_get_int(tuple, desc, COLUMN_TIMEOUT);
	group->backoff_min_ms = registry_get_int(tuple, desc, COLUMN_BACKOFF_MIN);
	group->backoff_max_ms = registry_get_int(tuple, desc, COLUMN_BACKOFF_MAX);
	group->from_latest = strcmp(registry_get_text(tuple, desc, COLUMN_START_FROM), "latest") == 0;
	group->created_at_ms = registry_get_int(tuple, desc, COLUMN_CREATED_AT);

	registry_read_topics(group, tuple, desc);
	if (group->invalid == NULL)
		registry_check(group);
	if (group->invalid == NULL)
		registry_read_headers(group, tuple, desc);
	return group;
}

/*
 * Finds out which topics the group reads: sorted, each once.
 */
static void
registry_read_topics(DeGroupDefinition *group, HeapTuple tuple, TupleDesc desc)
{
	char	  **types;
	char	  **type_topics;
	char	  **others;
	int			ntypes = registry_get_texts(tuple, desc, COLUMN_EVENT_TYPES, &types);
	int			nothers;
	const char **topics;
	int			n = 0;

	if (registry_get_texts(tuple, desc, COLUMN_TYPE_TOPICS, &type_topics) != ntypes)
		elog(ERROR, "event types and their topics do not match");
	nothers = registry_get_texts(tuple, desc, COLUMN_TOPICS, &others);

	topics = palloc(sizeof(char *) * Max(ntypes + nothers, 1));
	for (int i = 0; i < ntypes; i++)
	{
		char	   *topic = type_topics[i];

		if (topic == NULL)
		{
			topic = palloc(DE_MAX_TOPIC_LENGTH + 1);
			if (!de_topic_by_prefix(topic, types[i], strlen(types[i])))
			{
				group->invalid = psprintf("\"%s%s\" cannot be the name of a topic",
										  de_topic_prefix, types[i]);
				return;
			}
		}
		topics[n++] = topic;
	}
	for (int i = 0; i < nothers; i++)
		topics[n++] = others[i];

	qsort(topics, n, sizeof(char *), pg_qsort_strcmp);
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || strcmp(topics[i], topics[i - 1]) != 0)
			topics[group->ntopics++] = topics[i];
	}
	group->topics = topics;
}

/* A column as a C string in the current context; NULL if it is null. */
static char *
registry_get_text(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* A column of type int4 or int8, which is not null. */
static int64
registry_get_int(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, column, &isnull);

	Assert(!isnull);
	return SPI_gettypeid(desc, column) == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);
}

/* A column of type text[] as C strings, NULL for null elements; returns their number. */
static int
registry_get_texts(HeapTuple tuple, TupleDesc desc, int column, char ***texts)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, column, &isnull);
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	Assert(!isnull);
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &n);
	*texts = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*texts)[i] = nulls[i] ? NULL : TextDatumGetCString(elements[i]);
	return n;
}

/*
 * The string in UTF-8, in the current context; NULL if it cannot be: a
 * database with encoding SQL_ASCII takes any bytes.
 */
static const char *
registry_utf8(char *s)
{
	int			len = strlen(s);

	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		return pg_verify_mbstr(PG_UTF8, s, len, true) ? s : NULL;
	return pg_server_to_any(s, len, PG_UTF8);
}

/*
 * Finds out whether the group can be run.
 */
static void
registry_check(DeGroupDefinition *group)
{
	if (group->name_utf8 == NULL)
	{
		group->invalid = "name is not UTF-8";
		return;
	}

	/* the name goes into a header line */
	for (const char *p = group->name; *p != '\0'; p++)
	{
		if ((unsigned char) *p < ' ' || *p == 0x7F)
		{
			group->invalid = "name contains control characters";
			return;
		}
	}

	if (group->handler_url[0] == '\0')
	{
		group->invalid = "neither its handler_url nor the setting durable_event.handler_url is set";
		return;
	}
	if (strncmp(group->handler_url, "http://", 7) != 0 &&
		strncmp(group->handler_url, "https://", 8) != 0)
	{
		group->invalid = "handler_url does not begin with http:// or https://";
		return;
	}

	/* also keeps out patterns, which to the library begin with ^ */
	for (int i = 0; i < group->ntopics; i++)
	{
		if (!de_topic_name_is_legal(group->topics[i], strlen(group->topics[i])))
		{
			group->invalid = psprintf("\"%s\" cannot be the name of a topic", group->topics[i]);
			return;
		}
	}
}

/*
 * Makes the lines of handler_headers, or says why they cannot be.
 */
static void
registry_read_headers(DeGroupDefinition *group, HeapTuple tuple, TupleDesc desc)
{
	char	  **names;
	char	  **values;
	const char **lines;
	int			n;

	n = registry_get_texts(tuple, desc, COLUMN_HEADER_NAMES, &names);
	if (registry_get_texts(tuple, desc, COLUMN_HEADER_VALUES, &values) != n)
		elog(ERROR, "names and values of handler_headers do not match");

	lines = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		const char *reason = registry_check_header(names[i], values[i]);

		if (reason != NULL)
		{
			/* values may be secrets: only the name is shown */
			group->invalid = psprintf("header \"%s\" of handler_headers %s", names[i], reason);
			return;
		}
		lines[i] = registry_utf8(psprintf("%s: %s", names[i], values[i]));
		if (lines[i] == NULL)
		{
			group->invalid = psprintf("header \"%s\" of handler_headers is not UTF-8", names[i]);
			return;
		}
	}
	group->handler_headers = lines;
	group->nhandler_headers = n;
}

/*
 * What is wrong with a header, NULL = nothing.  A line end in it would start
 * a header (or a body) of the value's choosing.
 */
static const char *
registry_check_header(const char *name, const char *value)
{
	if (name[0] == '\0' || strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
										"0123456789!#$%&'*+-.^_`|~") != strlen(name))
		return "has a name that HTTP does not allow";
	if (de_request_header_is_reserved(name, (int) strlen(name)))
		return "is set by the delivery itself";
	if (value == NULL)
		return "has a value that is not a string";
	for (const char *p = value; *p != '\0'; p++)
	{
		if (((unsigned char) *p < ' ' && *p != '\t') || *p == 0x7F)
			return "has a value with control characters";
	}
	return NULL;
}
