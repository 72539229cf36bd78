/*-------------------------------------------------------------------------
 *
 * health.c
 *		Do events get through to Kafka?
 *
 * Failures are told once: one line when events cease to get through, one when
 * they do again; this file decides when.
 *
 * Kafka is taken to be away when events are in flight and nothing was
 * acknowledged for a while.  The library's own word that all brokers are down
 * shortens that wait and is not enough: it says so too when the last idle
 * connection is closed, and never takes it back.
 *
 * One partition without a leader holds the acknowledged position, and with the
 * window or the buffer full of its events everything (until topics have a
 * credit of their own).  Others' acknowledgements would hide that for long, so
 * the oldest event in flight is watched by itself ("stalled").
 *
 * Pure: linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/relay/health.h"

/*
 * Others get through if they are acknowledged so much later than the last of
 * its predecessors.  So long it may still come after them: when Kafka answers
 * again after a standstill, its partition need not be the first.
 */
#define HEALTH_OVERTAKEN_MS 1000
#define HEALTH_OVERTAKEN_GRACE_MS 3000

static int	health_seconds(int64_t since, int64_t now);

void
de_health_begin(DeHealth *health, int64_t now)
{
	health->active_at = now;
	health->down = false;
	de_health_forget_front(health);
}

void
de_health_active(DeHealth *health, int64_t at)
{
	health->active_at = at;
}

/*
 * Never moves active_at back: events may have been handed over since.
 */
void
de_health_acknowledged(DeHealth *health, int64_t at)
{
	if (at > health->active_at)
		health->active_at = at;
	health->down = false;
}

/*
 * What stalled is in flight no more, which is not the same as acknowledged.
 */
void
de_health_forget_front(DeHealth *health)
{
	health->stalled_since = 0;
	health->front = -1;
}

bool
de_health_fail(DeHealth *health, int64_t now)
{
	if (health->failing)
	{
		health->failures++;
		return false;
	}
	health->failing = true;
	health->failing_since = now;
	health->failures = 1;
	return true;
}

DeHealthFront
de_health_front(DeHealth *health, const DeHealthView *view, int *seconds)
{
	if (view->acked != health->front || !view->in_flight)
	{
		bool		stalled = health->stalled_since != 0;

		*seconds = health_seconds(health->stalled_since, view->now);
		health->stalled_since = 0;
		health->front = view->acked;
		health->front_since = view->now;
		health->overtaken_at = 0;
		return stalled ? DE_FRONT_MOVED : DE_FRONT_SAME;
	}
	if (health->overtaken_at == 0 &&
		health->active_at - health->front_since >= HEALTH_OVERTAKEN_MS)
		health->overtaken_at = view->now;
	/* that nothing gets through is the more general complaint */
	if (health->stalled_since != 0 || health->failing ||
		view->now - health->front_since < DE_HEALTH_STALLED_MS || health->overtaken_at == 0 ||
		view->now - health->overtaken_at < HEALTH_OVERTAKEN_GRACE_MS)
		return DE_FRONT_SAME;
	health->stalled_since = health->front_since;
	*seconds = health_seconds(health->stalled_since, view->now);
	return DE_FRONT_STALLED;
}

bool
de_health_away(const DeHealth *health, const DeHealthView *view, int *silent_ms)
{
	if (health->failing || (view->connected && !view->in_flight))
		return false;
	*silent_ms = (int) (view->now - health->active_at);
	return *silent_ms >= (health->down ? DE_HEALTH_DOWN_MS : DE_HEALTH_SILENT_MS);
}

bool
de_health_recovered(DeHealth *health, const DeHealthView *view, int *seconds)
{
	if (!health->failing || view->refused || !view->connected)
		return false;
	/* a producer died: that its successor has connected proves nothing yet, that it lives does */
	if (view->replaced &&
		(view->in_flight || view->now - health->active_at < DE_HEALTH_SILENT_MS))
		return false;
	/* with something in flight, only an answer to it counts */
	if (view->in_flight && health->active_at <= health->failing_since)
		return false;
	health->failing = false;
	*seconds = health_seconds(health->failing_since, view->now);
	return true;
}

/*
 * Seconds since then, rounded.
 */
static int
health_seconds(int64_t since, int64_t now)
{
	return (int) ((now - since + 500) / 1000);
}
