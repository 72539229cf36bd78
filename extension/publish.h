/*-------------------------------------------------------------------------
 *
 * publish.h
 *		Publishing: the pending events of the transaction under way and
 *		their way into the outbox at commit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_PUBLISH_H
#define DE_PUBLISH_H

#include "extension/base/event.h"
#include "extension/base/shmem.h"
#include "extension/pending.h"

/* Registers the transaction callbacks; from _PG_init only. */
extern void de_publish_init(void);

/*
 * Throws unless this session may publish now: library preloaded, not in
 * recovery, not read-only, not parallel, not past pre-commit.
 */
extern void de_publish_require(void);

/*
 * Adds a validated event to those of the transaction; everything is copied.
 * Throws when the outbox is full.
 */
extern void de_publish_pending(const DePendingEvent *event);

/*
 * The same for an event of a row trigger that fires for the statement with
 * that command id.  One that waits comes when the statement's others are out
 * (held.c).  It goes to the stream "to" (nested.c), or, NULL, to the pending
 * ones.
 */
extern void de_publish_of_statement(const DePendingEvent *event, CommandId command, bool waits,
									DePending *to);

/*
 * A statement has ended, of any kind, with its triggers: none of its events
 * waits any more, nor what waited for it by that name (nested.c; NULL = none).
 */
extern void de_publish_statement_ended(const void *statement);

#endif							/* DE_PUBLISH_H */
