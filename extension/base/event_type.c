/*-------------------------------------------------------------------------
 *
 * event_type.c
 *		Which event types may be published.
 *
 * The relay decides the topic of an event, by what event_type says when it
 * comes to it.  But what Kafka would refuse for good is refused here, where the
 * writer can still be told: a name that makes no legal topic; a topic that
 * Kafka takes for the same as a registered one, since its metrics know "." and
 * "_" as one character; an event without a key for a compacted topic.
 *
 * Each backend keeps the rows of event_type, and reads them again when a
 * relcache invalidation says that they have changed (config_change.c): after
 * all, an event costs a comparison with the type before it.  Reading needs a
 * lock on the table.  Whoever has locked it against readers must not stop
 * publishers, so they go on with what they knew, unless the answer depends on
 * the row.
 *
 * Rows are read with the rights of the extension: publishers need none on the
 * table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

#include "extension/base/catalog.h"
#include "extension/base/config_change.h"
#include "extension/base/event_type.h"
#include "extension/base/guc.h"
#include "extension/base/utf8.h"

/* columns of event_type, from 1 */
enum
{
	TYPE_NAME = 1,
	TYPE_TOPIC,
	TYPE_PARTITIONS,
	TYPE_REPLICATION_FACTOR,
	TYPE_TOPIC_CONFIG
};

/* bytes in UTF-8, not NUL-terminated */
typedef struct RegistryKey
{
	const char *bytes;
	Size		len;
} RegistryKey;

/* The first registered topic of that name, "." taken for "_". */
typedef struct RegisteredTopic
{
	RegistryKey key;			/* the name with "_" for each "." */
	const char *name;
	const char *type;			/* the first by name; in the database's encoding */
	bool		configured;		/* by a type that shares it, the first by name to do so */
	bool		compacted;
} RegisteredTopic;

typedef struct RegisteredType
{
	RegistryKey key;
	const char *topic;			/* NULL = no legal name */
} RegisteredType;

/* A row of event_type. */
typedef struct TypeRow
{
	char	   *name;			/* in the database's encoding */
	bytea	   *utf8;			/* the same in UTF-8 */
	char	   *topic;			/* NULL = by prefix and name */
	bool		configured;		/* has a topic_config */
	bool		compacted;		/* as that says */
} TypeRow;

/* The rows as last read, and what follows from them. */
typedef struct Registry
{
	MemoryContext context;		/* of all of it */
	List	   *rows;			/* of TypeRow, by name */
	char	   *prefix;			/* topic_prefix that the tables were made with */
	HTAB	   *types;
	HTAB	   *topics;
} Registry;

static Registry *registry = NULL;	/* NULL = not read yet */
static bool registry_stale = true;

/* the type that was last found right */
static struct
{
	bool		valid;
	int			mode;			/* event_types */
	bool		compacted;
	int			len;
	char		name[DE_MAX_TOPIC_LENGTH];
} checked;

static void registry_refresh(bool wait);
static bool event_type_read(bool wait, List **rows);
static TypeRow *event_type_read_row(HeapTuple tuple, TupleDesc desc);
static int	event_type_compare(const ListCell *a, const ListCell *b);
static bool topic_config_compacts(Jsonb *config);
static Registry *registry_make(List *rows);
static HTAB *registry_table(const char *name, Size entrysize, MemoryContext context);
static uint32 registry_hash(const void *key, Size keysize);
static int	registry_match(const void *a, const void *b, Size keysize);
static RegistryKey topic_key(char *buffer, const char *topic);

/*
 * May this be the name of a Kafka topic?
 */
bool
de_topic_name_is_legal(const char *name, int len)
{
	if (len < 1 || len > DE_MAX_TOPIC_LENGTH)
		return false;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return false;
	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			  c == '.' || c == '_' || c == '-'))
			return false;
	}
	return true;
}

/*
 * Throws unless such an event may be published; see event_type.h.
 */
