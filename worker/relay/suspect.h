/*-------------------------------------------------------------------------
 *
 * suspect.h
 *		Which event is to blame when Kafka refuses a request.  Pure: no server,
 *		no library.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_SUSPECT_H
#define DE_SUSPECT_H

#include <stdbool.h>
#include <stdint.h>

/* Zeroed = nothing is suspected. */
typedef struct DeSuspect
{
	int64_t		until;			/* events up to this id are sent in small groups; 0 = none */
	int			limit;			/* size of a group */
	int			left;			/* of that, not sent yet */
	int64_t		failed;			/* the first event that failed in the last producer; 0 = none */
	int			failures;		/* of it, in a row */
} DeSuspect;

/* Is somebody looked for?  Then nothing beyond "until" is to be read. */
#define de_suspect_any(suspect) ((suspect)->until != 0)

/* Has an event failed that is not acknowledged yet? */
#define de_suspect_failing(suspect) ((suspect)->failed != 0)

/*
 * A request with this event was refused.  From now on events up to it go one by
 * one.
 */
extern void de_suspect_refused(DeSuspect *suspect, int64_t id);

/* May another event be sent, with so many in flight? */
extern bool de_suspect_may_send(DeSuspect *suspect, int in_flight);

/* An event was sent. */
extern void de_suspect_sent(DeSuspect *suspect);

/* An event was acknowledged, which leaves so many in flight. */
extern void de_suspect_acknowledged(DeSuspect *suspect, int in_flight);

/*
 * This event was the first to fail in a producer's life, for a reason that may
 * pass.  True when it has done so too often: it counts as refused.
 */
extern bool de_suspect_failed(DeSuspect *suspect, int64_t id);

/* All up to this id is acknowledged; true if an event is among it that had failed. */
extern bool de_suspect_passed(DeSuspect *suspect, int64_t acked);

/* An event that fails so many times in a row counts as refused. */
#define DE_SUSPECT_FAILURES 3

/* Events that are sent together at most while one is looked for. */
#define DE_SUSPECT_MAX 4096

#endif							/* DE_SUSPECT_H */
