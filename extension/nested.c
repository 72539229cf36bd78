/*-------------------------------------------------------------------------
 *
 * nested.c
 *		Rows that are changed while another statement on their table is in
 *		progress: their events come behind that statement's.
 *
 * A statement's row triggers fire when all its rows are changed.  So what a
 * trigger of its rows, or a function in its RETURNING list, changes in the same
 * table comes after the change that the statement itself made, but is told
 * first: that inner statement's triggers fire at its own end,
 *		updated 1 (by the trigger), created 1 (the row that it fired for)
 * of which a reader by key would keep the former version, or a row that is
 * gone.  So events of an inner statement wait until the nearest outer one that
 * writes the same table has ended, and then stand behind its own.
 *
 * Which statements are in progress only the executor's hooks tell: the trigger
 * by which we would know of the outer one may fire after the one that runs the
 * inner one, and a RETURNING list runs before all.  Queries that write nothing
 * cost a look at their list of targets.
 *
 * A trigger that may be deferred is left alone: it fires in the order of the
 * changes, if it is.  What publish_event() is told in a trigger does not wait:
 * its place is where it is called.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "executor/executor.h"
#include "nodes/parsenodes.h"
#include "parser/parsetree.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "extension/base/compat.h"
#include "extension/nested.h"

/* A statement in progress that writes tables; on the stack of the hook that runs it. */
typedef struct Frame
{
	const void *statement;		/* its QueryDesc, or of COPY this */
	PlannedStmt *plan;			/* NULL = COPY into the table below */
	Oid			table;
	bool		finishing;		/* its own row triggers fire */
	int			nest_level;		/* of its (sub)transaction */
	struct Frame *outer;
} Frame;

/* What waits for the end of a statement, of one table. */
typedef struct Behind
{
	const void *statement;
	Oid			table;
	int			nest_level;		/* of the statement */
	DePending  *events;
	struct Behind *next;
} Behind;

/* what comes next: another's hook, or the server's own */
static ExecutorRun_hook_type prev_ExecutorRun = NULL;
static ExecutorFinish_hook_type prev_ExecutorFinish = NULL;
static ProcessUtility_hook_type prev_ProcessUtility = NULL;

static DeStatementEnded statement_ended = NULL;
static Frame *frames = NULL;	/* innermost first */
static Behind *behinds = NULL;	/* in TopTransactionContext, latest first */

static void nested_executor_run(DE_COMPAT_EXECUTOR_RUN_PARAMS);
static void nested_executor_finish(QueryDesc *query);
static void nested_process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
								   ProcessUtilityContext context, ParamListInfo params,
								   QueryEnvironment *queryEnv, DestReceiver *dest,
								   QueryCompletion *qc);
static void frame_push(Frame *frame, const void *statement, PlannedStmt *plan, bool finishing);
static Oid	copy_target(Node *statement);
static Oid	whole_table(Oid relid);
static bool frame_writes(const Frame *frame, Oid table);
static DePending *nested_behind(Frame *frame, Oid table);
static void nested_give(Behind *behind, DePending *pending);
static void behind_remove(Behind *behind);

/*
 * Installs the hooks.
 */
void
de_nested_init(DeStatementEnded ended)
{
	statement_ended = ended;
	prev_ExecutorRun = ExecutorRun_hook ? ExecutorRun_hook : standard_ExecutorRun;
	ExecutorRun_hook = nested_executor_run;
	prev_ExecutorFinish = ExecutorFinish_hook ? ExecutorFinish_hook : standard_ExecutorFinish;
	ExecutorFinish_hook = nested_executor_finish;
	prev_ProcessUtility = ProcessUtility_hook ? ProcessUtility_hook : standard_ProcessUtility;
	ProcessUtility_hook = nested_process_utility;
}

/*
 * Hook: rows are changed in here, and functions of the query are called.
 */
