/*-------------------------------------------------------------------------
 *
 * identity.c
 *		Whose events these are: the row of relay_state.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "extension/base/catalog.h"
#include "extension/base/config_change.h"
#include "extension/base/guc.h"
#include "extension/base/identity.h"

static void state_update(const char *query, int nvalues, Oid *types, Datum *values);

/*
 * Reads the row of relay_state and says whose events these are.
 */
void
de_state_read(DeRelayStateRow *row)
{
	MemoryContext context = CurrentMemoryContext;
	DeSpiUser	caller;
	bool		copied;
	bool		isnull;

	de_config_note_tables();
	(void) de_relation_oid("relay_state", RELKIND_RELATION, false);
	de_spi_connect(&caller);
	if (SPI_execute("SELECT source::text, database <> (SELECT oid FROM pg_catalog.pg_database"
					" WHERE datname = pg_catalog.current_database()), paused::bool"
					" FROM durable_event.relay_state",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read relay_state");
	row->source = NULL;
	row->paused = false;
	copied = false;
	if (SPI_processed > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Datum		source = SPI_getbinval(tuple, desc, 1, &isnull);

		if (!isnull)
			row->source = MemoryContextStrdup(context, TextDatumGetCString(source));
		copied = DatumGetBool(SPI_getbinval(tuple, desc, 2, &isnull)) && !isnull;
		row->paused = DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull));
	}
	de_spi_finish(&caller);

	if (de_source[0] == '\0' || de_bootstrap_servers[0] == '\0')
		row->identity = DE_IDENTITY_UNCONFIGURED;
	else if (row->source == NULL)
		row->identity = DE_IDENTITY_NEW;
	else if (copied)
		row->identity = DE_IDENTITY_COPIED;
	else if (strcmp(row->source, de_source) != 0)
		row->identity = DE_IDENTITY_OTHER;
	else
		row->identity = DE_IDENTITY_OURS;
}

/*
 * Stores the source this database's relay serves, and that this is its database.
 */
void
de_state_store_source(const char *source)
{
	Oid			types[2] = {TEXTOID, OIDOID};
	Datum		values[2] = {CStringGetTextDatum(source), ObjectIdGetDatum(MyDatabaseId)};

	state_update("UPDATE durable_event.relay_state SET source = $1, database = $2", 2, types,
				 values);
}

/*
 * Stores whether the relay is paused.
 */
void
de_state_set_paused(bool paused)
{
	Oid			types[1] = {BOOLOID};
	Datum		values[1] = {BoolGetDatum(paused)};

	state_update("UPDATE durable_event.relay_state SET paused = $1", 1, types, values);
}

/*
 * Changes the row of relay_state.
 */
static void
state_update(const char *query, int nvalues, Oid *types, Datum *values)
{
	DeSpiUser	caller;

	(void) de_relation_oid("relay_state", RELKIND_RELATION, false);
	de_spi_connect(&caller);
	if (SPI_execute_with_args(query, nvalues, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update relay_state");
	de_spi_finish(&caller);
}
