/*-------------------------------------------------------------------------
 *
 * topic.c
 *		Which Kafka topic an event type goes to, and whether it is there yet.
 *
 * Two hash tables: event types (UTF-8, as events carry them) to topics, and
 * topics by name, since types may share one to keep one order.  Both live in
 * a context that is replaced as a whole when durable_event.event_type or the
 * settings change; a topic that was there is not asked for again.
 *
 * Every registered topic is asked for at once, not only when its first event
 * comes: consumers can join before, and the first event does not wait.  A
 * topic that is there is left as it is, whatever its row says: another number
 * of partitions would move keys.  That it has fewer than its row says is told.
 *
 * After each start every topic is asked for again, and only the controller can
 * say that it exists.  While the controllers are away, or frozen, the leaders
 * of existing topics may well be up; so after TOPIC_ASSUME_ATTEMPTS questions
 * that nobody answered a topic is taken to be there.  If it is not, the records
 * come back as refused after some seconds, and it is asked for again; the
 * broker does not make it up meanwhile, since the producer forbids that.
 *
 * Used by the relay's main thread only.  A reload runs inside a transaction,
 * everything else outside.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "extension/base/clock.h"
#include "extension/base/guc.h"
#include "worker/base/backoff.h"
#include "worker/kafka/admin.h"
#include "worker/life/worker.h"
#include "worker/relay/topic.h"

/* Requests under way at once: the controller works them off one by one. */
#define TOPIC_MAX_ASKED 16

/* Short, since an outage of the broker ends up here too. */
#define TOPIC_RETRY_MIN_MS 1000
#define TOPIC_RETRY_MAX_MS 5000

/* Questions without an answer after which a topic is taken to be there. */
#define TOPIC_ASSUME_ATTEMPTS 2

/* key of the table of types: bytes, not NUL-terminated */
typedef struct TopicTypeKey
{
	const char *name;
	Size		len;
} TopicTypeKey;

typedef struct TopicType
{
	TopicTypeKey key;
	DeTopic    *topic;			/* NULL = no legal name */
} TopicType;

struct DeTopics
{
	MemoryContext parent;
	MemoryContext context;		/* of all below; replaced by a reload */
	HTAB	   *types;
	HTAB	   *by_name;
	DeTopic   **numbered;
	uint32		n;
	uint32		max;			/* allocated in numbered */
	uint32		generation;		/* upper half of tokens; grows with each reload or restart */
	int			pending;		/* topics that are not READY */
	int			asked;			/* of those, ASKED */
	int			comparing;		/* topics to be compared, and answers about that due */
};

static const char *const topic_load_sql =
	"SELECT name, topic, partitions, replication_factor, topic_config"
	" FROM durable_event.event_type ORDER BY name";

static void topics_reset(DeTopics *topics);
static uint32 topic_type_hash(const void *key, Size keysize);
static int	topic_type_match(const void *a, const void *b, Size keysize);
static TopicType *topic_enter_type(DeTopics *topics, const char *name, int len, bool *found);
static DeTopic *topic_enter(DeTopics *topics, const char *name);
static const char **topic_read_config(Jsonb *json);
static void topic_ask(DeTopics *topics, DeTopic *topic, DeProducer *producer);
static void topic_answered(void *arg, const DeTopicResult *result);

/*
 * Makes an empty map.
 */
DeTopics *
de_topics_create(MemoryContext parent)
{
	DeTopics   *topics = MemoryContextAllocZero(parent, sizeof(DeTopics));

	topics->parent = parent;
	topics_reset(topics);
	return topics;
}

/*
 * Gives the map an empty context; the caller deletes the former one.
 */
