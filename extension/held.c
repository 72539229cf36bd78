/*-------------------------------------------------------------------------
 *
 * held.c
 *		Events of row triggers that wait until the deletions of their
 *		statement are out.
 *
 * A statement may move keys onto each other: UPDATE t SET id = id + 1, a swap,
 * a MERGE.  It changes all its rows at once, but its row triggers fire one
 * after the other, in the order in which the rows were found, and tell
 *		deleted 1, created 2, deleted 2, created 3
 * of which a reader by key would keep that there is no 2.  So what says that
 * there is a row waits here, and comes when the deletions are out:
 *		deleted 1, deleted 2, created 2, created 3
 *
 * Where no two rows can have one key, not even for a moment within a statement,
 * nothing needs to wait: publish_row.c knows these tables, which are nearly
 * all.
 *
 * When have all of a statement's triggers fired?  Its rows bear its command id,
 * also when triggers are deferred and those of many statements fire in a row.
 * What triggers execute themselves is another statement, one trigger depth
 * deeper, and ends before; so the statements in progress are a stack.  One has
 * ended
 * - when something is published, or any statement ends, at a smaller trigger
 *	 depth than its triggers had (executor and utility hooks),
 * - when a row of another statement comes at the same depth, or
 * - when the transaction commits.
 * What a trigger tells publish_event() while rows of its statement are waiting
 * comes before these: its place is where it is called.  Rows of the same table
 * that a trigger changes come behind them (nested.c).
 *
 * The events are in one stream like the pending ones, in memory and then in a
 * file; a statement of a million rows refuses nothing.  The stack's entries say
 * where in it the events of each statement begin, so it needs no other marks
 * for subtransactions: their abort removes entries, and cuts the stream back
 * to the lowest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "extension/held.h"

/* A statement whose row triggers are firing. */
typedef struct HeldStatement
{
	int			depth;			/* of its triggers */
	CommandId	command;
	int			nest_level;		/* of its (sub)transaction */
	DePendingMark begin;		/* of its events in the stream */
	DePending  *to;				/* where they go then; NULL = the pending ones */
	uint64		given;			/* position up to which they have been given away */
	struct HeldStatement *outer;
} HeldStatement;

/* in TopTransactionContext; NULL = none */
static DePending *held = NULL;
static HeldStatement *statements = NULL;

static int	held_trigger_depth(void);
static void held_give(DePending *pending);

/*
 * Keeps an event.
 */
void
de_held_add(const DePendingEvent *event, CommandId command, DePending *to)
{
	int			depth = held_trigger_depth();

	if (held == NULL)
		held = de_pending_create();
	if (statements == NULL || statements->depth < depth)
	{
		HeldStatement *statement = MemoryContextAlloc(TopTransactionContext,
													  sizeof(HeldStatement));

		statement->depth = depth;
		statement->command = command;
		statement->nest_level = GetCurrentTransactionNestLevel();
		statement->begin = de_pending_mark(held);
		statement->to = NULL;
		statement->given = statement->begin.end;
		statement->outer = statements;
		statements = statement;
	}
	Assert(statements->depth == depth && statements->command == command);
	/* of a statement that writes two tables, all waits for the one that must */
	if (to != NULL)
		statements->to = to;
	/* as the top transaction's: cutting back is ours */
	de_pending_add(held, event, 1);
}

/*
 * Events that wait.
 */
uint64
de_held_count(void)
{
	return held != NULL ? de_pending_count(held) : 0;
}

/*
 * Their bytes.
 */
uint64
de_held_bytes(void)
{
	return held != NULL ? de_pending_bytes(held) : 0;
}

/*
 * Gives away what statements that have ended left.
 */
void
de_held_end(DePending *pending)
{
	int			depth;

	if (statements == NULL)
		return;
	depth = held_trigger_depth();
	while (statements != NULL && statements->depth > depth)
		held_give(pending);
}

/*
 * The same, when a row of the statement with that command id comes.
 */
void
de_held_end_former(DePending *pending, CommandId command)
{
	de_held_end(pending);
	if (statements != NULL && statements->depth == held_trigger_depth() &&
		statements->command != command)
		held_give(pending);
}

/*
 * The same, when the transaction ends.
 */
void
de_held_end_all(DePending *pending)
{
	while (statements != NULL)
		held_give(pending);
}

/*
 * Gives the innermost statement's events away.
 *
 * They belong to the statement's subtransaction, though a deeper one may have
 * begun since: the deeper one's abort must not take them along.  No event
 * of a deeper one is in the stream yet, since these events come before it.
 */
static void
held_give(DePending *pending)
{
	HeldStatement *statement = statements;
	int			nest_level = Min(statement->nest_level, GetCurrentTransactionNestLevel());

	/* after an error that somebody catches it goes on where it stopped */
	de_pending_move(held, &statement->given, statement->to != NULL ? statement->to : pending,
					nest_level);
	de_pending_cut(held, &statement->begin);
	statements = statement->outer;
	pfree(statement);
}

/*
 * Depth of the triggers that fire just now, 0 = none.
 */
static int
held_trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

/*
 * A subtransaction aborts, and with it the statements in it.
 */
void
de_held_abort_level(int nest_level)
{
	while (statements != NULL && statements->nest_level >= nest_level)
	{
		HeldStatement *statement = statements;

		de_pending_cut(held, &statement->begin);
		statements = statement->outer;
		pfree(statement);
	}
}

/*
 * A subtransaction commits: its statements are its parent's.
 */
void
de_held_commit_level(int nest_level)
{
	for (HeldStatement *statement = statements; statement != NULL; statement = statement->outer)
		statement->nest_level = Min(statement->nest_level, nest_level - 1);
}

/*
 * Forgets all: the transaction has ended.
 */
void
de_held_forget(void)
{
	held = NULL;
	statements = NULL;
}

/*
 * Closes the file.
 */
void
de_held_close(void)
{
	if (held != NULL)
		de_pending_close(held);
}
