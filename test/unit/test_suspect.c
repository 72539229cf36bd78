/*
 * Looking for the event that Kafka refuses: a broker that refuses every request
 * with a bad event in it, requests of any size, and what it costs to get past.
 *
 * links: worker/relay/suspect.c
 */
#include "tap.h"
#include "worker/relay/suspect.h"

#define MAX_EVENTS 40000

static bool bad[MAX_EVENTS + 1];

/* What one search has cost. */
typedef struct Cost
{
	int			requests;
	int			refusals;
	int			largest;		/* request while one was looked for */
	int			good_repeated;	/* good events in requests that were refused, while looked for */
	bool		in_order;
} Cost;

/*
 * Sends events 1..n as the relay does, "window" of them at once, until all
 * good ones before the first bad one are acknowledged and that one was refused
 * alone, or all are.  Returns the acknowledged position.
 */
static int
send_all(int n, int window, Cost *cost)
{
	DeSuspect	suspect;
	int			acked = 0;

	memset(&suspect, 0, sizeof(suspect));
	memset(cost, 0, sizeof(*cost));
	cost->in_order = true;
	while (acked < n)
	{
		int			sent = acked;
		bool		refused = false;
		bool		searched = de_suspect_any(&suspect);

		while (sent < n && sent - acked < window &&
			   (!searched || sent < suspect.until) &&
			   de_suspect_may_send(&suspect, sent - acked))
		{
			sent++;
			de_suspect_sent(&suspect);
			refused = refused || bad[sent];
		}
		if (sent == acked)
			return -1;			/* nothing may be sent, nothing is in flight: it would hang */
		cost->requests++;
		if (searched && sent - acked > cost->largest)
			cost->largest = sent - acked;
		if (refused)
		{
			cost->refusals++;
			if (searched)
				cost->good_repeated += sent - acked - 1;
			de_suspect_refused(&suspect, sent);
			if (sent - acked == 1)
				return acked;
			continue;
		}
		while (acked < sent)
		{
			acked++;
			de_suspect_acknowledged(&suspect, sent - acked);
		}
		de_suspect_passed(&suspect, acked);
	}
	return acked;
}

int
main(void)
{
	DeSuspect	suspect;
	Cost		cost;
	bool		found = true;
	bool		cheap = true;

	tap_seed();
	memset(&suspect, 0, sizeof(suspect));
	ok(de_suspect_may_send(&suspect, 100000), "nothing suspected, nothing held");

	ok(send_all(MAX_EVENTS, 1000, &cost) == MAX_EVENTS && cost.requests == 40, "all good");

	bad[15000] = true;
	ok(send_all(20000, 20000, &cost) == 14999, "one bad among many is found");
	printf("# %d requests, %d of them refused\n", cost.requests, cost.refusals);
	ok(cost.requests < 100, "in few requests");
	ok(cost.largest <= DE_SUSPECT_MAX, "of bounded size");
	bad[15000] = false;

	bad[1] = true;
	ok(send_all(1000, 1000, &cost) == 0 && cost.requests == 2, "the first one at once");
	bad[1] = false;

	for (int round = 0; round < 200; round++)
	{
		int			n = 1 + (int) tap_random(5000);
		int			window = 1 + (int) tap_random(5000);
		int			first = 1 + (int) tap_random(n);

		bad[first] = true;
		found = found && send_all(n, window, &cost) == first - 1;
		/* groups double from one on, and begin with one again after each of few refusals */
		cheap = cheap && cost.refusals <= 14;
		bad[first] = false;
	}
	ok(found, "wherever it is, however much is sent at once");
	ok(cheap, "with few refusals, each of which costs a producer");

	memset(&suspect, 0, sizeof(suspect));
	ok(!de_suspect_failed(&suspect, 7) && !de_suspect_failed(&suspect, 7), "it may fail twice");
	ok(de_suspect_failing(&suspect) && !de_suspect_any(&suspect), "and nothing is held for it");
	ok(de_suspect_failed(&suspect, 7), "the third time it counts as refused");
	ok(de_suspect_failed(&suspect, 7), "and the fourth");
	ok(!de_suspect_failed(&suspect, 9), "another one begins with its first time");
	ok(!de_suspect_passed(&suspect, 8) && de_suspect_failing(&suspect),
	   "others' acknowledgements prove nothing");
	ok(de_suspect_passed(&suspect, 9) && !de_suspect_failing(&suspect), "its own does");
	ok(!de_suspect_passed(&suspect, 10), "once");
	return tap_done();
}