static void
topics_reset(DeTopics *topics)
{
	HASHCTL		ctl;

	topics->context = AllocSetContextCreate(topics->parent, "durable_event topics",
											ALLOCSET_DEFAULT_SIZES);
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(TopicTypeKey);
	ctl.entrysize = sizeof(TopicType);
	ctl.hash = topic_type_hash;
	ctl.match = topic_type_match;
	ctl.hcxt = topics->context;
	topics->types = hash_create("durable_event event types", 64, &ctl,
								HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	ctl.keysize = DE_MAX_TOPIC_LENGTH + 1;
	ctl.entrysize = sizeof(DeTopic);
	topics->by_name = hash_create("durable_event topics", 64, &ctl,
								  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	topics->numbered = NULL;
	topics->n = 0;
	topics->max = 0;
	topics->generation++;
	topics->pending = 0;
	topics->asked = 0;
	topics->comparing = 0;
}

static uint32
topic_type_hash(const void *key, Size keysize)
{
	const TopicTypeKey *type = key;

	return hash_bytes((const unsigned char *) type->name, (int) type->len);
}

static int
topic_type_match(const void *a, const void *b, Size keysize)
{
	const TopicTypeKey *left = a;
	const TopicTypeKey *right = b;

	return left->len == right->len && memcmp(left->name, right->name, left->len) == 0 ? 0 : 1;
}

/*
 * Loads the registered event types.
 */
void
de_topics_load(DeTopics *topics)
{
	DeTopics	former = *topics;
	HASH_SEQ_STATUS status;
	DeTopic    *topic;

	topics_reset(topics);
	SPI_connect();
	if (SPI_execute(topic_load_sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read event_type");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *type = SPI_getvalue(tuple, desc, 1);
		char	   *name = SPI_getvalue(tuple, desc, 2);
		bytea	   *utf8 = de_bytes_in_utf8(type, strlen(type));
		MemoryContext old;
		TopicType  *entry;
		Datum		value;
		bool		isnull;
		bool		found;

		if (name == NULL)
			name = psprintf("%s%s", de_topic_prefix, type);
		old = MemoryContextSwitchTo(topics->context);
		entry = topic_enter_type(topics, VARDATA_ANY(utf8), VARSIZE_ANY_EXHDR(utf8), &found);
		entry->topic = topic_enter(topics, name);
		if (entry->topic != NULL)
		{
			/* of several types that share a topic the first to say a thing decides it */
			value = SPI_getbinval(tuple, desc, 3, &isnull);
			if (!isnull && entry->topic->partitions == 0)
				entry->topic->partitions = DatumGetInt32(value);
			value = SPI_getbinval(tuple, desc, 4, &isnull);
			if (!isnull && entry->topic->replication_factor == 0)
				entry->topic->replication_factor = DatumGetInt32(value);
			value = SPI_getbinval(tuple, desc, 5, &isnull);
			if (!isnull && entry->topic->config == NULL)
				entry->topic->config = topic_read_config(DatumGetJsonbP(value));
		}
		MemoryContextSwitchTo(old);
	}
	SPI_finish();

	hash_seq_init(&status, topics->by_name);
	while ((topic = hash_seq_search(&status)) != NULL)
	{
		DeTopic    *known = hash_search(former.by_name, topic->name, HASH_FIND, NULL);

		if (known != NULL && known->state == DE_TOPIC_READY)
		{
			topic->state = DE_TOPIC_READY;
			topics->pending--;
			if (topic->partitions > 0 &&
				(known->compare || topic->partitions != known->partitions))
			{
				topic->compare = true;
				topics->comparing++;
			}
		}
	}
	MemoryContextDelete(former.context);
}

/*
 * The entry of a type, made if it is new (topic is then not set).
 */
static TopicType *
topic_enter_type(DeTopics *topics, const char *name, int len, bool *found)
{
	TopicTypeKey key = {name, len};
	TopicType  *entry = hash_search(topics->types, &key, HASH_ENTER, found);

	if (!*found)
	{
		char	   *copy;

		/* the key points to the caller's memory until it has a copy */
		entry->topic = NULL;
		copy = MemoryContextAlloc(topics->context, len + 1);
		memcpy(copy, name, len);
		copy[len] = '\0';
		entry->key.name = copy;
	}
	return entry;
}

/*
 * The entry of a topic, made if it is new; NULL if the name is not legal.
 */
static DeTopic *
topic_enter(DeTopics *topics, const char *name)
{
	DeTopic    *topic;
	bool		found;

	if (!de_topic_name_is_legal(name, strlen(name)))
		return NULL;
	topic = hash_search(topics->by_name, name, HASH_ENTER, &found);
	if (found)
		return topic;

	memset((char *) topic + offsetof(DeTopic, partitions), 0,
		   sizeof(DeTopic) - offsetof(DeTopic, partitions));
	topic->state = DE_TOPIC_WANTED;
	topics->pending++;
	if (topics->n == topics->max)
	{
		topics->max = Max(64, topics->max * 2);
		topics->numbered = topics->numbered == NULL ?
			MemoryContextAlloc(topics->context, topics->max * sizeof(DeTopic *)) :
			repalloc(topics->numbered, topics->max * sizeof(DeTopic *));
	}
	topic->number = topics->n;
	topics->numbered[topics->n++] = topic;
	return topic;
}

/*
 * The names and values of a jsonb object, palloc'd in the current context.
 * Kafka knows strings only; anything nested is given as its JSON text, for
 * the broker to refuse.
 */
static const char **
topic_read_config(Jsonb *json)
{
	const char **config = palloc0((2 * JB_ROOT_COUNT(json) + 1) * sizeof(char *));
	JsonbIterator *it = JsonbIteratorInit(&json->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	Datum		number;
	int			n = 0;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			config[n++] = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE)
		{
			switch (v.type)
			{
				case jbvNull:
					n--;		/* as if it were not there */
					config[n] = NULL;
					break;
				case jbvString:
					config[n++] = pnstrdup(v.val.string.val, v.val.string.len);
					break;
				case jbvNumeric:
					number = DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric));
					config[n++] = DatumGetCString(number);
					break;
				case jbvBool:
					config[n++] = v.val.boolean ? "true" : "false";
					break;
				default:
					config[n++] = JsonbToCString(NULL, &JsonbValueToJsonb(&v)->root, 0);
					break;
			}
		}
	}
	return config;
}

