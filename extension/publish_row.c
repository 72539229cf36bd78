/*-------------------------------------------------------------------------
 *
 * publish_row.c
 *		publish_row(): the trigger that publishes what happens to a table's rows.
 *
 * Consumers replay by key: the last event of a key says whether there is a row
 * and what is in it.  So a row has one key in every session
 * (output_settings.c), a change of the key is a deletion under the old one and
 * a creation under the new one, where one statement moves keys onto each other
 * its deletions come first (held.c), and what a trigger changes in the same
 * table comes behind (nested.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "extension/base/event.h"
#include "extension/nested.h"
#include "extension/output_settings.h"
#include "extension/publish.h"

PG_FUNCTION_INFO_V1(durable_event_publish_row);

/* A key column. */
typedef struct RowKey
{
	AttrNumber	attnum;
	FmgrInfo	output;
} RowKey;

/*
 * What publish_row was told in CREATE TRIGGER, and what follows from it.  Made
 * at a statement's first row and kept in its FmgrInfo: the table cannot change
 * while the statement's triggers fire.
 */
typedef struct RowTrigger
{
	text	   *event_type;
	int			nkeys;
	RowKey	   *keys;
	int			ncolumns;		/* 0 = all */
	AttrNumber *columns;
	TupleDesc	desc;			/* of the columns; NULL = the table's own */
	int			settings;		/* that the text of rows depends on (DE_OUTPUT_...) */
	bool		waits;			/* what is no deletion comes after the statement's deletions */
} RowTrigger;

/* One version of a row, as it is published. */
typedef struct RowImage
{
	text	   *key;
	StringInfoData json;
} RowImage;

static void row_check_call(FunctionCallInfo fcinfo, TriggerData *data);
static RowTrigger *row_trigger_get(FunctionCallInfo fcinfo, TriggerData *data);
static List *row_trigger_columns(TriggerData *data, const char *list, const char *what);
static void row_no_such_column(TriggerData *data, const char *name);
static bool row_key_is_unique(const RowTrigger *trigger, Relation rel);
static CommandId row_command(TriggerData *data);
static void row_image(RowImage *image, RowTrigger *trigger, TriggerData *data, HeapTuple tuple);
static text *row_key(RowTrigger *trigger, TriggerData *data, HeapTuple tuple);
static void row_append_json(StringInfo json, RowTrigger *trigger, TriggerData *data,
							HeapTuple tuple);
static void row_publish(RowTrigger *trigger, TriggerData *data, const char *op,
						const RowImage *new_row, const RowImage *old_row);

/*
 * SQL: publish_row(event_type, key columns [, 'columns=...']) returns trigger:
 * publishes what happened to the row, or that the table was truncated.
 */
Datum
durable_event_publish_row(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	RowTrigger *trigger;
	RowImage	old_row;
	RowImage	new_row;
	int			level;

	row_check_call(fcinfo, data);
	de_publish_require();
	trigger = row_trigger_get(fcinfo, data);

	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
	{
		row_publish(trigger, data, "truncated", NULL, NULL);
		return PointerGetDatum(NULL);
	}

	level = de_output_fixed_begin(trigger->settings);
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		row_image(&new_row, trigger, data, data->tg_trigtuple);
	else
		row_image(&old_row, trigger, data, data->tg_trigtuple);
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		row_image(&new_row, trigger, data, data->tg_newtuple);
	de_output_fixed_end(level);

	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		row_publish(trigger, data, "created", &new_row, NULL);
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		row_publish(trigger, data, "deleted", NULL, &old_row);
	else if (VARSIZE(old_row.key) == VARSIZE(new_row.key) &&
			 memcmp(old_row.key, new_row.key, VARSIZE(old_row.key)) == 0)
		row_publish(trigger, data, "updated", &new_row, &old_row);
	else
	{
		/* consumers of either key see the whole story of it, in order */
		row_publish(trigger, data, "deleted", NULL, &old_row);
		row_publish(trigger, data, "created", &new_row, NULL);
	}
	return PointerGetDatum(NULL);
}

