/*-------------------------------------------------------------------------
 *
 * held.h
 *		Events of row triggers that wait until the deletions of their
 *		statement are out.
 *
 * Belongs to the top transaction, as the stream they go into.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_HELD_H
#define DE_HELD_H

#include "extension/pending.h"

/*
 * Keeps an event, copied, of the statement with that command id, for which
 * triggers fire just now.  Events of a former statement must be out
 * (de_held_end_former).  They go to the stream "to" then, or, NULL, to the one of
 * de_held_end.  Throws when it cannot be stored.
 */
extern void de_held_add(const DePendingEvent *event, CommandId command, DePending *to);

/* Events that wait, and their bytes. */
extern uint64 de_held_count(void);
extern uint64 de_held_bytes(void);

/*
 * Gives the events of statements that have ended to the stream: of those whose
 * triggers fired deeper than at the depth of the caller.  Throws when one
 * cannot be stored; then it may be called again.
 */
extern void de_held_end(DePending *pending);

/* As de_held_end, and of one with another command id at the caller's own depth. */
extern void de_held_end_former(DePending *pending, CommandId command);

/* All statements have ended: the transaction does. */
extern void de_held_end_all(DePending *pending);

/* A subtransaction of that level aborts, or commits.  Never throws. */
extern void de_held_abort_level(int nest_level);
extern void de_held_commit_level(int nest_level);

/* Forgets all; memory and file go with the transaction. */
extern void de_held_forget(void);

/* Closes the file, before the resource owner finds it open and warns of a leak. */
extern void de_held_close(void);

#endif							/* DE_HELD_H */