/*
 * The topic of an event type.
 */
DeTopic *
de_topics_find(DeTopics *topics, const char *event_type, int len)
{
	TopicType  *entry;
	bool		found;

	entry = topic_enter_type(topics, event_type, len, &found);
	if (!found)
	{
		char		name[DE_MAX_TOPIC_LENGTH + 1];
		int			prefix_len = strlen(de_topic_prefix);

		if (prefix_len + len <= DE_MAX_TOPIC_LENGTH)
		{
			memcpy(name, de_topic_prefix, prefix_len);
			memcpy(name + prefix_len, event_type, len);
			name[prefix_len + len] = '\0';
			/* a NUL inside would hide what follows it */
			if (strlen(name) == (size_t) (prefix_len + len))
				entry->topic = topic_enter(topics, name);
		}
	}
	return entry->topic;
}

/*
 * Another producer.
 */
void
de_topics_restart(DeTopics *topics, const char *forget)
{
	topics->generation++;
	topics->asked = 0;
	topics->comparing = 0;
	for (uint32 i = 0; i < topics->n; i++)
	{
		DeTopic    *topic = topics->numbered[i];

		topic->handle = NULL;
		topic->compare = false;
		if (topic->state == DE_TOPIC_READY)
		{
			if (forget == NULL || strcmp(topic->name, forget) != 0)
				continue;
			topics->pending++;
		}
		topic->state = DE_TOPIC_WANTED;
	}
}

/*
 * Asks for topics and takes answers.
 */
void
de_topics_run(DeTopics *topics, DeProducer *producer)
{
	int64		now;

	if (topics->pending == 0 && topics->comparing == 0)
		return;
	de_producer_poll_topics(producer, topic_answered, topics);
	now = de_monotonic_ms();
	for (uint32 i = 0; i < topics->n && topics->asked < TOPIC_MAX_ASKED; i++)
	{
		DeTopic    *topic = topics->numbered[i];

		if (topic->state == DE_TOPIC_WANTED ||
			(topic->state == DE_TOPIC_FAILED && topic->retry_at <= now))
			topic_ask(topics, topic, producer);
	}
	for (uint32 i = 0; i < topics->n && topics->comparing > 0; i++)
	{
		DeTopic    *topic = topics->numbered[i];

		if (!topic->compare || topic->state != DE_TOPIC_READY)
			continue;
		topic->compare = false;
		if (!de_producer_compare_partitions(producer, topic->name, topic->partitions,
											((uint64) topics->generation << 32) | topic->number))
			topics->comparing--;
	}
}

