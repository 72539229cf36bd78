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

#endif							/* DE_PUBLISH_H */
