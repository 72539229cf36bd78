/*-------------------------------------------------------------------------
 *
 * topic.c
 *		Which Kafka topic an event type goes to.
 *
 * Two hash tables: event types (UTF-8, as events carry them) to topics, and
 * topics by name, since types may share one to keep one order.  Both live in
 * a context that is replaced as a whole when durable_event.event_type or the
 * settings change; a topic that was there (topic_create.c) is not asked for
 * again.
 *
 * Used by the relay's main thread only.  A reload runs inside a transaction,
 * everything else outside.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "extension/base/catalog.h"
#include "extension/base/guc.h"
#include "worker/relay/topic_internal.h"

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

static const char *const topic_load_sql =
	"SELECT name::text, topic::text, partitions::int4, replication_factor::int4, topic_config::jsonb"
	" FROM durable_event.event_type ORDER BY name";

static void topics_reset(DeTopics *topics);
static void topics_fill(DeTopics *topics);
static uint32 topic_type_hash(const void *key, Size keysize);
static int	topic_type_match(const void *a, const void *b, Size keysize);
static TopicType *topic_enter_type(DeTopics *topics, const char *name, int len, bool *found);
static DeTopic *topic_enter(DeTopics *topics, const char *name);
static const char **topic_read_config(Jsonb *json);

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
	topics->last = NULL;
	topics->numbered = NULL;
	topics->n = 0;
	topics->max = 0;
	topics->generation++;
	topics->pending = 0;
	topics->asked = 0;
	memset(topics->comparisons, 0, sizeof(topics->comparisons));
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
	DeSpiUser	caller;

	(void) de_relation_oid("event_type", RELKIND_RELATION, false);
	de_spi_connect(&caller);
	if (SPI_execute(topic_load_sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read event_type");
	topics_reset(topics);
	/* a wait for a lock may end in an error, also here: then all is as it was */
	PG_TRY();
	{
		topics_fill(topics);
	}
	PG_CATCH();
	{
		MemoryContextDelete(topics->context);
		*topics = former;
		PG_RE_THROW();
	}
	PG_END_TRY();
	de_spi_finish(&caller);

	hash_seq_init(&status, topics->by_name);
	while ((topic = hash_seq_search(&status)) != NULL)
	{
		DeTopic    *known = hash_search(former.by_name, topic->name, HASH_FIND, NULL);

		if (known != NULL && known->state == DE_TOPIC_READY)
		{
			topic->state = DE_TOPIC_READY;
			topics->pending--;
			/* also if it was asked for: the answer would be of the former row */
			if (topic->partitions > 0 &&
				(known->comparison != DE_COMPARISON_NONE ||
				 topic->partitions != known->partitions))
				de_topic_set_comparison(topics, topic, DE_COMPARISON_WANTED);
		}
	}
	MemoryContextDelete(former.context);
}

/*
 * Fills the map with the rows that have been read.
 */
static void
topics_fill(DeTopics *topics)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *type = SPI_getvalue(tuple, desc, 1);
		char	   *name = SPI_getvalue(tuple, desc, 2);
		bytea	   *utf8 = de_bytes_in_utf8(type, strlen(type));
		char		own[DE_MAX_TOPIC_LENGTH + 1];
		MemoryContext old;
		TopicType  *entry;
		Datum		value;
		bool		isnull;
		bool		found;

		if (name == NULL && de_topic_by_prefix(own, VARDATA_ANY(utf8), VARSIZE_ANY_EXHDR(utf8)))
			name = own;
		old = MemoryContextSwitchTo(topics->context);
		entry = topic_enter_type(topics, VARDATA_ANY(utf8), VARSIZE_ANY_EXHDR(utf8), &found);
		entry->topic = name != NULL ? topic_enter(topics, name) : NULL;
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
		uint32		max = Max(64, topics->max * 2);

		if (topics->numbered == NULL)
			topics->numbered = MemoryContextAlloc(topics->context, max * sizeof(DeTopic *));
		else
			topics->numbered = repalloc(topics->numbered, max * sizeof(DeTopic *));
		topics->max = max;
	}
	topic->hash = hash_bytes((const unsigned char *) topic->name, strlen(topic->name));
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
	TopicType  *entry = topics->last;
	bool		found;

	if (entry != NULL && entry->key.len == (Size) len &&
		memcmp(entry->key.name, event_type, len) == 0)
		return entry->topic;

	entry = topic_enter_type(topics, event_type, len, &found);
	if (!found)
	{
		char		name[DE_MAX_TOPIC_LENGTH + 1];

		if (de_topic_by_prefix(name, event_type, len))
			entry->topic = topic_enter(topics, name);
	}
	topics->last = entry;
	return entry->topic;
}

uint32
de_topics_count(const DeTopics *topics)
{
	return topics->n;
}

DeTopic *
de_topics_by_number(const DeTopics *topics, uint32 number)
{
	return topics->numbered[number];
}

DeTopic *
de_topics_by_name(DeTopics *topics, const char *name)
{
	return hash_search(topics->by_name, name, HASH_FIND, NULL);
}

DeTopic *
de_topics_failing(const DeTopics *topics)
{
	DeTopic    *failing = NULL;

	if (topics->pending == 0)
		return NULL;
	for (uint32 i = 0; i < topics->n; i++)
	{
		DeTopic    *topic = topics->numbered[i];

		if (topic->state == DE_TOPIC_READY || topic->attempts == 0)
			continue;
		if (failing == NULL || topic->held > 0)
			failing = topic;
		if (topic->held > 0)
			break;
	}
	return failing;
}
