/*-------------------------------------------------------------------------
 *
 * rows.h
 *		Functions that return rows: do they return what this library thinks?
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_ROWS_H
#define DE_ROWS_H

#include "fmgr.h"
#include "nodes/execnodes.h"

/*
 * InitMaterializedSRF() for rows of n columns of these types.  Throws
 * datatype_mismatch if the function was declared with others.
 */
extern ReturnSetInfo *de_rows_begin(FunctionCallInfo fcinfo, int n, const Oid *types);

#endif							/* DE_ROWS_H */