void
de_event_type_check(const char *name, int len, bool has_key)
{
	char		by_prefix[DE_MAX_TOPIC_LENGTH + 1];
	char		buffer[DE_MAX_TOPIC_LENGTH];
	const char *topic = NULL;
	RegisteredType *type = NULL;
	RegisteredTopic *known;
	RegistryKey key = {name, len};
	bool		legal;

	if (de_config_changed(DE_CONFIG_EVENT_TYPE))
		registry_stale = true;
	if (registry_stale || strcmp(registry->prefix, de_topic_prefix) != 0)
		registry_refresh(de_event_types == DE_EVENT_TYPES_REGISTERED);

	if (checked.valid && checked.len == len && checked.mode == de_event_types &&
		memcmp(checked.name, name, len) == 0 && (has_key || !checked.compacted))
		return;

	legal = de_topic_by_prefix(by_prefix, name, len);
	type = hash_search(registry->types, &key, HASH_FIND, NULL);
	if (type == NULL && (!legal || de_event_types == DE_EVENT_TYPES_REGISTERED))
	{
		/* it may have been registered since this transaction last took a lock */
		AcceptInvalidationMessages();
		if (de_config_changed(DE_CONFIG_EVENT_TYPE))
			registry_stale = true;
		if (registry_stale)
		{
			registry_refresh(true);
			type = hash_search(registry->types, &key, HASH_FIND, NULL);
		}
	}
	if (type != NULL)
		topic = type->topic;
	else if (de_event_types == DE_EVENT_TYPES_REGISTERED)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("event type \"%s\" is not registered",
						text_to_cstring(de_text_from_utf8(name, len))),
				 errhint("Add it to durable_event.event_type, or set durable_event.event_types to any.")));
	else if (legal)
		topic = by_prefix;
	if (topic == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid event type \"%s\"",
						text_to_cstring(de_text_from_utf8(name, len))),
				 errdetail("An event type without a topic of its own consists of at most %d of the characters a-z, A-Z, 0-9, \".\", \"_\" and \"-\".",
						   DE_MAX_TOPIC_LENGTH - (int) strlen(de_topic_prefix)),
				 errhint("Choose another name, or give it a topic in durable_event.event_type.")));

	key = topic_key(buffer, topic);
	known = hash_search(registry->topics, &key, HASH_FIND, NULL);
	if (known != NULL && strcmp(known->name, topic) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("topic \"%s\" of event type \"%s\" collides with topic \"%s\" of event type \"%s\"",
						topic, text_to_cstring(de_text_from_utf8(name, len)),
						known->name, known->type),
				 errdetail("Kafka makes no two topics whose names differ in \".\" and \"_\" only."),
				 errhint("Choose another name, or give it a topic in durable_event.event_type.")));
	if (known != NULL && known->compacted && !has_key)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("event of type \"%s\" has no key",
						text_to_cstring(de_text_from_utf8(name, len))),
				 errdetail("Its topic \"%s\" is compacted, as durable_event.event_type says, and takes no records without a key.",
						   topic),
				 errhint("Publish with a key, or change cleanup.policy of the topic and in topic_config.")));

	if (len <= DE_MAX_TOPIC_LENGTH)
	{
		checked.valid = true;
		checked.mode = de_event_types;
		checked.compacted = known != NULL && known->compacted;
		checked.len = len;
		memcpy(checked.name, name, len);
	}
}

/*
 * Brings the registry up to date.  Unless it is to wait, it may stay stale.
 */
static void
registry_refresh(bool wait)
{
	List	   *rows = registry != NULL ? registry->rows : NIL;
	Registry   *fresh;

	if (registry_stale && event_type_read(wait, &rows))
		registry_stale = false;
	else if (registry != NULL && strcmp(registry->prefix, de_topic_prefix) == 0)
		return;
	fresh = registry_make(rows);
	if (registry != NULL)
		MemoryContextDelete(registry->context);
	registry = fresh;
	checked.valid = false;
}

