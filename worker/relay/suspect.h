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
} DeSuspect;

/* Is somebody looked for?  Then nothing beyond "until" is to be read. */
#define de_suspect_any(suspect) ((suspect)->until != 0)

/*
 * A request with this event was refused ("of": before it was sent, by the
 * library).  From now on events up to it go one by one.
 */
extern void de_suspect_refused(DeSuspect *suspect, int64_t id);

/* May another event be sent, with so many in flight? */
extern bool de_suspect_may_send(DeSuspect *suspect, int in_flight);

/* An event was sent. */
extern void de_suspect_sent(DeSuspect *suspect);

/* An event was acknowledged, which leaves so many in flight. */
extern void de_suspect_acknowledged(DeSuspect *suspect, int in_flight);

/* All up to this id is acknowledged. */
extern void de_suspect_passed(DeSuspect *suspect, int64_t acked);

/* Events that are sent together at most while one is looked for. */
#define DE_SUSPECT_MAX 4096

#endif							/* DE_SUSPECT_H */