/*
 * Asks for one topic.
 */
static void
topic_ask(DeTopics *topics, DeTopic *topic, DeProducer *producer)
{
	DeTopicSpec spec;

	spec.name = topic->name;
	spec.partitions = topic->partitions > 0 ? topic->partitions : de_topic_partitions;
	spec.replication_factor = topic->replication_factor > 0 ? topic->replication_factor :
															  de_topic_replication_factor;
	spec.config = topic->config;
	topic->state = DE_TOPIC_ASKED;
	topics->asked++;
	de_producer_create_topic(producer, &spec,
							 ((uint64) topics->generation << 32) | topic->number);
}

/*
 * What became of a topic.
 */
static void
topic_answered(void *arg, const DeTopicResult *result)
{
	DeTopics   *topics = arg;
	DeTopic    *topic;
	static bool told = false;
	bool		assumed;

	/* of before a reload or of a former producer */
	if ((uint32) (result->token >> 32) != topics->generation)
		return;
	topic = topics->numbered[(uint32) result->token];
	if (result->compared)
	{
		topics->comparing--;
		if (result->outcome == DE_KAFKA_OK && result->error[0] == '\0')
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("Kafka topic \"%s\" has fewer partitions than the %d of durable_event.event_type",
							topic->name, topic->partitions),
					 errhint("Partitions are not added to an existing topic, since that moves keys. Add them with Kafka's tools, or correct the number.")));
		return;
	}
	Assert(topic->state == DE_TOPIC_ASKED);
	topics->asked--;

	/* RETRIABLE: nobody has said that it is not there */
	assumed = result->outcome == DE_KAFKA_RETRIABLE &&
		topic->attempts + 1 >= TOPIC_ASSUME_ATTEMPTS;
	if (result->outcome == DE_KAFKA_OK || assumed)
	{
		topic->state = DE_TOPIC_READY;
		topic->attempts = 0;
		topics->pending--;
		if (result->error[0] != '\0')
		{
			/* once: it is the same for all topics */
			if (!told)
				ereport(LOG,
						(errmsg("could not create Kafka topic \"%s\", assuming that it exists",
								topic->name),
						 errdetail("%s", result->error),
						 assumed ? 0 :
								   errhint("Create topics beforehand, or allow the principal of durable_event.kafka_config to create them.")));
			told = true;
		}
		else if (result->existed)
		{
			topic->compare = topic->partitions > 0;
			topics->comparing += topic->compare ? 1 : 0;
		}
		else
			ereport(LOG,
					(errmsg("created Kafka topic \"%s\"", topic->name)));
		return;
	}

	topic->state = DE_TOPIC_FAILED;
	topic->attempts++;
	topic->retry_at = de_monotonic_ms() +
		de_backoff_ms(topic->attempts, TOPIC_RETRY_MIN_MS, TOPIC_RETRY_MAX_MS,
					  pg_prng_double(&pg_global_prng_state));
	if (topic->error != NULL)
		pfree(topic->error);
	topic->error = MemoryContextStrdup(topics->context, result->error);
	/* an outage is the sender's to tell; what the broker refuses concerns this topic alone */
	if (topic->attempts == 1 && result->outcome == DE_KAFKA_REFUSED)
		ereport(LOG,
				(errmsg("could not create Kafka topic \"%s\", trying again", topic->name),
				 errdetail("%s", result->error)));
}

/*
 * When there is something to do.
 */
int64
de_topics_next(DeTopics *topics)
{
	int64		next = PG_INT64_MAX;

	if (topics->pending == topics->asked)
		return next;
	for (uint32 i = 0; i < topics->n; i++)
	{
		DeTopic    *topic = topics->numbered[i];

		if (topic->state == DE_TOPIC_FAILED)
			next = Min(next, topic->retry_at);
		else if (topic->state == DE_TOPIC_WANTED && topics->asked < TOPIC_MAX_ASKED)
			next = 0;
	}
	return next;
}