/*
 * The rows of event_type, by name, in the current memory context; none if the
 * table is not there or not to be trusted, which COMMIT will complain of.
 * False if somebody has locked the table and we are not to wait.
 */
static bool
event_type_read(bool wait, List **rows)
{
	static const Oid types[] = {TEXTOID, TEXTOID, INT4OID, INT4OID, JSONBOID};
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			relid;
	List	   *result = NIL;

	/* before anything is read: what changes from here on is another change */
	de_config_note_tables();
	relid = de_relation_oid("event_type", RELKIND_RELATION, true);
	if (OidIsValid(relid))
	{
		if (wait)
			LockRelationOid(relid, AccessShareLock);
		else if (!ConditionalLockRelationOid(relid, AccessShareLock))
			return false;
	}
	rel = OidIsValid(relid) ? try_table_open(relid, NoLock) : NULL;
	if (rel != NULL)
	{
		de_relation_check_columns(rel, lengthof(types), types);
		PushActiveSnapshot(GetLatestSnapshot());
		scan = systable_beginscan(rel, InvalidOid, false, GetActiveSnapshot(), 0, NULL);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			TypeRow    *row = event_type_read_row(tuple, RelationGetDescr(rel));

			if (row != NULL)
				result = lappend(result, row);
			CHECK_FOR_INTERRUPTS();
		}
		systable_endscan(scan);
		PopActiveSnapshot();
		table_close(rel, AccessShareLock);
	}
	list_sort(result, event_type_compare);
	*rows = result;
	return true;
}

/*
 * One row; NULL if its name is none that could be published.
 */
static TypeRow *
event_type_read_row(HeapTuple tuple, TupleDesc desc)
{
	TypeRow    *row = palloc0(sizeof(TypeRow));
	Datum		value;
	bool		isnull;

	value = heap_getattr(tuple, TYPE_NAME, desc, &isnull);
	if (isnull)
		return NULL;
	row->name = TextDatumGetCString(value);
	/* the one encoding that may hold what cannot be converted; that must stop nobody else */
	if (GetDatabaseEncoding() == PG_SQL_ASCII &&
		!pg_verify_mbstr(PG_UTF8, row->name, strlen(row->name), true))
		return NULL;
	row->utf8 = de_bytes_in_utf8(row->name, strlen(row->name));
	value = heap_getattr(tuple, TYPE_TOPIC, desc, &isnull);
	if (!isnull)
		row->topic = TextDatumGetCString(value);
	value = heap_getattr(tuple, TYPE_TOPIC_CONFIG, desc, &isnull);
	if (!isnull)
	{
		row->configured = true;
		row->compacted = topic_config_compacts(DatumGetJsonbP(value));
	}
	return row;
}

/*
 * Order by name, as the relay reads them.
 */
static int
event_type_compare(const ListCell *a, const ListCell *b)
{
	return strcmp(((TypeRow *) lfirst(a))->name, ((TypeRow *) lfirst(b))->name);
}

/*
 * Is "compact" one of the policies in cleanup.policy?
 */
static bool
topic_config_compacts(Jsonb *config)
{
	static const char name[] = "cleanup.policy";
	JsonbValue	v;
	List	   *policies;
	ListCell   *cell;
	bool		compacts = false;

	if (!JB_ROOT_IS_OBJECT(config) ||
		getKeyJsonValueFromContainer(&config->root, name, strlen(name), &v) == NULL ||
		v.type != jbvString)
		return false;
	if (!SplitGUCList(pnstrdup(v.val.string.val, v.val.string.len), ',', &policies))
		return false;
	foreach(cell, policies)
		compacts |= strcmp((char *) lfirst(cell), "compact") == 0;
	return compacts;
}

/*
 * A registry of copies of the rows, under the present topic_prefix.
 */
