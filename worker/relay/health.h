/*-------------------------------------------------------------------------
 *
 * health.h
 *		Do events get through to Kafka?  Pure: no server, no library, and the
 *		caller brings the time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_HEALTH_H
#define DE_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

/* All times in milliseconds of one monotonic clock; zeroed = nothing known yet. */
typedef struct DeHealth
{
	int64_t		active_at;		/* Kafka last answered or was last given something to do */
	bool		down;			/* all brokers were reported down since the last answer */
	bool		failing;		/* told, not yet taken back */
	int64_t		failing_since;
	int			failures;		/* counted since then */
	int64_t		front;			/* the acknowledged position, and since when it stands */
	int64_t		front_since;
	int64_t		overtaken_at;	/* when others got through after that; 0 = not yet */
	int64_t		stalled_since;	/* front_since of a stall that was told; 0 = none */
} DeHealth;

/* What is seen at one moment. */
typedef struct DeHealthView
{
	int64_t		now;
	int64_t		acked;			/* every event up to this id is acknowledged */
	bool		in_flight;		/* events wait for an acknowledgement */
	bool		connected;		/* a broker has answered this producer */
	bool		replaced;		/* a producer died, and nothing has proved its successor yet */
	bool		refused;		/* an event or topic that is refused holds the others */
} DeHealthView;

typedef enum DeHealthFront
{
	DE_FRONT_SAME,
	DE_FRONT_STALLED,			/* the oldest event waits too long, though others got through */
	DE_FRONT_MOVED				/* what had stalled is acknowledged */
} DeHealthFront;

/* A new producer: an answer is due from now on. */
extern void de_health_begin(DeHealth *health, int64_t now);

/* Kafka has answered by then, or was given something to do. */
extern void de_health_active(DeHealth *health, int64_t at);

/* An event was acknowledged, of which we hear in the turn that began then. */
extern void de_health_acknowledged(DeHealth *health, int64_t at);

/* All that was in flight is to be sent again: nothing can be stalled. */
extern void de_health_forget_front(DeHealth *health);

/* A failure; true if it is the first and has to be told. */
extern bool de_health_fail(DeHealth *health, int64_t now);

/*
 * The three questions of each turn.  A stall and its end come once each,
 * *seconds is how long it has lasted.  Away: nothing is answered although
 * something is due, for *silent_ms; true until de_health_fail was called.
 * Recovered: nothing is left of a failure; true once, *seconds as above.
 */
extern DeHealthFront de_health_front(DeHealth *health, const DeHealthView *view, int *seconds);
extern bool de_health_away(const DeHealth *health, const DeHealthView *view, int *silent_ms);
extern bool de_health_recovered(DeHealth *health, const DeHealthView *view, int *seconds);

/* For how long an event may wait before it counts as stalled. */
#define DE_HEALTH_STALLED_MS 10000

/* Nothing answered for so long: away; the first after all brokers were reported down. */
#define DE_HEALTH_DOWN_MS 1500
#define DE_HEALTH_SILENT_MS 10000

#endif							/* DE_HEALTH_H */
