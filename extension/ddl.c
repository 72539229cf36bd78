/*-------------------------------------------------------------------------
 *
 * ddl.c
 *		Gets our workers out of the way of commands that need a database
 *		for themselves.
 *
 * DROP DATABASE, CREATE DATABASE ... TEMPLATE, ALTER DATABASE ... RENAME TO and
 * ... SET TABLESPACE fail, after five seconds, while anybody is connected to the
 * database; our workers always are (pitfall 12).  A utility hook in the backend
 * that runs the command holds the database first: it writes the database into its cell in
 * shared memory, sends SIGTERM to the workers there, and waits until they
 * are gone.  No worker starts in a database that is held; worker.c says why
 * none can slip through, and why an empty cell means that its process is not
 * counted as connected any more.
 *
 * How long a hold lasts
 *		To the end of the transaction, or of the subtransaction that is rolled back; not
 *		just of the statement: until then the command's lock keeps new
 *		connections waiting, and after a DROP a worker started between the
 *		statement and its commit could only report that its database does not
 *		exist.  The launcher is woken then.  A hold cannot outlive its backend:
 *		exit aborts the transaction.
 *
 * Who may do that
 *		Whoever may run the command.  For everybody else the command fails
 *		without touching our workers, or any user could stop them at will.
 *		The tests here repeat the server's in that direction only: where they let pass
 *		what the server then refuses, the workers are soon started again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "extension/base/clock.h"
#include "extension/base/compat.h"
#include "extension/ddl.h"
#include "extension/base/shmem.h"

/* Then the command itself has to say who is in its way. */
#define DDL_WAIT_MS 5000
#define DDL_POLL_MS 10

static ProcessUtility_hook_type prev_ProcessUtility = NULL;
static uint32 ddl_wait_event = 0;

static void ddl_process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
								ProcessUtilityContext context, ParamListInfo params,
								QueryEnvironment *queryEnv, DestReceiver *dest,
								QueryCompletion *qc);
static Oid	ddl_database_needed(Node *statement, ProcessUtilityContext context);
static Oid	ddl_dropped(DropdbStmt *statement);
static Oid	ddl_template(CreatedbStmt *statement);
static Oid	ddl_renamed(RenameStmt *statement);
static Oid	ddl_moved(AlterDatabaseStmt *statement);
static bool ddl_may_create_databases(void);
static void ddl_hold(Oid dboid);
static void ddl_signal_worker(DeWorkerCell *cell);
static bool ddl_workers_are_there(DeDatabase *db);
static void ddl_release(void);
static void ddl_xact_callback(XactEvent event, void *arg);
static void ddl_subxact_callback(SubXactEvent event, SubTransactionId mySubid,
								 SubTransactionId parentSubid, void *arg);
static void ddl_exit_callback(int code, Datum arg);

/*
 * Installs the utility hook.
 */
void
de_ddl_init(void)
{
	Assert(process_shared_preload_libraries_in_progress);
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = ddl_process_utility;
}

/*
 * Hook: holds the database that the command needs for itself, then runs it.
 */
static void
ddl_process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
					ProcessUtilityContext context, ParamListInfo params,
					QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Oid			dboid = ddl_database_needed(pstmt->utilityStmt, context);

	if (OidIsValid(dboid))
		ddl_hold(dboid);

	if (prev_ProcessUtility)
		prev_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest,
								qc);
}

/*
 * The database that must be free of other connections for this command, if the
 * command has a chance to succeed; else InvalidOid.  Each other command passes
 * here too, so the tag comes first.
 */
static Oid
ddl_database_needed(Node *statement, ProcessUtilityContext context)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
		case T_CreatedbStmt:
		case T_AlterDatabaseStmt:
			/* refused inside of a transaction block; RENAME is not */
			if (IsInTransactionBlock(context == PROCESS_UTILITY_TOPLEVEL))
				return InvalidOid;
			break;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType != OBJECT_DATABASE)
				return InvalidOid;
			break;
		default:
			return InvalidOid;
	}
	if (de_shared == NULL || XactReadOnly || RecoveryInProgress())
		return InvalidOid;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ddl_dropped((DropdbStmt *) statement);
		case T_CreatedbStmt:
			return ddl_template((CreatedbStmt *) statement);
		case T_AlterDatabaseStmt:
			return ddl_moved((AlterDatabaseStmt *) statement);
		default:
			return ddl_renamed((RenameStmt *) statement);
	}
}

/*
 * DROP DATABASE: its owner may, from another database.
 */
static Oid
ddl_dropped(DropdbStmt *statement)
{
	Oid			dboid = get_database_oid(statement->dbname, true);

	if (!OidIsValid(dboid) || dboid == MyDatabaseId ||
		!de_compat_database_ownercheck(dboid, GetUserId()))
		return InvalidOid;
	return dboid;
}

/*
 * CREATE DATABASE: copies its template, template1 if none is named.  Who may
 * create databases may copy databases marked as templates, and their own.
 */
