/*-------------------------------------------------------------------------
 *
 * horizon.h
 *		Ids in commit order, and the id up to which the relay may read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_HORIZON_H
#define DE_HORIZON_H

#include "extension/base/shmem.h"

/*
 * Marks this backend as committing and draws n consecutive ids; returns the
 * first.  To be called at pre-commit, with all row locks of the transaction
 * held.  Derives the counter first if the server has just started.
 */
extern uint64 de_horizon_draw(DeDatabase *db, uint64 n);

/* After the commit is visible: records its LSN, clears the mark, wakes the relay. */
extern void de_horizon_commit(DeDatabase *db);

/* After an abort or at backend exit: clears the mark.  Never throws. */
extern void de_horizon_abort(void);

/*
 * Makes sure that the id counter is derived.  Needs a transaction and an
 * active snapshot; reads every segment's largest id.
 */
extern void de_horizon_derive(DeDatabase *db);

/*
 * For the relay: returns the id up to which every event is committed, visible
 * to a snapshot taken after this call, and flushed to disk — or gone for
 * good.  May flush WAL; call outside of any transaction.  The counter must be
 * derived.  A result may be lower than an earlier one (a publisher may set its
 * mark late): what was safe stays safe.
 */
extern uint64 de_horizon_safe(DeDatabase *db);

/*
 * For people: the process with the lowest mark, whose commit under way holds
 * back all events of later ones, and for how many milliseconds it has had it;
 * false if there is none.
 */
extern bool de_horizon_holder(DeDatabase *db, int *pid, int64 *held_ms);

#endif							/* DE_HORIZON_H */