static Registry *
registry_make(List *rows)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "durable_event event types",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);
	Registry   *fresh = palloc0(sizeof(Registry));
	ListCell   *cell;

	fresh->context = context;
	fresh->prefix = pstrdup(de_topic_prefix);
	fresh->types = registry_table("durable_event registered types", sizeof(RegisteredType),
								  context);
	fresh->topics = registry_table("durable_event registered topics", sizeof(RegisteredTopic),
								   context);
	foreach(cell, rows)
	{
		TypeRow    *row = palloc(sizeof(TypeRow));
		RegistryKey key;
		RegisteredType *type;
		RegisteredTopic *topic;
		char	   *name = palloc(DE_MAX_TOPIC_LENGTH + 1);
		bool		found;

		*row = *(TypeRow *) lfirst(cell);
		row->name = pstrdup(row->name);
		row->utf8 = (bytea *) PG_DETOAST_DATUM_COPY(PointerGetDatum(row->utf8));
		row->topic = row->topic != NULL ? pstrdup(row->topic) : NULL;
		fresh->rows = lappend(fresh->rows, row);

		key.bytes = VARDATA(row->utf8);
		key.len = VARSIZE(row->utf8) - VARHDRSZ;
		type = hash_search(fresh->types, &key, HASH_ENTER, &found);
		type->topic = row->topic;
		if (row->topic == NULL && de_topic_by_prefix(name, key.bytes, key.len))
			type->topic = name;
		/* the table has a constraint, but one may be dropped */
		if (type->topic != NULL && !de_topic_name_is_legal(type->topic, strlen(type->topic)))
			type->topic = NULL;
		if (type->topic == NULL)
			continue;

		key = topic_key(palloc(DE_MAX_TOPIC_LENGTH), type->topic);
		topic = hash_search(fresh->topics, &key, HASH_ENTER, &found);
		if (!found)
		{
			topic->name = type->topic;
			topic->type = row->name;
			topic->configured = false;
			topic->compacted = false;
		}
		if (row->configured && !topic->configured && strcmp(topic->name, type->topic) == 0)
		{
			topic->configured = true;
			topic->compacted = row->compacted;
		}
	}
	MemoryContextSwitchTo(old_context);
	/* complete: it outlives the transaction */
	MemoryContextSetParent(context, CacheMemoryContext);
	return fresh;
}

/*
 * An empty table by RegistryKey, with which its entries begin.
 */
static HTAB *
registry_table(const char *name, Size entrysize, MemoryContext context)
{
	HASHCTL		ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(RegistryKey);
	ctl.entrysize = entrysize;
	ctl.hash = registry_hash;
	ctl.match = registry_match;
	ctl.hcxt = context;
	return hash_create(name, 64, &ctl, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

static uint32
registry_hash(const void *key, Size keysize)
{
	const RegistryKey *k = key;

	return hash_bytes((const unsigned char *) k->bytes, (int) k->len);
}

static int
registry_match(const void *a, const void *b, Size keysize)
{
	const RegistryKey *left = a;
	const RegistryKey *right = b;

	return left->len == right->len && memcmp(left->bytes, right->bytes, left->len) == 0 ? 0 : 1;
}

/*
 * What topics that Kafka takes for the same have in common, made in the buffer
 * of DE_MAX_TOPIC_LENGTH bytes.
 */
static RegistryKey
topic_key(char *buffer, const char *topic)
{
	RegistryKey key = {buffer, strlen(topic)};

	Assert(key.len <= DE_MAX_TOPIC_LENGTH);
	for (Size i = 0; i < key.len; i++)
		buffer[i] = topic[i] == '.' ? '_' : topic[i];
	return key;
}

bool
de_topic_by_prefix(char *topic, const char *name, int len)
{
	int			prefix_len = strlen(de_topic_prefix);

	if (len == 0 || prefix_len + len > DE_MAX_TOPIC_LENGTH)
		return false;
	memcpy(topic, de_topic_prefix, prefix_len);
	memcpy(topic + prefix_len, name, len);
	topic[prefix_len + len] = '\0';
	return de_topic_name_is_legal(topic, prefix_len + len);
}
