/*-------------------------------------------------------------------------
 *
 * kafka_conf.c
 *		The configuration of a librdkafka handle, out of our settings.
 *
 * Three layers, each winning over the one before: defaults that suit a
 * process which lives as long as the server; durable_event.kafka_config, for
 * security, compression and whatever else librdkafka offers; the fixed
 * properties that the guarantees rest on.  kafka_config is not allowed to
 * name a property of the last layer at all: an operator who reads there that
 * acks is 1 should not have to know that something else is in effect.
 *
 * Values may be secrets, so no value of kafka_config ever goes into a
 * message; librdkafka's own error texts quote values, hence ours.
 *
 * Nothing here starts a thread or touches the network: any backend may check
 * a configuration.  palloc happens before a library object exists, so that
 * an error cannot leak one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/varlena.h"

#include "worker/kafka/kafka_internal.h"
#include "worker/kafka/kafka_secret.h"

/* A property that kafka_config may not set, and what decides it. */
typedef struct ConfProtected
{
	const char *name;
	const char *instead;		/* setting that decides it; NULL = the guarantees do */
} ConfProtected;

static const ConfProtected conf_protected[] = {
	/* where and who */
	{"bootstrap.servers", "durable_event.bootstrap_servers"},
	{"metadata.broker.list", "durable_event.bootstrap_servers"},
	{"group.id", "durable_event.group_prefix"},

	/* order and delivery of the relay */
	{"acks", NULL},
	{"allow.auto.create.topics", NULL},
	{"delivery.report.only.error", NULL},
	{"delivery.timeout.ms", NULL},
	{"enable.gapless.guarantee", NULL},
	{"enable.idempotence", NULL},
	{"max.in.flight", NULL},
	{"max.in.flight.requests.per.connection", NULL},
	{"message.send.max.retries", NULL},
	{"message.timeout.ms", NULL},
	{"msg_order_cmp", NULL},
	{"partitioner", NULL},
	{"queue.buffering.backpressure.threshold", NULL},
	{"queuing.strategy", NULL},
	{"request.required.acks", NULL},
	{"retries", NULL},
	{"sticky.partitioning.linger.ms", NULL},
	{"transaction.timeout.ms", NULL},
	{"transactional.id", NULL},

	/* bounds that have a setting of their own */
	{"linger.ms", "durable_event.relay_linger"},
	{"message.max.bytes", "durable_event.max_event_size"},
	{"queue.buffering.max.kbytes", "durable_event.relay_buffer_size"},
	{"queue.buffering.max.messages", "durable_event.relay_buffer_size"},
	{"queue.buffering.max.ms", "durable_event.relay_linger"},
	{"fetch.message.max.bytes", "durable_event.proxy_memory"},
	{"max.partition.fetch.bytes", "durable_event.proxy_memory"},
	{"queued.max.messages.kbytes", "durable_event.proxy_memory"},
	{"queued.min.messages", "durable_event.proxy_memory"},

	/* membership and offsets of the proxy */
	{"auto.commit.enable", NULL},
	{"auto.commit.interval.ms", NULL},
	{"auto.offset.reset", "consumer_group.start_from"},
	{"enable.auto.commit", NULL},
	{"enable.auto.offset.store", NULL},
	{"enable.partition.eof", NULL},
	{"group.instance.id", NULL},
	{"group.protocol", NULL},
	{"group.protocol.type", NULL},
	{"offset.store.method", NULL},
	{"offset.store.path", NULL},
	{"partition.assignment.strategy", NULL},

	/* life inside a server process (pitfalls 1, 2): no signal, callback or foreign code */
	{"enabled_events", NULL},
	{"internal.termination.signal", NULL},
	{"interceptors", NULL},
	{"log.queue", NULL},
	{"opaque", NULL},
	{"plugin.library.paths", NULL},
	{"ssl.engine.location", NULL},
	{"test.mock.broker.rtt", NULL},
	{"test.mock.num.brokers", NULL}
};

/*
 * The first layer: name, value, ...
 *
 * reconnect.backoff.max.ms: the library's 10 s would be the time for which
 * events keep waiting after a broker has come back.
 */
static const char *const conf_defaults[] = {
	"client.id", "durable_event",
	"log.connection.close", "false",
	"reconnect.backoff.max.ms", "2000",
	"socket.keepalive.enable", "true",
	"socket.nagle.disable", "true",
	NULL
};

static bool conf_parse_user(const char *properties, char **names, char **values, int *n, int max,
							char *error, int error_size);
static const ConfProtected *conf_find_protected(const char *name);
static bool conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, bool user,
					 char *error, int error_size);
static bool conf_set_user(rd_kafka_conf_t *conf, const char *name, const char *value,
						  char *error, int error_size);
static bool conf_set_all(rd_kafka_conf_t *conf, const char *const *pairs,
						 char *error, int error_size);

/* More properties than librdkafka has. */
#define CONF_MAX_USER_PROPERTIES 256

/*
 * Builds a configuration; see kafka_internal.h.  Throws out of memory only.
 */
