/*
 * When events are said not to get through to Kafka, and when they are said to
 * again: stories of what happens second by second, with what has to be told.
 *
 * links: worker/relay/health.c
 */
#include "tap.h"
#include "worker/relay/health.h"

/* what happens */
enum
{
	TURN = 0,					/* nothing but time */
	MADE = 1,					/* a producer */
	GIVEN = 2,					/* the first event in flight */
	ANSWER = 4,					/* something is acknowledged */
	DOWN = 8,					/* all brokers are reported down */
	FAIL = 16,					/* a failure that somebody else has noticed */
	FORGET = 32					/* the window is sent again */
};

/* what is seen in that turn */
enum
{
	IDLE = 0,
	FLYING = 1,					/* events in flight */
	CONNECTED = 2,
	REPLACED = 4,
	REFUSED = 8
};

/* what has to be told */
enum
{
	NOTHING = 0,
	AWAY = 1,					/* the test then calls de_health_fail, as the relay does */
	STALLED = 2,
	MOVED = 4,
	RECOVERED = 8
};

/* A line of the stories. */
typedef struct Turn
{
	const char *name;			/* here begins another story; NULL = a turn of this one */
	int			at;				/* seconds */
	int			what;
	int			seen;
	int			front;			/* the acknowledged position */
	int			told;
} Turn;

#define UP (FLYING | CONNECTED)

static const Turn turns[] = {
	{"idle and connected: nothing to tell, however long"},
	{NULL, 1, MADE, CONNECTED, 0, NOTHING},
	{NULL, 100, TURN, CONNECTED, 0, NOTHING},
	{NULL, 101, DOWN, CONNECTED, 0, NOTHING},
	{NULL, 200, TURN, CONNECTED, 0, NOTHING},
	{"no broker answers: away after ten seconds, also with nothing to send"},
	{NULL, 1, MADE, IDLE, 0, NOTHING},
	{NULL, 10, TURN, IDLE, 0, NOTHING},
	{NULL, 11, TURN, IDLE, 0, AWAY},
	{NULL, 30, TURN, IDLE, 0, NOTHING},
	{"all brokers down: sooner"},
	{NULL, 1, MADE | GIVEN, UP, 0, NOTHING},
	{NULL, 2, DOWN, UP, 0, NOTHING},
	{NULL, 3, TURN, UP, 0, AWAY},
	{"an answer takes the word of brokers down back"},
	{NULL, 1, MADE | GIVEN, UP, 0, NOTHING},
	{NULL, 2, DOWN, UP, 0, NOTHING},
	{NULL, 3, ANSWER, UP, 1, NOTHING},
	{NULL, 12, TURN, UP, 1, NOTHING},
	{NULL, 13, TURN, UP, 1, AWAY},
	{"silence counts from the first event, not from the last answer"},
	{NULL, 1, MADE, CONNECTED, 0, NOTHING},
	{NULL, 50, GIVEN, CONNECTED, 0, NOTHING},
	{NULL, 51, TURN, UP, 0, NOTHING},
	{NULL, 59, TURN, UP, 0, NOTHING},
	{NULL, 60, TURN, UP, 0, AWAY},
	{"away is over with an answer, not with a connection"},
	{NULL, 1, MADE | GIVEN, UP, 0, NOTHING},
	{NULL, 11, TURN, UP, 0, AWAY},
	{NULL, 15, TURN, UP, 0, NOTHING},
	{NULL, 16, ANSWER, UP, 1, RECOVERED},
	{NULL, 17, TURN, UP, 1, NOTHING},
	{"with nothing in flight the connection is enough"},
	{NULL, 1, MADE, IDLE, 0, NOTHING},
	{NULL, 11, TURN, IDLE, 0, AWAY},
	{NULL, 12, TURN, CONNECTED, 0, RECOVERED},
	{"a producer that died: its successor has to live"},
	{NULL, 1, MADE, CONNECTED, 0, NOTHING},
	{NULL, 2, FAIL, IDLE, 0, NOTHING},
	{NULL, 3, MADE, CONNECTED | REPLACED, 0, NOTHING},
	{NULL, 12, TURN, CONNECTED | REPLACED, 0, NOTHING},
	{NULL, 13, TURN, CONNECTED | REPLACED, 0, RECOVERED},
	{"or to have something acknowledged"},
	{NULL, 1, MADE, CONNECTED, 0, NOTHING},
	{NULL, 2, FAIL, IDLE, 0, NOTHING},
	{NULL, 3, MADE | GIVEN, UP | REPLACED, 0, NOTHING},
	{NULL, 4, ANSWER, UP, 1, RECOVERED},
	{"while an event is refused nothing has recovered"},
	{NULL, 1, MADE, CONNECTED, 0, NOTHING},
	{NULL, 2, FAIL, CONNECTED | REFUSED, 0, NOTHING},
	{NULL, 3, ANSWER, CONNECTED | REFUSED, 1, NOTHING},
	{NULL, 4, TURN, CONNECTED, 1, RECOVERED},
	{"one event waits, others get through: stalled after ten seconds, then moved"},
	{NULL, 1, MADE | GIVEN, UP, 0, NOTHING},
	{NULL, 2, ANSWER, UP, 5, NOTHING},
	{NULL, 4, ANSWER, UP, 5, NOTHING},
	{NULL, 8, ANSWER, UP, 5, NOTHING},
	{NULL, 11, ANSWER, UP, 5, NOTHING},
	{NULL, 12, ANSWER, UP, 5, STALLED},
	{NULL, 20, ANSWER, UP, 5, NOTHING},
	{NULL, 21, ANSWER, UP, 9, MOVED},
	{NULL, 22, TURN, UP, 9, NOTHING},
	{"stalled, and then nothing more gets through: away as well"},
	{NULL, 1, MADE | GIVEN, UP, 5, NOTHING},
	{NULL, 4, ANSWER, UP, 5, NOTHING},
	{NULL, 9, ANSWER, UP, 5, NOTHING},
	{NULL, 11, TURN, UP, 5, STALLED},
	{NULL, 18, TURN, UP, 5, NOTHING},
	{NULL, 19, TURN, UP, 5, AWAY},
	{"Kafka comes back: others may be a little earlier"},
	{NULL, 1, MADE | GIVEN, UP, 5, NOTHING},
	{NULL, 11, TURN, UP, 5, AWAY},
	{NULL, 30, ANSWER, UP, 5, RECOVERED},
	{NULL, 32, ANSWER, UP, 5, NOTHING},
	{NULL, 33, ANSWER, UP, 5, STALLED},
	{"what is sent again has not arrived: nothing is said to have moved"},
	{NULL, 1, MADE | GIVEN, UP, 5, NOTHING},
	{NULL, 4, ANSWER, UP, 5, NOTHING},
	{NULL, 9, ANSWER, UP, 5, NOTHING},
	{NULL, 11, TURN, UP, 5, STALLED},
	{NULL, 14, FORGET, CONNECTED, 5, NOTHING},
};

