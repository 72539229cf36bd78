/*-------------------------------------------------------------------------
 *
 * guc.c
 *		The settings, in alphabetical order.  docs/reference.md says more on
 *		each; sql/settings.sql and .ci/check-docs hold both together.
 *
 * What sizes shared memory is PGC_POSTMASTER, what a database may have of its
 * own is PGC_SUSET, all else is PGC_SIGHUP.  source is deliberately not
 * settable by ALTER DATABASE: that lives in the catalogs, so a copy of the
 * data directory would take it along and publish as the original.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "extension/base/event_type.h"
#include "extension/base/guc.h"
#include "extension/base/secret.h"

/* Kafka brokers to begin with, host:port[,host:port...]. */
char	   *de_bootstrap_servers = NULL;

/* Databases that get a relay and proxies: a list of names, quoted as identifiers. */
char	   *de_databases = NULL;

/* Which event types may be published. */
int			de_event_types = DE_EVENT_TYPES_ANY;

/* Put before a consumer group's name to make its Kafka group.id. */
char	   *de_group_prefix = NULL;

/* File of CA certificates that handlers' certificates are checked against; empty = the system's. */
char	   *de_handler_ca_file = NULL;

/* Client certificate shown to handlers. */
char	   *de_handler_cert_file = NULL;

/* Hosts of handlers: patterns (*.example.com) and networks (10.0.0.0/8); empty = any. */
char	   *de_handler_hosts = NULL;

/* Private key of handler_cert_file. */
char	   *de_handler_key_file = NULL;

/* Handler of consumer groups that name none. */
char	   *de_handler_url = NULL;

/* More librdkafka properties: key=value, ...; an element with a comma or space in double quotes. */
char	   *de_kafka_config = NULL;

/* Databases that may publish or be served, for which shared memory is kept. */
int			de_max_databases = 64;

/* Largest event: key, payload and headers together. */
int			de_max_event_size = 976;

/* Events that one transaction may publish; 0 = no limit. */
int			de_max_events_per_transaction = 0;

/* Consumer groups that this server can run. */
int			de_max_groups = 1000;

/* Size of a database's outbox at which publishing fails; 0 = no limit. */
int			de_max_outbox_size = 0;

/* Largest record that is delivered: key, value and headers together. */
int			de_max_record_size = 16 * 1024;

/* Where consumer groups run. */
int			de_proxy = DE_PROXY_OFF;

/* Memory for records and request bodies of one proxy worker. */
int			de_proxy_memory = 256 * 1024;

/* Proxy workers per listed database on this server. */
int			de_proxy_workers = 1;

/* Whether relays run. */
bool		de_relay = true;

/* Events handed to Kafka and not yet acknowledged, per relay. */
int			de_relay_buffer_size = 64 * 1024;

/* How long the producer waits for more events before it sends a batch. */
int			de_relay_linger = 1;

/* How long published events stay readable in the outbox. */
int			de_retention = 3600;

/* Age at which a new segment is begun. */
int			de_segment_interval = 3600;

/* Size at which a new segment is begun. */
int			de_segment_size = 256;

/* How long a stopping worker waits for acknowledgements under way. */
int			de_shutdown_timeout = 3000;

/* Secret that requests to handlers are signed with; empty = unsigned. */
char	   *de_signing_secret = NULL;

/* Former secret, signed with as well while handlers change over. */
char	   *de_signing_secret_previous = NULL;

/* CloudEvents source and identity of this event stream; nothing is sent before it is set. */
char	   *de_source = NULL;

/* Partitions of topics that the relay creates. */
int			de_topic_partitions = 4;

/* Put before an event type's name to make its topic. */
char	   *de_topic_prefix = NULL;

/* Replicas of topics that the relay creates; -1 = the broker's default. */
int			de_topic_replication_factor = -1;

static const struct config_enum_entry event_types_options[] = {
	{"any", DE_EVENT_TYPES_ANY, false},
	{"registered", DE_EVENT_TYPES_REGISTERED, false},
	{NULL, 0, false}
};

static const struct config_enum_entry proxy_options[] = {
	{"off", DE_PROXY_OFF, false},
	{"primary", DE_PROXY_PRIMARY, false},
	{"standby", DE_PROXY_STANDBY, false},
	{"any", DE_PROXY_ANY, false},
	{"false", DE_PROXY_OFF, true},
	{"no", DE_PROXY_OFF, true},
	{"0", DE_PROXY_OFF, true},
	{NULL, 0, false}
};

static bool guc_check_databases(char **newval, void **extra, GucSource source);
static bool guc_check_kafka_config(char **newval, void **extra, GucSource source);
static bool guc_check_secret(char **newval, void **extra, GucSource source);
static bool guc_check_source(char **newval, void **extra, GucSource source);
static bool guc_check_topic_prefix(char **newval, void **extra, GucSource source);
static bool guc_check_url(char **newval, void **extra, GucSource source);
static void guc_define_string(const char *name, const char *short_desc, const char *long_desc,
							  char **variable, const char *boot_value, GucContext context,
							  int flags, GucStringCheckHook check);
