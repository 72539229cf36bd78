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
 * (held.c).
 */
extern void de_publish_of_statement(const DePendingEvent *event, CommandId command, bool waits);

/* A statement has ended, of any kind, with its triggers: none of its events waits any more. */
extern void de_publish_statement_ended(void);

#endif							/* DE_PUBLISH_H */