static void
nested_executor_run(DE_COMPAT_EXECUTOR_RUN_PARAMS)
{
	Frame		frame;

	if (query->plannedstmt->resultRelations == NIL)
	{
		prev_ExecutorRun(DE_COMPAT_EXECUTOR_RUN_ARGUMENTS);
		return;
	}
	frame_push(&frame, query, query->plannedstmt, false);
	PG_TRY();
	{
		prev_ExecutorRun(DE_COMPAT_EXECUTOR_RUN_ARGUMENTS);
	}
	PG_FINALLY();
	{
		frames = frame.outer;
	}
	PG_END_TRY();
}

/*
 * Hook: row triggers fire in here.
 */
static void
nested_executor_finish(QueryDesc *query)
{
	Frame		frame;

	if (query->plannedstmt->resultRelations == NIL)
	{
		prev_ExecutorFinish(query);
		statement_ended(NULL);
		return;
	}
	frame_push(&frame, query, query->plannedstmt, true);
	PG_TRY();
	{
		prev_ExecutorFinish(query);
	}
	PG_FINALLY();
	{
		frames = frame.outer;
	}
	PG_END_TRY();
	statement_ended(query);
}

/*
 * Hook: COPY and SET CONSTRAINTS fire row triggers, too.
 */
static void
nested_process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
					   ProcessUtilityContext context, ParamListInfo params,
					   QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Oid			table = copy_target(pstmt->utilityStmt);
	Frame		frame;

	if (!OidIsValid(table))
	{
		prev_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
		statement_ended(NULL);
		return;
	}
	frame_push(&frame, &frame, NULL, true);
	frame.table = table;
	PG_TRY();
	{
		prev_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	}
	PG_FINALLY();
	{
		frames = frame.outer;
	}
	PG_END_TRY();
	statement_ended(&frame);
}

/*
 * A statement begins; whoever calls this sets frames back, error or not.
 */
static void
frame_push(Frame *frame, const void *statement, PlannedStmt *plan, bool finishing)
{
	frame->statement = statement;
	frame->plan = plan;
	frame->table = InvalidOid;
	frame->finishing = finishing;
	frame->nest_level = GetCurrentTransactionNestLevel();
	frame->outer = frames;
	frames = frame;
}

/*
 * The table that a command copies into; InvalidOid = it is no such command.
 */
static Oid
copy_target(Node *statement)
{
	CopyStmt   *copy = (CopyStmt *) statement;
	Oid			relid;

	if (!IsA(statement, CopyStmt) || !copy->is_from || copy->relation == NULL)
		return InvalidOid;
	relid = RangeVarGetRelid(copy->relation, NoLock, true);
	return OidIsValid(relid) ? whole_table(relid) : InvalidOid;
}

/*
 * The table that a relation is a partition of, or it is itself.
 */
static Oid
whole_table(Oid relid)
{
	List	   *ancestors;

	if (!get_rel_relispartition(relid))
		return relid;
	ancestors = get_partition_ancestors(relid);
	return ancestors != NIL ? llast_oid(ancestors) : relid;
}

/*
 * Does the statement write that table?
 */
static bool
frame_writes(const Frame *frame, Oid table)
{
	ListCell   *cell;

	if (frame->plan == NULL)
		return frame->table == table;
	foreach(cell, frame->plan->resultRelations)
	{
		RangeTblEntry *rte = rt_fetch(lfirst_int(cell), frame->plan->rtable);

		if (rte->relid == table || whole_table(rte->relid) == table)
			return true;
	}
	return false;
}

/*
 * Where the event of a row trigger goes; see nested.h.
 */
DePending *
de_nested_stream(TriggerData *data)
{
	Frame	   *frame = frames;
	Oid			table;

	/* the innermost is the one that the trigger fires for */
	if (frame != NULL && frame->finishing)
		frame = frame->outer;
	if (frame == NULL || data->tg_trigger->tgdeferrable)
		return NULL;
	table = whole_table(RelationGetRelid(data->tg_relation));
	for (; frame != NULL; frame = frame->outer)
	{
		if (frame_writes(frame, table))
			return nested_behind(frame, table);
	}
	return NULL;
}