static void guc_define_int(const char *name, const char *short_desc, const char *long_desc,
						   int *variable, int min, int max, GucContext context, int flags);

/*
 * Defines all settings; the boot value of a number is what its variable holds.
 */
void
de_guc_init(void)
{
	guc_define_string("bootstrap_servers",
					  "Sets the Kafka brokers to connect to first.",
					  "host:port, separated by commas.",
					  &de_bootstrap_servers, "", PGC_SIGHUP, 0, NULL);
	guc_define_string("databases",
					  "Sets the databases that have a relay and proxies.",
					  "Names separated by commas; a name with upper-case letters in double quotes.",
					  &de_databases, "", PGC_SIGHUP, GUC_LIST_INPUT, guc_check_databases);
	DefineCustomEnumVariable("durable_event.event_types",
							 "Sets which event types may be published.",
							 "any, or only those registered in durable_event.event_type. May be set for a database.",
							 &de_event_types,
							 DE_EVENT_TYPES_ANY,
							 event_types_options,
							 PGC_SUSET,
							 0,
							 NULL, NULL, NULL);
	guc_define_string("group_prefix",
					  "Sets what is put before a consumer group's name to make its Kafka group.id.",
					  NULL,
					  &de_group_prefix, "", PGC_SIGHUP, 0, NULL);
	guc_define_string("handler_ca_file",
					  "Sets the file of CA certificates that handlers' certificates are checked against.",
					  "Empty means those of the system.",
					  &de_handler_ca_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL);
	guc_define_string("handler_cert_file",
					  "Sets the client certificate shown to handlers.",
					  NULL,
					  &de_handler_cert_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL);
	guc_define_string("handler_hosts",
					  "Sets the hosts and networks that handlers may live on.",
					  "Host patterns such as *.example.com and networks such as 10.0.0.0/8, separated by commas; empty means any. Link-local and metadata addresses are always refused.",
					  &de_handler_hosts, "", PGC_SIGHUP, 0, NULL);
	guc_define_string("handler_key_file",
					  "Sets the private key of handler_cert_file.",
					  NULL,
					  &de_handler_key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL);
	guc_define_string("handler_url",
					  "Sets the handler of consumer groups that name none.",
					  NULL,
					  &de_handler_url, "", PGC_SIGHUP, 0, guc_check_url);
	guc_define_string("kafka_config",
					  "Sets more properties of the Kafka client library.",
					  "key=value separated by commas; an element that has a comma or a space in double quotes.",
					  &de_kafka_config, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
					  guc_check_kafka_config);
	guc_define_int("max_databases",
				   "Sets the number of databases that shared memory is kept for.",
				   NULL,
				   &de_max_databases, 1, 10000, PGC_POSTMASTER, 0);
	guc_define_int("max_event_size",
				   "Sets the largest size of an event: key, payload and headers together.",
				   "Topics must allow it (max.message.bytes).",
				   &de_max_event_size, 1, 64 * 1024, PGC_SIGHUP, GUC_UNIT_KB);
	guc_define_int("max_events_per_transaction",
				   "Sets the number of events that one transaction may publish.",
				   "Zero means no limit. Events of others wait while those of a transaction are inserted at its commit. May be set for a database.",
				   &de_max_events_per_transaction, 0, INT_MAX, PGC_SUSET, 0);
	guc_define_int("max_groups",
				   "Sets the number of consumer groups that shared memory is kept for.",
				   "No more are run on this server.",
				   &de_max_groups, 1, 100000, PGC_POSTMASTER, 0);
	guc_define_int("max_outbox_size",
				   "Sets the size of a database's outbox at which publishing fails.",
				   "Zero means no limit. May be set for a database.",
				   &de_max_outbox_size, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MB);
	guc_define_int("max_record_size",
				   "Sets the largest size of a record that is delivered: key, value and headers together.",
				   "A larger one, from any producer, stops its partition.",
				   &de_max_record_size, 64, 64 * 1024, PGC_SIGHUP, GUC_UNIT_KB);
	DefineCustomEnumVariable("durable_event.proxy",
							 "Sets where consumer groups run.",
							 "off, primary, standby or any.",
							 &de_proxy,
							 DE_PROXY_OFF,
							 proxy_options,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
	guc_define_int("proxy_memory",
				   "Sets the memory for records and request bodies of one proxy worker.",
				   "Half is for records fetched ahead, half for request bodies.",
				   &de_proxy_memory, 1024, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB);
	guc_define_int("proxy_workers",
				   "Sets the number of proxy workers per listed database.",
				   "Consumer groups are divided among them by name.",
				   &de_proxy_workers, 1, DE_MAX_PROXY_WORKERS, PGC_SIGHUP, 0);
	DefineCustomBoolVariable("durable_event.relay",
							 "Sets whether relays run.",
							 NULL,
							 &de_relay,
							 true,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
	guc_define_int("relay_buffer_size",
				   "Sets how much a relay hands to Kafka before it waits for acknowledgements.",
				   NULL,
				   &de_relay_buffer_size, 1024, 2 * 1024 * 1024 - 1, PGC_SIGHUP, GUC_UNIT_KB);
	guc_define_int("relay_linger",
				   "Sets how long a relay waits for more events before it reads and sends again.",
				   "An event that comes alone is sent at once.",
				   &de_relay_linger, 0, 10000, PGC_SIGHUP, GUC_UNIT_MS);
	guc_define_int("retention",
				   "Sets how long published events stay readable in the outbox.",
				   NULL,
				   &de_retention, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S);
	guc_define_int("segment_interval",
				   "Sets the age at which the relay begins a new outbox segment.",
				   NULL,
				   &de_segment_interval, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S);
	guc_define_int("segment_size",
				   "Sets the size at which the relay begins a new outbox segment.",
				   NULL,
				   &de_segment_size, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MB);
	guc_define_int("shutdown_timeout",
				   "Sets how long a stopping worker waits for acknowledgements under way.",
				   NULL,
				   &de_shutdown_timeout, 0, 60 * 1000, PGC_SIGHUP, GUC_UNIT_MS);
	guc_define_string("signing_secret",
					  "Sets the secret that requests to handlers are signed with.",
					  "Plain text, or whsec_ and base64; empty means unsigned.",
					  &de_signing_secret, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, guc_check_secret);
	guc_define_string("signing_secret_previous",
					  "Sets the former secret, signed with as well while handlers change over.",
					  NULL,
					  &de_signing_secret_previous, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
					  guc_check_secret);
	guc_define_string("source",
					  "Sets the CloudEvents source and identity of this event stream.",
					  "Nothing is sent before it is set; a copy of the database needs another one.",
					  &de_source, "", PGC_SIGHUP, 0, guc_check_source);
	guc_define_int("topic_partitions",
				   "Sets the number of partitions of topics that the relay creates.",
				   NULL,
				   &de_topic_partitions, 1, 10000, PGC_SIGHUP, 0);
	guc_define_string("topic_prefix",
					  "Sets what is put before an event type's name to make its topic.",
					  "May be set for a database.",
					  &de_topic_prefix, "durable_event.", PGC_SUSET, 0, guc_check_topic_prefix);
	guc_define_int("topic_replication_factor",
				   "Sets the number of replicas of topics that the relay creates.",
				   "-1 means the broker's default.",
				   &de_topic_replication_factor, -1, 32767, PGC_SIGHUP, 0);

	MarkGUCPrefixReserved("durable_event");
}

/*
 * Defines one string setting of ours.
 */
static void
guc_define_string(const char *name, const char *short_desc, const char *long_desc, char **variable,
				  const char *boot_value, GucContext context, int flags, GucStringCheckHook check)
{
	DefineCustomStringVariable(psprintf("durable_event.%s", name), short_desc, long_desc, variable,
							   boot_value, context, flags, check, NULL, NULL);
}

/*
 * Defines one integer setting of ours.  Those that size shared memory exist
 * only in a preloaded library: the server refuses to define them later.
 */
static void
guc_define_int(const char *name, const char *short_desc, const char *long_desc, int *variable,
			   int min, int max, GucContext context, int flags)
{
	if (context == PGC_POSTMASTER && !process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable(psprintf("durable_event.%s", name), short_desc, long_desc, variable,
							*variable, min, max, context, flags, NULL, NULL, NULL);
}

/*
 * Check hook: a list of identifiers.
 */
static bool
guc_check_databases(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *names;
	bool		ok = SplitIdentifierString(copy, ',', &names);

	list_free(names);
	pfree(copy);
	if (!ok)
		GUC_check_errdetail("List syntax is invalid.");
	return ok;
}

/*
 * Check hook: the list can be split and every element has a key.  Whether
 * the library knows the keys is checked where the library may be used: in
 * the workers (pitfall 8).
 */
static bool
guc_check_kafka_config(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *elements;
	ListCell   *cell;
	bool		ok = SplitGUCList(copy, ',', &elements);

	/* the server's own message would show it all */
	GUC_check_errmsg("invalid value for parameter \"%s\"", "durable_event.kafka_config");
	if (!ok)
		GUC_check_errdetail("List syntax is invalid.");
	else
		foreach(cell, elements)
		{
			const char *equals = strchr((char *) lfirst(cell), '=');

			if (equals == NULL || equals == (char *) lfirst(cell))
			{
				/* the element is not shown: it may hold a secret */
				GUC_check_errdetail("Element %d is not of the form key=value.",
									foreach_current_index(cell) + 1);
				ok = false;
				break;
			}
		}
	list_free(elements);
	pfree(copy);
	return ok;
}

/*
 * Check hook: a secret that can be decoded.  The server's own message would
 * show it.
 */
static bool
guc_check_secret(char **newval, void **extra, GucSource source)
{
	unsigned char *key = palloc(strlen(*newval) + 1);
	const char *problem;
	int			len = de_secret_decode(*newval, key, &problem);

	explicit_bzero(key, strlen(*newval) + 1);
	pfree(key);
	if (len >= 0)
		return true;

	/*
	 * At the server's start a refused value would leave the setting empty, and
	 * requests unsigned: it is kept, and proxies send nothing.
	 */
	if (process_shared_preload_libraries_in_progress)
	{
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid signing secret in the settings of durable_event"),
				 errdetail("%s", problem),
				 errhint("A secret is \"whsec_\" and base64, or any text that does not begin so. Nothing is sent to handlers until it is set right.")));
		return true;
	}
	GUC_check_errmsg("invalid signing secret");
	GUC_check_errdetail("%s", problem);
	GUC_check_errhint("A secret is \"whsec_\" and base64, or any text that does not begin so.");
	return false;
}

/*
 * Can both secrets be signed with?  Not if one of the server's start was
 * malformed.
 */
bool
de_signing_secrets_are_usable(void)
{
	const char *secrets[] = {de_signing_secret, de_signing_secret_previous};
	bool		usable = true;

	for (int i = 0; i < lengthof(secrets); i++)
	{
		unsigned char *key = palloc(strlen(secrets[i]) + 1);
		const char *problem;

		usable = usable && de_secret_decode(secrets[i], key, &problem) >= 0;
		explicit_bzero(key, strlen(secrets[i]) + 1);
		pfree(key);
	}
	return usable;
}

/*
 * Check hook: printable ASCII without spaces, since it goes into a header and
 * a URI reference.
 */
static bool
guc_check_source(char **newval, void **extra, GucSource source)
{
	for (const char *p = *newval; *p; p++)
	{
		if (*p <= ' ' || *p > '~')
		{
			GUC_check_errdetail("The source must be a URI reference: printable ASCII without spaces.");
			return false;
		}
	}
	if (strlen(*newval) > 255)
	{
		GUC_check_errdetail("The source must not be longer than 255 bytes.");
		return false;
	}
	return true;
}

/*
 * Check hook: empty, or the beginning of a legal topic name.
 */
static bool
guc_check_topic_prefix(char **newval, void **extra, GucSource source)
{
	int			len = strlen(*newval);

	/* "." alone becomes legal with what follows */
	if (len == 0 || strcmp(*newval, ".") == 0 ||
		(len < DE_MAX_TOPIC_LENGTH && de_topic_name_is_legal(*newval, len)))
		return true;
	GUC_check_errdetail("Topic names consist of at most %d of the characters a-z, A-Z, 0-9, \".\", \"_\" and \"-\".",
						DE_MAX_TOPIC_LENGTH);
	return false;
}

/*
 * Check hook: empty or an http(s) URL.
 */
static bool
guc_check_url(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0' || strncmp(*newval, "http://", 7) == 0 ||
		strncmp(*newval, "https://", 8) == 0)
		return true;
	GUC_check_errdetail("The URL must begin with http:// or https://.");
	return false;
}

/*
 * Returns the names in durable_event.databases, palloc'd in the current context.
 */
List *
de_listed_databases(void)
{
	List	   *names;
	List	   *result = NIL;
	ListCell   *cell;
	char	   *copy = pstrdup(de_databases);

	if (!SplitIdentifierString(copy, ',', &names))
		elog(ERROR, "invalid list syntax in durable_event.databases");	/* checked when set */
	foreach(cell, names)
		result = lappend(result, pstrdup((char *) lfirst(cell)));
	list_free(names);
	pfree(copy);
	return result;
}

/*
 * Bytes of the largest record that is delivered: never less than an event of
 * this server may have, whose CloudEvents headers are not all counted in its
 * size.
 */
Size
de_record_limit(void)
{
	return (Size) Max(de_max_record_size, de_max_event_size) * 1024 + 1024;
}

/*
 * Is the named database in durable_event.databases?
 */
bool
de_database_is_listed(const char *dbname)
{
	List	   *names = de_listed_databases();
	ListCell   *cell;
	bool		found = false;

	foreach(cell, names)
	{
		if (strcmp((char *) lfirst(cell), dbname) == 0)
		{
			found = true;
			break;
		}
	}
	list_free_deep(names);
	return found;
}
