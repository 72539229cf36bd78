/*-------------------------------------------------------------------------
 *
 * progress.h
 *		Stored progress: where a restarted relay begins.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_PROGRESS_H
#define DE_PROGRESS_H

/*
 * Stored progress: a restart begins after this id.  Need a transaction.  Storing
 * waits for no lock, but throws lock_not_available.
 */
extern int64 de_progress_load(void);
extern void de_progress_store(int64 id);

#endif							/* DE_PROGRESS_H */
