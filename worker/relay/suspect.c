/*-------------------------------------------------------------------------
 *
 * suspect.c
 *		Which event is to blame when Kafka refuses a request.
 *
 * An event that Kafka refuses for good is neither skipped nor overtaken.
 * Until topics can be parked, it stops everything: it is named in last_error
 * and tried again with backoff.  A broker refuses a request as a whole, though,
 * whichever of its events is to blame.  So up to the last event of what was
 * refused they are sent one by one, with nothing else in flight: that finds the
 * one, and further attempts repeat none of the events around it that other
 * partitions have taken.  The window may hold tens of thousands, which one by
 * one would take minutes, so each group that is acknowledged doubles the next,
 * and the next refusal begins with one again.
 *
 * Pure: linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "worker/relay/suspect.h"

void
de_suspect_refused(DeSuspect *suspect, int64_t id)
{
	if (id > suspect->until)
		suspect->until = id;
	suspect->limit = 1;
	suspect->left = 0;
}

/*
 * The next group begins when the former is acknowledged as a whole.
 */
bool
de_suspect_may_send(DeSuspect *suspect, int in_flight)
{
	if (suspect->until == 0)
		return true;
	if (in_flight == 0)
		suspect->left = suspect->limit;
	return suspect->left > 0;
}

void
de_suspect_sent(DeSuspect *suspect)
{
	if (suspect->left > 0)
		suspect->left--;
}

void
de_suspect_acknowledged(DeSuspect *suspect, int in_flight)
{
	if (suspect->until == 0 || suspect->left > 0 || in_flight > 0)
		return;
	suspect->limit *= 2;
	if (suspect->limit > DE_SUSPECT_MAX)
		suspect->limit = DE_SUSPECT_MAX;
}

/*
 * Not every error that comes again and again is known as final: then the window
 * would be repeated with every producer, for ever, since the acknowledgements
 * of others look like success.
 */
bool
de_suspect_failed(DeSuspect *suspect, int64_t id)
{
	if (suspect->failed != id)
		suspect->failures = 0;
	suspect->failed = id;
	suspect->failures++;
	return suspect->failures >= DE_SUSPECT_FAILURES;
}

bool
de_suspect_passed(DeSuspect *suspect, int64_t acked)
{
	bool		passed = suspect->failed != 0 && acked >= suspect->failed;

	if (suspect->until != 0 && acked >= suspect->until)
		suspect->until = 0;
	if (passed)
	{
		suspect->failed = 0;
		suspect->failures = 0;
	}
	return passed;
}