/*
 * Throws unless this is an AFTER trigger, for rows or of TRUNCATE.
 */
static void
row_check_call(FunctionCallInfo fcinfo, TriggerData *data)
{
	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		(TRIGGER_FIRED_FOR_STATEMENT(data->tg_event) &&
		 !TRIGGER_FIRED_BY_TRUNCATE(data->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("durable_event.publish_row() must be called by an AFTER trigger FOR EACH ROW"),
				 errhint("A BEFORE trigger cannot know what the row will be. A trigger FOR EACH STATEMENT may be one of TRUNCATE only.")));
}

/*
 * What the trigger was told: read at a statement's first row.
 */
static RowTrigger *
row_trigger_get(FunctionCallInfo fcinfo, TriggerData *data)
{
	RowTrigger *trigger = fcinfo->flinfo->fn_extra;
	MemoryContext old_context;
	char	  **args = data->tg_trigger->tgargs;
	int			nargs = data->tg_trigger->tgnargs;
	TupleDesc	table_desc = RelationGetDescr(data->tg_relation);
	List	   *keys;
	ListCell   *cell;
	int			key_settings;

	if (trigger != NULL)
		return trigger;

	if (nargs < 2 || nargs > 3 || (nargs == 3 && strncmp(args[2], "columns=", 8) != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid arguments of trigger \"%s\" on table \"%s\"",
						data->tg_trigger->tgname, RelationGetRelationName(data->tg_relation)),
				 errhint("Use durable_event.publish_row('event_type', 'key_column' [, 'columns=a,b,c']).")));

	old_context = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	trigger = palloc0(sizeof(RowTrigger));
	trigger->event_type = cstring_to_text(args[0]);

	keys = row_trigger_columns(data, args[1], "key");
	trigger->keys = palloc(list_length(keys) * sizeof(RowKey));
	foreach(cell, keys)
	{
		RowKey	   *key = &trigger->keys[trigger->nkeys++];
		Oid			type = SPI_gettypeid(table_desc, lfirst_int(cell));
		Oid			output;
		bool		is_varlena;

		key->attnum = lfirst_int(cell);
		getTypeOutputInfo(type, &output, &is_varlena);
		fmgr_info(output, &key->output);
		trigger->settings |= de_output_settings_of(type);
	}
	key_settings = trigger->settings;

	if (nargs == 3)
	{
		List	   *columns = row_trigger_columns(data, args[2] + 8, "columns");

		trigger->columns = palloc(list_length(columns) * sizeof(AttrNumber));
		trigger->desc = CreateTemplateTupleDesc(list_length(columns));
		foreach(cell, columns)
		{
			trigger->columns[trigger->ncolumns++] = lfirst_int(cell);
			TupleDescCopyEntry(trigger->desc, trigger->ncolumns, table_desc, lfirst_int(cell));
			trigger->settings |= de_output_settings_of(SPI_gettypeid(table_desc,
																	 lfirst_int(cell)));
		}
		trigger->desc = BlessTupleDesc(trigger->desc);
	}
	else
	{
		for (int i = 0; i < table_desc->natts; i++)
		{
			if (!TupleDescAttr(table_desc, i)->attisdropped)
				trigger->settings |= de_output_settings_of(TupleDescAttr(table_desc, i)->atttypid);
		}
	}
	/* functions that we know nothing of may need the session's search_path: rather its names */
	if ((trigger->settings & DE_OUTPUT_DATEORDER) && !(key_settings & DE_OUTPUT_NAMES))
		trigger->settings &= ~DE_OUTPUT_NAMES;
	trigger->waits = !row_key_is_unique(trigger, data->tg_relation);
	MemoryContextSwitchTo(old_context);
	fcinfo->flinfo->fn_extra = trigger;
	return trigger;
}

/*
 * Resolves a list of column names of the table to their numbers; throws
 * invalid_parameter_value, undefined_column, duplicate_column.
 */