/*
 * The stream of what waits for a statement.
 */
static DePending *
nested_behind(Frame *frame, Oid table)
{
	Behind	   *behind;

	for (behind = behinds; behind != NULL; behind = behind->next)
	{
		if (behind->statement == frame->statement && behind->table == table)
			return behind->events;
	}
	behind = MemoryContextAllocZero(TopTransactionContext, sizeof(Behind));
	behind->events = de_pending_create();
	behind->statement = frame->statement;
	behind->table = table;
	behind->nest_level = frame->nest_level;
	behind->next = behinds;
	behinds = behind;
	return behind->events;
}

/*
 * A statement has ended: what waited for it goes where its own events went,
 * behind them.
 */
void
de_nested_end(const void *statement, DePending *pending)
{
	Behind	   *behind = behinds;

	while (behind != NULL)
	{
		Behind	   *next = behind->next;

		if (behind->statement == statement)
		{
			DePending  *to = pending;

			for (Frame *frame = frames; frame != NULL; frame = frame->outer)
			{
				if (frame_writes(frame, behind->table))
				{
					to = nested_behind(frame, behind->table);
					break;
				}
			}
			nested_give(behind, to);
		}
		behind = next;
	}
}

/*
 * The same for all statements.
 */
void
de_nested_end_all(DePending *pending)
{
	while (behinds != NULL)
		nested_give(behinds, pending);
}

/*
 * Gives events away.  Subtransactions within the statement have ended, so they
 * are the statement's.
 */
static void
nested_give(Behind *behind, DePending *to)
{
	uint64		position = 0;

	de_pending_move(behind->events, &position, to,
					Min(behind->nest_level, GetCurrentTransactionNestLevel()));
	behind_remove(behind);
}

/*
 * Frees a stream.  Never throws.
 */
static void
behind_remove(Behind *behind)
{
	Behind	  **link = &behinds;

	while (*link != behind)
		link = &(*link)->next;
	*link = behind->next;
	de_pending_free(behind->events);
	pfree(behind);
}

/*
 * Events that wait.
 */
uint64
de_nested_count(void)
{
	uint64		count = 0;

	for (Behind *behind = behinds; behind != NULL; behind = behind->next)
		count += de_pending_count(behind->events);
	return count;
}

/*
 * Their bytes.
 */
uint64
de_nested_bytes(void)
{
	uint64		bytes = 0;

	for (Behind *behind = behinds; behind != NULL; behind = behind->next)
		bytes += de_pending_bytes(behind->events);
	return bytes;
}

/*
 * A subtransaction aborts: statements in it are gone, others lose what
 * waited for them from within it.
 */
void
de_nested_abort_level(int nest_level)
{
	Behind	   *behind = behinds;

	while (behind != NULL)
	{
		Behind	   *next = behind->next;

		if (behind->nest_level >= nest_level)
			behind_remove(behind);
		else
			de_pending_abort_level(behind->events, nest_level);
		behind = next;
	}
}

/*
 * A subtransaction commits: what it has published is its parent's.
 */
void
de_nested_commit_level(int nest_level)
{
	for (Behind *behind = behinds; behind != NULL; behind = behind->next)
	{
		de_pending_commit_level(behind->events, nest_level);
		behind->nest_level = Min(behind->nest_level, nest_level - 1);
	}
}

/*
 * Forgets all: the transaction has ended.
 */
void
de_nested_forget(void)
{
	behinds = NULL;
}

/*
 * Closes the files.
 */
void
de_nested_close(void)
{
	for (Behind *behind = behinds; behind != NULL; behind = behind->next)
		de_pending_close(behind->events);
}