#define N_TURNS (sizeof(turns) / sizeof(turns[0]))

/*
 * One turn of the relay's loop; what has to be told.
 */
static int
take_turn(DeHealth *health, int64_t now, int what, int seen, int front)
{
	DeHealthView view = {
		.now = now,
		.acked = front,
		.in_flight = (seen & FLYING) != 0,
		.connected = (seen & CONNECTED) != 0,
		.replaced = (seen & REPLACED) != 0,
		.refused = (seen & REFUSED) != 0
	};
	int			told = 0;
	int			number;

	if (what & MADE)
		de_health_begin(health, now);
	if (what & ANSWER)
		de_health_acknowledged(health, now);
	if (what & DOWN)
		health->down = true;
	if (what & FAIL)
		de_health_fail(health, now);
	if (what & FORGET)
		de_health_forget_front(health);
	switch (de_health_front(health, &view, &number))
	{
		case DE_FRONT_STALLED:
			told |= STALLED;
			break;
		case DE_FRONT_MOVED:
			told |= MOVED;
			break;
		case DE_FRONT_SAME:
			break;
	}
	if (de_health_away(health, &view, &number))
	{
		told |= AWAY;
		de_health_fail(health, now);
	}
	if (de_health_recovered(health, &view, &number))
		told |= RECOVERED;
	/* acknowledgements are taken at the beginning of a turn, events handed over at its end */
	if (what & GIVEN)
		de_health_active(health, now);
	return told;
}

/*
 * Is told what the story's n turns say, and nothing in the seconds between?
 */
static bool
holds(const Turn *story, int n)
{
	DeHealth	health;
	int			second = story->at;

	memset(&health, 0, sizeof(health));
	for (const Turn *turn = story; turn < story + n; turn++)
	{
		for (; second <= turn->at; second++)
		{
			bool		between = second < turn->at;
			const Turn *now = between ? turn - 1 : turn;
			int			told = take_turn(&health, second * INT64_C(1000),
								 between ? TURN : turn->what, now->seen, now->front);

			if (told != (between ? NOTHING : turn->told))
			{
				printf("# at second %d: told %d, not %d\n", second, told,
					   between ? NOTHING : turn->told);
				return false;
			}
		}
	}
	return true;
}

int
main(void)
{
	DeHealth	health;
	DeHealthView view = {.now = 42000, .connected = true};
	int			seconds = 0;

	for (const Turn *turn = turns; turn < turns + N_TURNS;)
	{
		const Turn *name = turn++;
		int			n = 0;

		while (turn + n < turns + N_TURNS && turn[n].name == NULL)
			n++;
		ok(holds(turn, n), name->name);
		turn += n;
	}

	memset(&health, 0, sizeof(health));
	ok(de_health_fail(&health, 2000), "the first failure is told");
	ok(!de_health_fail(&health, 3000) && !de_health_fail(&health, 4000), "others are counted");
	ok(de_health_recovered(&health, &view, &seconds) && seconds == 40 && health.failures == 3,
	   "and summed up at the end");
	ok(de_health_fail(&health, 50000) && health.failures == 1, "the next one is a first again");
	return tap_done();
}
