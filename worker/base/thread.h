/*-------------------------------------------------------------------------
 *
 * thread.h
 *		Signals around library calls that may create a thread.
 *
 * A thread inherits the mask of the one that makes it, and a handler of
 * PostgreSQL must never run on a library's thread (pitfall 1).  Header only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_THREAD_H
#define DE_THREAD_H

#include <pthread.h>
#include <signal.h>

/*
 * Blocks every signal of this thread, e.g. around rd_kafka_new.  Not the
 * server's BlockSig: that leaves SIGQUIT open.
 */
static inline void
de_thread_block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

/* Restores what de_thread_block_signals saved. */
static inline void
de_thread_restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

#endif							/* DE_THREAD_H */
