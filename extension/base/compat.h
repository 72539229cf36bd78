/*-------------------------------------------------------------------------
 *
 * compat.h
 *		The only place that knows PostgreSQL's version differences.
 *
 * Code elsewhere calls the de_compat names below; a new difference gets a
 * name here, never an #if at its point of use.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_COMPAT_H
#define DE_COMPAT_H

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"
#ifndef FRONTEND				/* pure units are linked into programs too */
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#endif

/* lengths of varlenas left postgres.h in 16 */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM < 150000
#error "durable_event needs PostgreSQL 15 or newer"
#endif

/*
 * A lexer of UTF-8 JSON in the caller's own struct, without de-escaping (which
 * would convert to the database's encoding, and throw).  Allocates nothing;
 * to be driven with json_lex().  Until 17 only an allocating constructor
 * exists, which does no more than this.
 */
static inline void
de_compat_json_lex_begin(JsonLexContext *lex, const char *json, int len)
{
#if PG_VERSION_NUM >= 170000
	(void) makeJsonLexContextCstringLen(lex, json, len, PG_UTF8, false);
#else
	memset(lex, 0, sizeof(*lex));
	lex->input = lex->token_terminator = lex->line_start = unconstify(char *, json);
	lex->line_number = 1;
	lex->input_length = len;
	lex->input_encoding = PG_UTF8;
#endif
}

/* before a function's declaration: it does not return (a word of the server's own from 18 on) */
#if PG_VERSION_NUM >= 180000
#define DE_NORETURN pg_noreturn
#else
#define DE_NORETURN pg_attribute_noreturn()
#endif

#ifndef FRONTEND

/* index of this process in ProcGlobal->allProcs */
#if PG_VERSION_NUM >= 170000
#define DE_MY_PROC_NUMBER ((int) MyProcNumber)
#else
#define DE_MY_PROC_NUMBER (MyProc->pgprocno)
#endif

/* upper bound of DE_MY_PROC_NUMBER for processes that can run a transaction */
#define DE_MAX_PROC_NUMBER MaxBackends

/* number of the PGPROC of another process */
#if PG_VERSION_NUM >= 170000
#define DE_GET_PROC(number) GetPGProcByNumber(number)
#else
#define DE_GET_PROC(number) (&ProcGlobal->allProcs[number])
#endif

/*
 * A wait event of our own where the server lets an extension name one.  Each
 * use expands to its own static, looked up once in a process.
 */
#if PG_VERSION_NUM >= 170000
#define DE_WAIT_EVENT(variable, name) \
	((variable) != 0 ? (variable) : ((variable) = WaitEventExtensionNew(name)))
#else
#define DE_WAIT_EVENT(variable, name) \
	((void) (variable), (uint32) PG_WAIT_EXTENSION)
#endif

static inline WaitEventSet *
de_compat_create_wait_event_set(MemoryContext context, int nevents)
{
#if PG_VERSION_NUM >= 170000
	(void) context;				/* owned by no resource owner: lives until exit */
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(context, nevents);
#endif
}

/* where EXPLAIN wants the scan's figures came as an argument in 18 */
#if PG_VERSION_NUM >= 180000
#define de_compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan((rel), (index), (snapshot), NULL, (nkeys), 0)
#else
#define de_compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan((rel), (index), (snapshot), (nkeys), 0)
#endif

/* entries of a new row in all indexes; an argument came in 16 */
#if PG_VERSION_NUM >= 160000
#define de_compat_insert_index_tuples(result, slot, estate) \
	ExecInsertIndexTuples((result), (slot), (estate), false, false, NULL, NIL, false)
#else
#define de_compat_insert_index_tuples(result, slot, estate) \
	ExecInsertIndexTuples((result), (slot), (estate), false, false, NULL, NIL)
#endif

/* a new, empty relfilenode for a relation (renamed in 16) */
#if PG_VERSION_NUM >= 160000
#define de_compat_set_new_relfilenode(rel) \
	RelationSetNewRelfilenumber((rel), (rel)->rd_rel->relpersistence)
#else
#define de_compat_set_new_relfilenode(rel) \
	RelationSetNewRelfilenode((rel), (rel)->rd_rel->relpersistence)
#endif

/* a statement pointer came as first argument in 17 */
#if PG_VERSION_NUM >= 170000
#define de_compat_reindex_relation(relid, flags, params) \
	reindex_relation(NULL, (relid), (flags), (params))
#else
#define de_compat_reindex_relation(relid, flags, params) \
	reindex_relation((relid), (flags), (params))
#endif

/* shortens one fork of a relation; the present length came as an argument in 18 */
#if PG_VERSION_NUM >= 180000
#define de_compat_truncate_fork(smgr, fork, from, to) \
	smgrtruncate((smgr), (fork), 1, (from), (to))
#else
#define de_compat_truncate_fork(smgr, fork, from, to) \
	((void) (from), smgrtruncate((smgr), (fork), 1, (to)))
#endif

/* one function for all kinds of objects came in 16 */
#if PG_VERSION_NUM >= 160000
#define de_compat_database_ownercheck(dboid, roleid) \
	object_ownercheck(DatabaseRelationId, (dboid), (roleid))
#else
#define de_compat_database_ownercheck(dboid, roleid) \
	pg_database_ownercheck((dboid), (roleid))
#endif

/* what ExecutorRun hooks get; the last argument went in 18 */
#if PG_VERSION_NUM >= 180000
#define DE_COMPAT_EXECUTOR_RUN_PARAMS QueryDesc *query, ScanDirection direction, uint64 count
#define DE_COMPAT_EXECUTOR_RUN_ARGUMENTS query, direction, count
#else
#define DE_COMPAT_EXECUTOR_RUN_PARAMS \
	QueryDesc *query, ScanDirection direction, uint64 count, bool execute_once
#define DE_COMPAT_EXECUTOR_RUN_ARGUMENTS query, direction, count, execute_once
#endif

#endif							/* FRONTEND */

#endif							/* DE_COMPAT_H */