static List *
row_trigger_columns(TriggerData *data, const char *list, const char *what)
{
	List	   *columns = NIL;
	List	   *names;
	ListCell   *cell;

	if (!SplitIdentifierString(pstrdup(list), ',', &names) || names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s of trigger \"%s\" on table \"%s\"", what,
						data->tg_trigger->tgname, RelationGetRelationName(data->tg_relation)),
				 errhint("Name one or more columns, separated by commas.")));
	foreach(cell, names)
	{
		const char *name = lfirst(cell);
		int			attnum = SPI_fnumber(RelationGetDescr(data->tg_relation), name);

		if (attnum <= 0)
			row_no_such_column(data, name);
		if (list_member_int(columns, attnum))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("column \"%s\" is named twice in the %s of trigger \"%s\" on table \"%s\"",
							name, what, data->tg_trigger->tgname,
							RelationGetRelationName(data->tg_relation))));
		columns = lappend_int(columns, attnum);
	}
	return columns;
}

/*
 * Throws undefined_column.  Names are read as SQL reads them; whoever wrote
 * tenantId is told so.
 */
static void
row_no_such_column(TriggerData *data, const char *name)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	const char *meant = NULL;

	for (int i = 0; i < desc->natts && meant == NULL; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped &&
			pg_strcasecmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			meant = NameStr(TupleDescAttr(desc, i)->attname);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of table \"%s\" does not exist", name,
					RelationGetRelationName(data->tg_relation)),
			 errdetail("It is named by trigger \"%s\".", data->tg_trigger->tgname),
			 meant == NULL ? 0 :
							 errhint("There is a column \"%s\". A name with upper-case letters stands in double quotes, as in '\"%s\"'.",
									 meant, meant)));
}

/*
 * Can no two rows of the table have one key, not even for a moment within a
 * statement?  So when a unique index that is checked at once has no other
 * columns than the key.  Of a partition it must be a part of one on the whole
 * table, not only of one on a partition between; and tables that inherit have
 * no index in common.
 */
static bool
row_key_is_unique(const RowTrigger *trigger, Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *cell;
	bool		unique = false;

	if (!rel->rd_rel->relispartition &&
		(rel->rd_rel->relhassubclass || has_superclass(RelationGetRelid(rel))))
		indexes = NIL;
	foreach(cell, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index index;
		int			ncovered = 0;

		if (!HeapTupleIsValid(tuple))
			continue;
		index = (Form_pg_index) GETSTRUCT(tuple);
		for (int i = 0; i < index->indnkeyatts; i++)
		{
			for (int j = 0; j < trigger->nkeys; j++)
				ncovered += index->indkey.values[i] == trigger->keys[j].attnum;
		}
		unique = index->indisunique && index->indimmediate && index->indisvalid &&
			ncovered == index->indnkeyatts &&
			heap_attisnull(tuple, Anum_pg_index_indpred, NULL) &&
			(!rel->rd_rel->relispartition ||
			 list_length(get_partition_ancestors(index->indexrelid)) ==
				 list_length(get_partition_ancestors(RelationGetRelid(rel))));
		ReleaseSysCache(tuple);
		if (unique)
			break;
	}
	list_free(indexes);
	return unique;
}

/*
 * The command that made the change: that of the new version of the row, or
 * the one that deleted it.  A row of a foreign table does not bear it; nor,
 * maybe, one of another access method.  Those have one for all, so that a
 * statement ends with its executor.
 */
static CommandId
row_command(TriggerData *data)
{
	HeapTuple	tuple = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple :
																data->tg_trigtuple;
	HeapTupleHeader header = tuple->t_data;

	if (data->tg_relation->rd_rel->relam != HEAP_TABLE_AM_OID)
		return FirstCommandId;
	if (!TRIGGER_FIRED_BY_DELETE(data->tg_event))
		return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(header)) ?
			HeapTupleHeaderGetCmin(header) :
			FirstCommandId;
	if ((header->t_infomask & HEAP_XMAX_INVALID) ||
		HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask) ||
		!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(header)))
		return FirstCommandId;
	return HeapTupleHeaderGetCmax(header);
}

/*
 * A version of a row as it is published.
 */
