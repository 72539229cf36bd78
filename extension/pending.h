/*-------------------------------------------------------------------------
 *
 * pending.h
 *		The stream of a transaction's pending events: in memory, then in a
 *		temporary file, cut back at ROLLBACK TO.
 *
 * Belongs to the top transaction: its memory goes with TopTransactionContext.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_PENDING_H
#define DE_PENDING_H

#include "extension/base/event.h"

typedef struct DePending DePending;

/* Reading the stream from its begin; zeroed before the first event but for its context. */
typedef struct DePendingReader
{
	uint64		position;
	MemoryContext context;		/* of the buffer */
	char	   *buffer;			/* of an event from the file */
	Size		allocated;
} DePendingReader;

/* An empty stream. */
extern DePending *de_pending_create(void);

/*
 * Adds an event, copied, at the nest level of the current (sub)transaction.
 * Throws when it cannot be stored.
 */
extern void de_pending_add(DePending *pending, const DePendingEvent *event);

/* Events of the stream. */
extern uint64 de_pending_count(const DePending *pending);

/* Throws object_not_in_prerequisite_state if an earlier write has failed. */
extern void de_pending_check(const DePending *pending);

/* Cuts the stream back to where it was before the subtransaction of that level. */
extern void de_pending_abort_level(DePending *pending, int nest_level);

/* Gives the events of a subtransaction to its parent. */
extern void de_pending_commit_level(DePending *pending, int nest_level);

/* The next event; its columns stay valid until the next call.  False at the end. */
extern bool de_pending_next(DePending *pending, DePendingReader *reader, DePendingEvent *event);

/* Closes the file, before the resource owner finds it open and warns of a leak. */
extern void de_pending_close(DePending *pending);

#endif							/* DE_PENDING_H */
