/*-------------------------------------------------------------------------
 *
 * pending.h
 *		The stream of a transaction's pending events: in memory, then in a
 *		temporary file, cut back at ROLLBACK TO.
 *
 * Belongs to the top transaction: its memory goes with TopTransactionContext.
 * After any error the stream is what it was before the call.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_PENDING_H
#define DE_PENDING_H

#include "extension/base/event.h"

typedef struct DePending DePending;

/*
 * Reading the stream from its begin; zeroed at first but for its context.  The
 * stream must not change meanwhile.
 */
typedef struct DePendingReader
{
	uint64		position;
	MemoryContext context;		/* of the buffer */
	char	   *buffer;			/* a part of the file */
	Size		allocated;
	uint64		base;			/* position in the stream of the buffer's first byte */
	Size		filled;
} DePendingReader;

/* An empty stream. */
extern DePending *de_pending_create(void);

/*
 * Adds an event, copied, of the (sub)transaction of that nest level: the
 * current one, or an outer one as long as no event of an inner one is there.
 * Throws when it cannot be stored; then it is as if it had not been called.
 */
extern void de_pending_add(DePending *pending, const DePendingEvent *event, int nest_level);

/* Events of the stream, and its bytes. */
extern uint64 de_pending_count(const DePending *pending);
extern uint64 de_pending_bytes(const DePending *pending);

/* Bytes of the largest event that ever was in the stream, at least. */
extern Size de_pending_largest(const DePending *pending);

/* Where a stream ends just now, to cut it back to.  Cutting never throws. */
typedef struct DePendingMark
{
	uint64		end;
	uint64		count;
} DePendingMark;

extern DePendingMark de_pending_mark(const DePending *pending);
extern void de_pending_cut(DePending *pending, const DePendingMark *mark);

/* Cuts the stream back to where it was before the subtransaction of that level. */
extern void de_pending_abort_level(DePending *pending, int nest_level);

/* Gives the events of a subtransaction to its parent. */
extern void de_pending_commit_level(DePending *pending, int nest_level);

/*
 * The next event; its columns stay valid until the next call.  False at the
 * end.  Throws when the file cannot be read.
 */
extern bool de_pending_next(DePending *pending, DePendingReader *reader, DePendingEvent *event);

/*
 * Adds the events from a position on to another stream, as de_pending_add()
 * does, and moves the position along: after an error it may be called again.
 */
extern void de_pending_move(DePending *from, uint64 *position, DePending *to, int nest_level);

/* Closes the file, before the resource owner finds it open and warns of a leak. */
extern void de_pending_close(DePending *pending);

/* Frees a stream with its file.  Never throws. */
extern void de_pending_free(DePending *pending);

#endif							/* DE_PENDING_H */
