/*-------------------------------------------------------------------------
 *
 * rows.c
 *		Functions that return rows: do they return what this library thinks?
 *
 * A new library serves a database whose extension is of an older version until
 * ALTER EXTENSION UPDATE, and declarations of that version may have other
 * columns.  Values of one type taken for another's crash the server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/lsyscache.h"

#include "extension/rows.h"

/*
 * Begins a set of rows; see rows.h.
 */
ReturnSetInfo *
de_rows_begin(FunctionCallInfo fcinfo, int n, const Oid *types)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TupleDesc	desc;
	bool		same;

	InitMaterializedSRF(fcinfo, 0);
	desc = rsinfo->setDesc;
	same = desc->natts == n;
	for (int i = 0; i < n && same; i++)
		same = TupleDescAttr(desc, i)->atttypid == types[i];
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("function \"%s\" has other columns than this library of durable_event",
						get_func_name(fcinfo->flinfo->fn_oid)),
				 errhint("Bring the extension to the library's version: ALTER EXTENSION durable_event UPDATE.")));
	return rsinfo;
}