rd_kafka_conf_t *
de_kafka_conf_build(const char *bootstrap_servers, const char *properties,
					const char *const *defaults, const char *const *fixed, int events,
					char *error, int error_size)
{
	char	   *names[CONF_MAX_USER_PROPERTIES];
	char	   *values[CONF_MAX_USER_PROPERTIES];
	int			n;
	rd_kafka_conf_t *conf;
	bool		ok;

	if (!conf_parse_user(properties, names, values, &n, CONF_MAX_USER_PROPERTIES,
						 error, error_size))
		return NULL;

	conf = rd_kafka_conf_new();
	ok = conf_set_all(conf, conf_defaults, error, error_size) &&
		conf_set_all(conf, defaults, error, error_size);
	for (int i = 0; ok && i < n; i++)
		ok = conf_set_user(conf, names[i], values[i], error, error_size);

	/* an unset list stays unset: a handle that only checks needs no brokers */
	if (ok && bootstrap_servers[0] != '\0')
		ok = conf_set(conf, "bootstrap.servers", bootstrap_servers, false, error, error_size);

	/*
	 * Pitfall 2: logs go through a queue that we poll, never through a
	 * callback on a library thread.
	 */
	ok = ok && conf_set(conf, "log.queue", "true", false, error, error_size) &&
		conf_set_all(conf, fixed, error, error_size);
	if (!ok)
	{
		rd_kafka_conf_destroy(conf);
		return NULL;
	}
	rd_kafka_conf_set_events(conf, events);
	return conf;
}

/*
 * Splits kafka_config into names and values (palloc'd), checking all but
 * what librdkafka checks.
 */
static bool
conf_parse_user(const char *properties, char **names, char **values, int *n, int max,
				char *error, int error_size)
{
	char	   *raw = pstrdup(properties);
	List	   *elements;
	ListCell   *lc;

	*n = 0;
	if (!SplitGUCList(raw, ',', &elements))
	{
		snprintf(error, error_size,
				 "durable_event.kafka_config is not a list of property=value, elements with commas or spaces in double quotes");
		return false;
	}
	foreach(lc, elements)
	{
		char	   *element = lfirst(lc);
		char	   *equals = strchr(element, '=');
		const ConfProtected *protected;

		/* what has no name may be part of a secret: it is not shown */
		if (equals == NULL || equals == element)
		{
			snprintf(error, error_size,
					 "element %d of durable_event.kafka_config is not of the form property=value",
					 foreach_current_index(lc) + 1);
			return false;
		}
		*equals = '\0';
		protected = conf_find_protected(element);
		if (protected != NULL)
		{
			if (protected->instead != NULL)
				snprintf(error, error_size,
						 "property \"%s\" cannot be set in durable_event.kafka_config, %s decides it",
						 element, protected->instead);
			else
				snprintf(error, error_size,
						 "property \"%s\" cannot be set in durable_event.kafka_config, delivery guarantees depend on it",
						 element);
			return false;
		}
		if (*n >= max)
		{
			snprintf(error, error_size, "durable_event.kafka_config has more than %d elements", max);
			return false;
		}
		names[*n] = element;
		values[*n] = equals + 1;
		(*n)++;
	}
	list_free(elements);
	return true;
}

/*
 * The entry of a protected property, NULL = free.  librdkafka takes topic
 * properties also with the prefix "topic.", so that form must not slip past.
 */
static const ConfProtected *
conf_find_protected(const char *name)
{
	if (strncmp(name, "topic.", 6) == 0)
	{
		const ConfProtected *found = conf_find_protected(name + 6);

		if (found != NULL)
			return found;
	}
	for (int i = 0; i < (int) lengthof(conf_protected); i++)
	{
		if (strcmp(name, conf_protected[i].name) == 0)
			return &conf_protected[i];
	}
	return NULL;
}

/*
 * Sets one property; "user" = it stands in kafka_config.
 */
static bool
conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, bool user,
		 char *error, int error_size)
{
	char		text[DE_KAFKA_ERROR_SIZE];

	switch (rd_kafka_conf_set(conf, name, value, text, sizeof(text)))
	{
		case RD_KAFKA_CONF_OK:
			return true;
		case RD_KAFKA_CONF_UNKNOWN:
			if (user)
				snprintf(error, error_size,
						 "property \"%s\" in durable_event.kafka_config is not one of librdkafka %s",
						 name, rd_kafka_version_str());
			else
				snprintf(error, error_size, "librdkafka %s has no property \"%s\"",
						 rd_kafka_version_str(), name);
			return false;
		default:
			if (user)
				snprintf(error, error_size,
						 strstr(text, "not supported") != NULL ?
							 "property \"%s\" in durable_event.kafka_config is not supported by this build of librdkafka" :
							 "property \"%s\" in durable_event.kafka_config has an invalid value",
						 name);
			else
				snprintf(error, error_size, "could not set property \"%s\" of librdkafka to \"%s\"",
						 name, value);
			return false;
	}
}

/*
 * Sets one property of kafka_config, maybe of a value that stands in a file.
 */
static bool
conf_set_user(rd_kafka_conf_t *conf, const char *name, const char *value,
			  char *error, int error_size)
{
	const char *property = de_kafka_secret_property(name);
	char		secret[DE_KAFKA_SECRET_SIZE];
	bool		ok;

	if (property == NULL)
		return conf_set(conf, name, value, true, error, error_size);
	ok = de_kafka_secret_read(property, value, secret, sizeof(secret), error, error_size) &&
		conf_set(conf, property, secret, true, error, error_size);
	explicit_bzero(secret, sizeof(secret));
	return ok;
}

/*
 * Sets name, value, ..., NULL of our own.
 */
static bool
conf_set_all(rd_kafka_conf_t *conf, const char *const *pairs, char *error, int error_size)
{
	for (int i = 0; pairs[i] != NULL; i += 2)
	{
		if (!conf_set(conf, pairs[i], pairs[i + 1], false, error, error_size))
			return false;
	}
	return true;
}
