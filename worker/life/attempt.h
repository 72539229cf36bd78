/*-------------------------------------------------------------------------
 *
 * attempt.h
 *		A transaction whose failure does not end the worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_ATTEMPT_H
#define DE_ATTEMPT_H

/* Why an attempt failed. */
typedef struct DeFailure
{
	int			sqlerrcode;
	char		message[512];	/* of the error and its detail */
} DeFailure;

/*
 * Runs work(arg) in a transaction of its own, in the worker's scratch context;
 * with "snapshot" under an active one.  False if it threw an ERROR: then the
 * transaction is rolled back, nothing is in the log, and the failure is filled
 * in.  Whatever the work has changed in memory is the caller's to put right.
 */
extern bool de_worker_attempt(const char *activity, bool snapshot, void (*work)(void *arg),
							  void *arg, DeFailure *failure);

#endif							/* DE_ATTEMPT_H */
