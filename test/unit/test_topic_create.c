/*
 * Topics that are asked for and compared: which questions are asked, and what
 * becomes of answers that fail or do not come.
 *
 * links: worker/relay/topic_create.c worker/base/backoff.c
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/memutils.h"

#include "extension/base/guc.h"
#include "tap.h"
#include "worker/kafka/admin.h"
#include "worker/relay/topic_internal.h"

#define TOPICS 3

int			de_topic_partitions = 4;
int			de_topic_replication_factor = -1;

/* ---- what the server and Kafka would be */

static int	warnings = 0;
static DeTopicResult answers[16];
static int	nanswers = 0;
static int	created = 0;		/* questions */
static int	compared = 0;
static uint64 created_token;	/* of the last one */
static uint64 compared_token;
static bool somebody = true;	/* to be asked */

bool
errstart(int elevel, const char *domain)
{
	warnings += elevel == WARNING;
	return elevel >= ERROR;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	printf("Bail out! error raised in %s (%s:%d)\n", funcname, filename, lineno);
	exit(1);
}

int
errcode(int sqlerrcode)
{
	return 0;
}

int
errmsg(const char *fmt, ...)
{
	return 0;
}

int
errdetail(const char *fmt, ...)
{
	return 0;
}

int
errhint(const char *fmt, ...)
{
	return 0;
}

char *
MemoryContextStrdup(MemoryContext context, const char *string)
{
	return pstrdup(string);
}

void
de_producer_create_topic(DeProducer *producer, const DeTopicSpec *spec, uint64 token)
{
	created++;
	created_token = token;
}

bool
de_producer_compare_partitions(DeProducer *producer, const char *name, int partitions,
							   uint64 token)
{
	if (!somebody)
		return false;
	compared++;
	compared_token = token;
	return true;
}

void
de_producer_poll_topics(DeProducer *producer, DeTopicCallback callback, void *arg)
{
	for (int i = 0; i < nanswers; i++)
		callback(arg, &answers[i]);
	nanswers = 0;
}

/* ---- */

static DeTopics topics;
static DeTopic topic[TOPICS];

static void
answer(uint64 token, bool is_comparison, DeKafkaOutcome outcome, bool existed)
{
	DeTopicResult *result = &answers[nanswers++];

	memset(result, 0, sizeof(*result));
	result->token = token;
	result->compared = is_comparison;
	result->outcome = outcome;
	result->existed = existed;
	if (outcome != DE_KAFKA_OK)
		strlcpy(result->error, "no", sizeof(result->error));
}

/* Topics that exist and are to be compared; the comparison of the last one is under way. */
static void
begin(void)
{
	static DeTopic *numbered[TOPICS];

	memset(&topics, 0, sizeof(topics));
	memset(topic, 0, sizeof(topic));
	topics.numbered = numbered;
	topics.n = TOPICS;
	topics.pending = TOPICS;
	strlcpy(topics.cluster, "one", sizeof(topics.cluster));
	for (int i = 0; i < TOPICS; i++)
	{
		topic[i].number = i;
		topic[i].partitions = i == 0 ? 0 : 8;
		numbered[i] = &topic[i];
	}
	compared = created = warnings = nanswers = 0;
	somebody = true;
	de_topics_run(&topics, NULL);
	for (int i = 0; i < TOPICS; i++)
		answer(created_token - i, false, DE_KAFKA_OK, true);
	de_topics_run(&topics, NULL);
}

static bool
idle(void)
{
	return topics.comparisons[DE_COMPARISON_WANTED] == 0 &&
		topics.comparisons[DE_COMPARISON_ASKED] == 0 && topics.pending == 0 &&
		topics.asked == 0 && de_topics_next(&topics) == PG_INT64_MAX;
}

static void
answer_comparisons(DeKafkaOutcome outcome)
{
	answer(compared_token, true, outcome, false);
	answer(compared_token - 1, true, outcome, false);
	de_topics_run(&topics, NULL);
}

int
main(void)
{
	begin();
	ok(created == TOPICS && compared == TOPICS - 1, "those with a number are compared");
	ok(!idle(), "answers are due");
	answer_comparisons(DE_KAFKA_OK);
	ok(idle() && warnings == TOPICS - 1, "fewer: told, and done");

	begin();
	answer_comparisons(DE_KAFKA_REFUSED);
	ok(idle() && warnings == 0, "not fewer: done");

	begin();
	answer_comparisons(DE_KAFKA_RETRIABLE);
	ok(!idle() && compared == TOPICS - 1, "a question without an answer is not asked again at once");
	ok(de_topics_next(&topics) > de_monotonic_ms() + 1000 &&
		   de_topics_next(&topics) < PG_INT64_MAX,
	   "but later");
	topics.compare_at = 0;
	de_topics_run(&topics, NULL);
	ok(compared == 2 * (TOPICS - 1), "namely then");
	answer_comparisons(DE_KAFKA_OK);
	ok(idle() && warnings == TOPICS - 1, "and what comes of it is told");

	begin();
	somebody = false;
	de_topics_restart(&topics, NULL);
	de_topics_run(&topics, NULL);
	ok(idle(), "with nobody to ask there is no answer to wait for");

	begin();
	de_topics_restart(&topics, NULL);
	answer_comparisons(DE_KAFKA_OK);
	ok(warnings == 0 && !idle(), "a former producer's answer is void");
	ok(compared == 2 * (TOPICS - 1), "the next one is asked");
	answer_comparisons(DE_KAFKA_OK);
	ok(idle() && warnings == TOPICS - 1, "and its answer counts, once");

	begin();
	strlcpy(topic[1].name, "gone", sizeof(topic[1].name));
	de_topics_restart(&topics, "gone");
	de_topics_run(&topics, NULL);
	ok(topics.pending == 1 && compared == TOPICS, "a topic that is to be asked for again is not compared yet");
	answer(created_token, false, DE_KAFKA_OK, false);
	answer(compared_token, true, DE_KAFKA_REFUSED, false);
	de_topics_run(&topics, NULL);
	ok(idle(), "nor when it is new");

	begin();
	de_topics_connected(&topics, "another");
	ok(topics.pending == TOPICS && topics.comparisons[DE_COMPARISON_ASKED] == 0 &&
		   topics.comparisons[DE_COMPARISON_WANTED] == 0,
	   "in another cluster all begins anew");
	de_topics_run(&topics, NULL);
	for (int i = 0; i < TOPICS; i++)
		answer(created_token - i, false, DE_KAFKA_OK, i != 0);
	de_topics_run(&topics, NULL);
	ok(compared == TOPICS, "where only a topic that existed is compared");
	answer(compared_token, true, DE_KAFKA_REFUSED, false);
	de_topics_run(&topics, NULL);
	ok(idle(), "and no count is off");
	return tap_done();
}
