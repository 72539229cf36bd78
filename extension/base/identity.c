/*-------------------------------------------------------------------------
 *
 * identity.c
 *		Whose events these are: the row of relay_state.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "extension/base/config_change.h"
#include "extension/base/identity.h"

/*
 * Reads the row of relay_state.
 */
void
de_state_read(DeRelayStateRow *row)
{
	MemoryContext context = CurrentMemoryContext;
	bool		isnull;

	de_config_note_tables();
	SPI_connect();
	if (SPI_execute("SELECT source, database <> (SELECT oid FROM pg_catalog.pg_database"
					" WHERE datname = pg_catalog.current_database()), paused"
					" FROM durable_event.relay_state",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read relay_state");
	row->source = NULL;
	row->paused = false;
	row->copied = false;
	if (SPI_processed > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Datum		source = SPI_getbinval(tuple, desc, 1, &isnull);

		if (!isnull)
			row->source = MemoryContextStrdup(context, TextDatumGetCString(source));
		row->copied = DatumGetBool(SPI_getbinval(tuple, desc, 2, &isnull)) && !isnull;
		row->paused = DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull));
	}
	SPI_finish();
}

/*
 * Stores the source this database's relay serves, and that this is its database.
 */
void
de_state_store_source(const char *source)
{
	Oid			types[2] = {TEXTOID, OIDOID};
	Datum		values[2] = {CStringGetTextDatum(source), ObjectIdGetDatum(MyDatabaseId)};

	SPI_connect();
	if (SPI_execute_with_args("UPDATE durable_event.relay_state SET source = $1, database = $2",
							  2, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update relay_state");
	SPI_finish();
}
