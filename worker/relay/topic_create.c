/*-------------------------------------------------------------------------
 *
 * topic_create.c
 *		Asks Kafka for topics, and what became of it.
 *
 * Every registered topic is asked for at once, not only when its first event
 * comes: consumers can join before, and the first event does not wait.  A
 * topic that is there is left as it is, whatever its row says: another number
 * of partitions would move keys.  That it has fewer than its row says is told.
 *
 * After each start every topic is asked for again, and only the controller can
 * say that it exists.  While the controllers are away, or frozen, the leaders
 * of existing topics may well be up; so after TOPIC_ASSUME_ATTEMPTS questions
 * that nobody answered a topic is taken to be there.  If it is not, the records
 * come back as refused after some seconds, and it is asked for again; the
 * broker does not make it up meanwhile, since the producer forbids that.
 *
 * Used by the relay's main thread only, outside of transactions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/memutils.h"

#include "extension/base/guc.h"
#include "worker/base/backoff.h"
#include "worker/kafka/admin.h"
#include "worker/relay/topic_internal.h"

/* Requests under way at once: the controller works them off one by one. */
#define TOPIC_MAX_ASKED 16

/* Short, since an outage of the broker ends up here too. */
#define TOPIC_RETRY_MIN_MS 1000
#define TOPIC_RETRY_MAX_MS 5000

/* Nothing waits for a comparison. */
#define TOPIC_COMPARE_RETRY_MS 30000

/* Questions without an answer after which a topic is taken to be there. */
#define TOPIC_ASSUME_ATTEMPTS 2

static void topic_ask(DeTopics *topics, DeTopic *topic, DeProducer *producer);
static void topic_answered(void *arg, const DeTopicResult *result);

/*
 * Another producer.
 */
void
de_topics_restart(DeTopics *topics, const char *forget)
{
	topics->generation++;
	topics->asked = 0;
	topics->compare_at = 0;
	for (uint32 i = 0; i < topics->n; i++)
	{
		DeTopic    *topic = topics->numbered[i];

		topic->handle = NULL;
		if (topic->state == DE_TOPIC_READY)
		{
			if (forget == NULL || strcmp(topic->name, forget) != 0)
			{
				/* the answer that was due will not come */
				if (topic->comparison == DE_COMPARISON_ASKED)
					de_topic_set_comparison(topics, topic, DE_COMPARISON_WANTED);
				continue;
			}
			topics->pending++;
		}
		topic->state = DE_TOPIC_WANTED;
		de_topic_set_comparison(topics, topic, DE_COMPARISON_NONE);
	}
}

void
de_topic_set_comparison(DeTopics *topics, DeTopic *topic, DeTopicComparison to)
{
	if (topic->comparison != DE_COMPARISON_NONE)
		topics->comparisons[topic->comparison]--;
	topic->comparison = to;
	if (to != DE_COMPARISON_NONE)
		topics->comparisons[to]++;
}

/*
 * The producer has connected.  To another cluster, by a setting or by what a
 * name leads to, no topic is known to be there; the records of one that is not
 * would come back as refused, each after seconds.
 */
void
de_topics_connected(DeTopics *topics, const char *cluster)
{
	if (strcmp(topics->cluster, cluster) == 0)
		return;
	strlcpy(topics->cluster, cluster, sizeof(topics->cluster));
	for (uint32 i = 0; i < topics->n; i++)
	{
		DeTopic    *topic = topics->numbered[i];

		if (topic->state == DE_TOPIC_READY)
			topics->pending++;
		topic->state = DE_TOPIC_WANTED;
		topic->attempts = 0;
		/* to be decided when it is known whether it exists there */
		de_topic_set_comparison(topics, topic, DE_COMPARISON_NONE);
	}
	topics->generation++;
	topics->asked = 0;
	topics->compare_at = 0;
}

/*
 * Asks for topics and takes answers.
 */
void
de_topics_run(DeTopics *topics, DeProducer *producer)
{
	int64		now;

	if (topics->pending == 0 && topics->comparisons[DE_COMPARISON_WANTED] == 0 &&
		topics->comparisons[DE_COMPARISON_ASKED] == 0)
		return;
	de_producer_poll_topics(producer, topic_answered, topics);
	now = de_monotonic_ms();
	for (uint32 i = 0; i < topics->n && topics->asked < TOPIC_MAX_ASKED; i++)
	{
		DeTopic    *topic = topics->numbered[i];

		if (topic->state == DE_TOPIC_WANTED ||
			(topic->state == DE_TOPIC_FAILED && topic->retry_at <= now))
			topic_ask(topics, topic, producer);
	}
	if (now < topics->compare_at)
		return;
	for (uint32 i = 0; i < topics->n && topics->comparisons[DE_COMPARISON_WANTED] > 0; i++)
	{
		DeTopic    *topic = topics->numbered[i];
		bool		asked;

		if (topic->comparison != DE_COMPARISON_WANTED)
			continue;
		Assert(topic->state == DE_TOPIC_READY);
		asked = de_producer_compare_partitions(producer, topic->name, topic->partitions,
											   ((uint64) topics->generation << 32) | topic->number);
		de_topic_set_comparison(topics, topic, asked ? DE_COMPARISON_ASKED : DE_COMPARISON_NONE);
	}
}

