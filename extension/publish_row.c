/*-------------------------------------------------------------------------
 *
 * publish_row.c
 *		publish_row(): the trigger that publishes what happens to a table's rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "extension/base/event.h"
#include "extension/publish.h"

PG_FUNCTION_INFO_V1(durable_event_publish_row);

/* What publish_row was told in CREATE TRIGGER; in the call's memory context. */
typedef struct RowTrigger
{
	TriggerData *data;
	text	   *event_type;
	int			nkeys;
	AttrNumber *keys;
	TupleDesc	desc;			/* of the published columns; the table's own if all */
	int			ncolumns;		/* 0 = all */
	AttrNumber *columns;
} RowTrigger;

static void row_trigger_init(RowTrigger *trigger, TriggerData *data);
static void row_trigger_columns(RowTrigger *trigger, const char *list, const char *what,
								int *n, AttrNumber **columns);
static text *row_key(RowTrigger *trigger, HeapTuple tuple);
static void row_append_json(RowTrigger *trigger, StringInfo json, HeapTuple tuple);
static void row_publish(RowTrigger *trigger, const char *op, text *key, HeapTuple new_row,
						HeapTuple old_row);

/*
 * SQL: publish_row(event_type, key columns [, 'columns=...']) returns trigger:
 * publishes what happened to the row.  A change of the key is published as a
 * deletion under the old key and a creation under the new one: consumers of
 * either key see the whole story of it, in order.
 */
Datum
durable_event_publish_row(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	RowTrigger	trigger;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		!TRIGGER_FIRED_AFTER(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("durable_event.publish_row() must be called by an AFTER trigger FOR EACH ROW"),
				 errhint("A BEFORE trigger cannot know what the row will be.")));
	de_publish_require();
	row_trigger_init(&trigger, data);

	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		row_publish(&trigger, "created", row_key(&trigger, data->tg_trigtuple),
					data->tg_trigtuple, NULL);
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		row_publish(&trigger, "deleted", row_key(&trigger, data->tg_trigtuple),
					NULL, data->tg_trigtuple);
	else
	{
		text	   *old_key = row_key(&trigger, data->tg_trigtuple);
		text	   *new_key = row_key(&trigger, data->tg_newtuple);

		if (VARSIZE(old_key) == VARSIZE(new_key) &&
			memcmp(old_key, new_key, VARSIZE(old_key)) == 0)
			row_publish(&trigger, "updated", new_key, data->tg_newtuple, data->tg_trigtuple);
		else
		{
			row_publish(&trigger, "deleted", old_key, NULL, data->tg_trigtuple);
			row_publish(&trigger, "created", new_key, data->tg_newtuple, NULL);
		}
	}
	return PointerGetDatum(NULL);
}

/*
 * Reads the trigger's arguments.
 */
static void
row_trigger_init(RowTrigger *trigger, TriggerData *data)
{
	char	  **args = data->tg_trigger->tgargs;
	int			nargs = data->tg_trigger->tgnargs;
	TupleDesc	table_desc = RelationGetDescr(data->tg_relation);

	if (nargs < 2 || nargs > 3 || (nargs == 3 && strncmp(args[2], "columns=", 8) != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid arguments of trigger \"%s\" on table \"%s\"",
						data->tg_trigger->tgname, RelationGetRelationName(data->tg_relation)),
				 errhint("Use durable_event.publish_row('event_type', 'key_column' [, 'columns=a,b,c']).")));
	trigger->data = data;
	trigger->event_type = cstring_to_text(args[0]);
	row_trigger_columns(trigger, args[1], "key", &trigger->nkeys, &trigger->keys);
	trigger->ncolumns = 0;
	trigger->desc = table_desc;
	if (nargs == 3)
	{
		row_trigger_columns(trigger, args[2] + 8, "columns", &trigger->ncolumns,
							&trigger->columns);
		trigger->desc = CreateTemplateTupleDesc(trigger->ncolumns);
		for (int i = 0; i < trigger->ncolumns; i++)
			TupleDescCopyEntry(trigger->desc, i + 1, table_desc, trigger->columns[i]);
		trigger->desc = BlessTupleDesc(trigger->desc);
	}
}

/*
 * Resolves a list of column names of the table; throws undefined_column.
 */
static void
row_trigger_columns(RowTrigger *trigger, const char *list, const char *what, int *n,
					AttrNumber **columns)
{
	Relation	rel = trigger->data->tg_relation;
	List	   *names;
	ListCell   *cell;

	if (!SplitIdentifierString(pstrdup(list), ',', &names) || names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s of trigger \"%s\" on table \"%s\"", what,
						trigger->data->tg_trigger->tgname, RelationGetRelationName(rel)),
				 errhint("Name one or more columns, separated by commas.")));
	*n = 0;
	*columns = palloc(list_length(names) * sizeof(AttrNumber));
	foreach(cell, names)
	{
		int			attnum = SPI_fnumber(RelationGetDescr(rel), (char *) lfirst(cell));

		if (attnum <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" does not exist",
							(char *) lfirst(cell), RelationGetRelationName(rel)),
					 errdetail("It is named by trigger \"%s\".",
							   trigger->data->tg_trigger->tgname)));
		(*columns)[(*n)++] = attnum;
	}
}

/*
 * The key of a row: its one key column as text; several as their texts joined
 * by "/", with "%" and "/" in them percent-encoded so that no two keys look alike.
 */
static text *
row_key(RowTrigger *trigger, HeapTuple tuple)
{
	Relation	rel = trigger->data->tg_relation;
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData key;

	initStringInfo(&key);
	for (int i = 0; i < trigger->nkeys; i++)
	{
		AttrNumber	attnum = trigger->keys[i];
		char	   *value = SPI_getvalue(tuple, desc, attnum);

		if (value == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("key column \"%s\" of table \"%s\" is null",
							NameStr(TupleDescAttr(desc, attnum - 1)->attname),
							RelationGetRelationName(rel)),
					 errdetail("It is the event key of trigger \"%s\"; events without one have no order.",
							   trigger->data->tg_trigger->tgname),
					 errhint("Name columns that are NOT NULL.")));
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
row_append_json(RowTrigger *trigger, StringInfo json, HeapTuple tuple)
{
	TupleDesc	table_desc = RelationGetDescr(trigger->data->tg_relation);
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
 * Publishes one change; new_row or old_row may be NULL.
 */
static void
row_publish(RowTrigger *trigger, const char *op, text *key, HeapTuple new_row, HeapTuple old_row)
{
	StringInfoData json;
	DePendingEvent event;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"op\":\"%s\"", op);
	if (new_row != NULL)
	{
		appendStringInfoString(&json, ",\"new\":");
		row_append_json(trigger, &json, new_row);
	}
	if (old_row != NULL)
	{
		appendStringInfoString(&json, ",\"old\":");
		row_append_json(trigger, &json, old_row);
	}
	appendStringInfoChar(&json, '}');
	de_event_build(&event, trigger->event_type, key, de_bytes_in_utf8(json.data, json.len),
				   NULL, NULL);
	de_publish_pending(&event);
}