static Oid
ddl_template(CreatedbStmt *statement)
{
	const char *name = "template1";
	Oid			dboid;
	HeapTuple	tuple;
	bool		is_template = false;
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			name = defGetString(option);
	}
	dboid = get_database_oid(name, true);
	if (!OidIsValid(dboid) || !ddl_may_create_databases())
		return InvalidOid;

	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(dboid));
	if (HeapTupleIsValid(tuple))
	{
		is_template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	if (!is_template && !de_compat_database_ownercheck(dboid, GetUserId()))
		return InvalidOid;
	return dboid;
}

/*
 * ALTER DATABASE ... RENAME TO: its owner may, if he may create databases.
 */
static Oid
ddl_renamed(RenameStmt *statement)
{
	Oid			dboid = get_database_oid(statement->subname, true);

	if (!OidIsValid(dboid) || dboid == MyDatabaseId ||
		!de_compat_database_ownercheck(dboid, GetUserId()) || !ddl_may_create_databases())
		return InvalidOid;
	return dboid;
}

/*
 * ALTER DATABASE ... SET TABLESPACE, of all that this statement can be: its owner may.
 */
static Oid
ddl_moved(AlterDatabaseStmt *statement)
{
	Oid			dboid;
	bool		moves = false;
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
			moves = true;
	}
	if (!moves)
		return InvalidOid;
	dboid = get_database_oid(statement->dbname, true);
	if (!OidIsValid(dboid) || dboid == MyDatabaseId ||
		!de_compat_database_ownercheck(dboid, GetUserId()))
		return InvalidOid;
	return dboid;
}

/*
 * May the current user create databases?  (The server's own test is not exported in 15.)
 */
static bool
ddl_may_create_databases(void)
{
	bool		result = false;
	HeapTuple	tuple;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return result;
}

/*
 * Holds a database until the end of the transaction and waits, for a bounded
 * time, until our workers are out of it.  Throws when cancelled; the abort
 * that follows releases the hold.
 */
static void
ddl_hold(Oid dboid)
{
	static bool callbacks_registered = false;
	int64		deadline = de_monotonic_ms() + DDL_WAIT_MS;
	DeDatabase *db;

	if (!callbacks_registered)
	{
		RegisterXactCallback(ddl_xact_callback, NULL);
		RegisterSubXactCallback(ddl_subxact_callback, NULL);
		on_shmem_exit(ddl_exit_callback, (Datum) 0);
		callbacks_registered = true;
	}
	pg_atomic_write_u32(&de_shared->backends[DE_MY_PROC_NUMBER].c.held_dboid, dboid);

	/* pairs with the one of a starting worker: see worker.c */
	pg_memory_barrier();

	db = de_database_find(dboid);
	if (db == NULL)
		return;					/* no worker was ever here; one that starts now sees the hold */

	/*
	 * One SIGTERM to each that is there now is enough: whoever comes later
	 * leaves by himself.
	 */
	ddl_signal_worker(&db->relay);
	for (int i = 0; i < DE_MAX_PROXY_WORKERS; i++)
		ddl_signal_worker(&db->proxies[i]);

	while (db->dboid == dboid && ddl_workers_are_there(db) && de_monotonic_ms() < deadline)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, DDL_POLL_MS,
						 DE_WAIT_EVENT(ddl_wait_event, "DurableEventDdl"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Sends SIGTERM to the worker in the cell, if there is one.
 */
static void
ddl_signal_worker(DeWorkerCell *cell)
{
	pid_t		pid = (pid_t) pg_atomic_read_u32(&cell->pid);

	if (pid != 0)
		kill(pid, SIGTERM);
}

/*
 * Is any cell of the database taken?
 */
static bool
ddl_workers_are_there(DeDatabase *db)
{
	if (pg_atomic_read_u32(&db->relay.pid) != 0)
		return true;
	for (int i = 0; i < DE_MAX_PROXY_WORKERS; i++)
	{
		if (pg_atomic_read_u32(&db->proxies[i].pid) != 0)
			return true;
	}
	return false;
}

/*
 * Ends the hold of this backend, if there is one, and has the launcher start
 * the workers again.  Never throws.
 */
static void
ddl_release(void)
{
	DeBackendCell *cell = &de_shared->backends[DE_MY_PROC_NUMBER];

	if (pg_atomic_read_u32(&cell->c.held_dboid) == InvalidOid)
		return;
	pg_atomic_write_u32(&cell->c.held_dboid, InvalidOid);
	pg_memory_barrier();
	de_worker_cell_wake(&de_shared->launcher);
}

/*
 * The end of the transaction, which is also the end of the command's lock.
 */
static void
ddl_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		ddl_release();
}

/*
 * A rolled back subtransaction gives its locks up.  Should the hold be an outer
 * one's, a worker may start early and waits for the lock of the command: harmless.
 */
static void
ddl_subxact_callback(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid,
					 void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		ddl_release();
}

/*
 * Backend exit, should the abort on the way have failed.
 */
static void
ddl_exit_callback(int code, Datum arg)
{
	ddl_release();
}