/*
 * Asks for one topic.
 */
static void
topic_ask(DeTopics *topics, DeTopic *topic, DeProducer *producer)
{
	DeTopicSpec spec;

	spec.name = topic->name;
	spec.partitions = topic->partitions > 0 ? topic->partitions : de_topic_partitions;
	spec.replication_factor = topic->replication_factor > 0 ? topic->replication_factor :
															  de_topic_replication_factor;
	spec.config = topic->config;
	topic->state = DE_TOPIC_ASKED;
	topics->asked++;
	de_producer_create_topic(producer, &spec,
							 ((uint64) topics->generation << 32) | topic->number);
}

/*
 * What became of a topic.
 */
static void
topic_answered(void *arg, const DeTopicResult *result)
{
	DeTopics   *topics = arg;
	DeTopic    *topic;
	static bool told = false;
	bool		assumed;

	/* of before a reload or of a former producer */
	if ((uint32) (result->token >> 32) != topics->generation)
		return;
	topic = topics->numbered[(uint32) result->token];
	if (result->compared)
	{
		bool		again = result->outcome == DE_KAFKA_RETRIABLE ||
			result->outcome == DE_KAFKA_FATAL;

		Assert(topic->comparison == DE_COMPARISON_ASKED);
		de_topic_set_comparison(topics, topic,
								again ? DE_COMPARISON_WANTED : DE_COMPARISON_NONE);
		if (again)
			topics->compare_at = de_monotonic_ms() + TOPIC_COMPARE_RETRY_MS;
		else if (result->outcome == DE_KAFKA_OK && result->error[0] == '\0')
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("Kafka topic \"%s\" has fewer partitions than the %d of durable_event.event_type",
							topic->name, topic->partitions),
					 errhint("Partitions are not added to an existing topic, since that moves keys. Add them with Kafka's tools, or correct the number.")));
		return;
	}
	Assert(topic->state == DE_TOPIC_ASKED);
	topics->asked--;

	/* RETRIABLE: nobody has said that it is not there */
	assumed = result->outcome == DE_KAFKA_RETRIABLE &&
		topic->attempts + 1 >= TOPIC_ASSUME_ATTEMPTS;
	if (result->outcome == DE_KAFKA_OK || assumed)
	{
		topic->state = DE_TOPIC_READY;
		topic->attempts = 0;
		topic->open = topic->held > 0;
		topics->pending--;
		if (result->error[0] != '\0')
		{
			/* once: it is the same for all topics */
			if (!told)
				ereport(LOG,
						(errmsg("could not create Kafka topic \"%s\", assuming that it exists",
								topic->name),
						 errdetail("%s", result->error),
						 assumed ? 0 :
								   errhint("Create topics beforehand, or allow the principal of durable_event.kafka_config to create them.")));
			told = true;
		}
		else if (result->existed)
		{
			if (topic->partitions > 0)
				de_topic_set_comparison(topics, topic, DE_COMPARISON_WANTED);
		}
		else
			ereport(LOG,
					(errmsg("created Kafka topic \"%s\"", topic->name)));
		return;
	}

	topic->state = DE_TOPIC_FAILED;
	topic->attempts++;
	topic->retry_at = de_monotonic_ms() +
		de_backoff_ms(topic->attempts, TOPIC_RETRY_MIN_MS, TOPIC_RETRY_MAX_MS,
					  pg_prng_double(&pg_global_prng_state));
	if (topic->error != NULL)
		pfree(topic->error);
	topic->error = MemoryContextStrdup(topics->context, result->error);
	/* an outage is the sender's to tell; what the broker refuses concerns this topic alone */
	if (topic->attempts == 1 && result->outcome == DE_KAFKA_REFUSED)
		ereport(LOG,
				(errmsg("could not create Kafka topic \"%s\", trying again", topic->name),
				 errdetail("%s", result->error)));
}

/*
 * When there is something to do.  With as many asked for as may be, nothing is
 * until one of them is answered, which wakes us.
 */
int64
de_topics_next(DeTopics *topics)
{
	int64		next = PG_INT64_MAX;

	if (topics->comparisons[DE_COMPARISON_WANTED] > 0)
		next = topics->compare_at;
	if (topics->pending == topics->asked || topics->asked >= TOPIC_MAX_ASKED)
		return next;
	for (uint32 i = 0; i < topics->n; i++)
	{
		DeTopic    *topic = topics->numbered[i];

		if (topic->state == DE_TOPIC_FAILED)
			next = Min(next, topic->retry_at);
		else if (topic->state == DE_TOPIC_WANTED)
			next = 0;
	}
	return next;
}