static void
row_image(RowImage *image, RowTrigger *trigger, TriggerData *data, HeapTuple tuple)
{
	image->key = row_key(trigger, data, tuple);
	initStringInfo(&image->json);
	row_append_json(&image->json, trigger, data, tuple);
}

/*
 * The key of a row: its one key column as text; several as their texts joined
 * by "/", with "%" and "/" in them percent-encoded so that no two keys look alike.
 */
static text *
row_key(RowTrigger *trigger, TriggerData *data, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	StringInfoData key;

	initStringInfo(&key);
	for (int i = 0; i < trigger->nkeys; i++)
	{
		AttrNumber	attnum = trigger->keys[i].attnum;
		bool		isnull;
		Datum		datum = heap_getattr(tuple, attnum, desc, &isnull);
		char	   *value;

		if (isnull)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("key column \"%s\" of table \"%s\" is null",
							NameStr(TupleDescAttr(desc, attnum - 1)->attname),
							RelationGetRelationName(data->tg_relation)),
					 errdetail("It is the event key of trigger \"%s\"; events without one have no order.",
							   data->tg_trigger->tgname),
					 errhint("Name columns that are NOT NULL.")));
		value = OutputFunctionCall(&trigger->keys[i].output, datum);
		if (trigger->nkeys == 1)
			return cstring_to_text(value);
		if (i > 0)
			appendStringInfoChar(&key, '/');
		for (const char *p = value; *p; p++)
		{
			if (*p == '%' || *p == '/')
				appendStringInfo(&key, "%%%02X", *p);
			else
				appendStringInfoChar(&key, *p);
		}
	}
	return cstring_to_text_with_len(key.data, key.len);
}

/*
 * Appends the published columns of a row as a JSON object.
 */
static void
row_append_json(StringInfo json, RowTrigger *trigger, TriggerData *data, HeapTuple tuple)
{
	TupleDesc	table_desc = RelationGetDescr(data->tg_relation);
	Datum		row;
	text	   *object;

	if (trigger->ncolumns > 0)
	{
		Datum	   *values = palloc(trigger->ncolumns * sizeof(Datum));
		bool	   *nulls = palloc(trigger->ncolumns * sizeof(bool));

		for (int i = 0; i < trigger->ncolumns; i++)
			values[i] = heap_getattr(tuple, trigger->columns[i], table_desc, &nulls[i]);
		row = heap_copy_tuple_as_datum(heap_form_tuple(trigger->desc, values, nulls),
									   trigger->desc);
	}
	else
		row = heap_copy_tuple_as_datum(tuple, table_desc);
	object = DatumGetTextPP(DirectFunctionCall1(row_to_json, row));
	appendBinaryStringInfo(json, VARDATA_ANY(object), VARSIZE_ANY_EXHDR(object));
}

/*
 * Publishes one change; new_row or old_row or, of a truncation, both are NULL.
 */
static void
row_publish(RowTrigger *trigger, TriggerData *data, const char *op, const RowImage *new_row,
			const RowImage *old_row)
{
	const RowImage *row = new_row != NULL ? new_row : old_row;
	StringInfoData json;
	DePendingEvent event;
	DePending  *to;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"op\":\"%s\"", op);
	if (new_row != NULL)
	{
		appendStringInfoString(&json, ",\"new\":");
		appendBinaryStringInfo(&json, new_row->json.data, new_row->json.len);
	}
	if (old_row != NULL)
	{
		appendStringInfoString(&json, ",\"old\":");
		appendBinaryStringInfo(&json, old_row->json.data, old_row->json.len);
	}
	appendStringInfoChar(&json, '}');
	de_event_build(&event, trigger->event_type, row != NULL ? row->key : NULL,
				   de_bytes_in_utf8(json.data, json.len), NULL, NULL);
	to = row != NULL ? de_nested_stream(data) : NULL;
	if (row != NULL && (trigger->waits || to != NULL))
		de_publish_of_statement(&event, row_command(data), trigger->waits && new_row != NULL, to);
	else
		de_publish_pending(&event);
}
