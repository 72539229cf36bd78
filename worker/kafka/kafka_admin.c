/*-------------------------------------------------------------------------
 *
 * kafka_admin.c
 *		Creation of topics, asynchronously, on the producer's handle.
 *
 * A topic is asked for before the first record goes to it, so that it has the
 * partitions and the configuration of its event type; the broker's own
 * auto-creation would give it others, and the number of partitions decides
 * where a key lives.  An existing topic is never changed: growing it would
 * move keys.
 *
 * Where creation is impossible (a principal that may write but not create, a
 * broker without that request or without a controller to send it to, such as
 * the development broker), the topic may well be there.  That is reported as
 * OK with a text: whether it is there shows when it is written to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "worker/kafka/kafka_internal.h"
#include "worker/kafka/kafka_producer.h"

/*
 * How long a request may take; of that, how long the controller waits for all
 * brokers to know.  Events of an existing topic wait that long, too, when the
 * controller is away.
 */
#define ADMIN_REQUEST_TIMEOUT_MS 8000
#define ADMIN_OPERATION_TIMEOUT_MS 5000

static bool admin_has_controller(rd_kafka_t *rk);
static void admin_answer(DeProducer *producer, uint64 token, DeKafkaOutcome outcome,
						 const char *error);
static void admin_report(DeProducer *producer, rd_kafka_event_t *event, DeTopicCallback callback,
						 void *arg);
static void admin_interpret(DeTopicResult *result, rd_kafka_t *rk, rd_kafka_resp_err_t err,
							const char *text);

/*
 * Asks for a topic; see kafka.h.  What the library refuses at once comes as a
 * result too.
 */
void
de_producer_create_topic(DeProducer *producer, const DeTopicSpec *spec, uint64 token)
{
	char		error[DE_KAFKA_ERROR_SIZE] = "";
	rd_kafka_NewTopic_t *topic;
	rd_kafka_AdminOptions_t *options;
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;

	/* the library would wait for a controller until the request's timeout */
	if (!admin_has_controller(producer->rk))
	{
		admin_answer(producer, token, DE_KAFKA_OK, "The cluster has no controller.");
		return;
	}

	topic = rd_kafka_NewTopic_new(spec->name, spec->partitions, spec->replication_factor,
								  error, sizeof(error));
	if (topic == NULL)
		err = RD_KAFKA_RESP_ERR__INVALID_ARG;
	for (int i = 0; topic != NULL && spec->config != NULL && spec->config[i] != NULL; i += 2)
	{
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			err = rd_kafka_NewTopic_set_config(topic, spec->config[i], spec->config[i + 1]);
		if (err != RD_KAFKA_RESP_ERR_NO_ERROR && error[0] == '\0')
			snprintf(error, sizeof(error), "property \"%s\" of the topic cannot be set",
					 spec->config[i]);
	}
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (topic != NULL)
			rd_kafka_NewTopic_destroy(topic);
		admin_answer(producer, token, DE_KAFKA_REFUSED, error);
		return;
	}

	options = rd_kafka_AdminOptions_new(producer->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	rd_kafka_AdminOptions_set_request_timeout(options, ADMIN_REQUEST_TIMEOUT_MS,
											  error, sizeof(error));
	rd_kafka_AdminOptions_set_operation_timeout(options, ADMIN_OPERATION_TIMEOUT_MS,
												error, sizeof(error));
	rd_kafka_AdminOptions_set_opaque(options, (void *) (uintptr_t) token);
	rd_kafka_CreateTopics(producer->rk, &topic, 1, options, producer->admin_queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_NewTopic_destroy(topic);
}

/*
 * Asks whether a topic has fewer partitions; see kafka.h.  This version of the
 * library describes topics in a call only that blocks.  So the question is put
 * as a growth to be validated and not done: it would be possible only if the
 * topic has fewer.  Any error means that it has not, or that we may not know.
 */
bool
de_producer_compare_partitions(DeProducer *producer, const char *name, int partitions,
							   uint64 token)
{
	char		error[DE_KAFKA_ERROR_SIZE];
	rd_kafka_NewPartitions_t *growth;
	rd_kafka_AdminOptions_t *options;

	if (!admin_has_controller(producer->rk))
		return false;
	growth = rd_kafka_NewPartitions_new(name, partitions, error, sizeof(error));
	if (growth == NULL)
		return false;
	options = rd_kafka_AdminOptions_new(producer->rk, RD_KAFKA_ADMIN_OP_CREATEPARTITIONS);
	if (rd_kafka_AdminOptions_set_validate_only(options, 1, error, sizeof(error)) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		/* it must not be done */
		rd_kafka_AdminOptions_destroy(options);
		rd_kafka_NewPartitions_destroy(growth);
		return false;
	}
	rd_kafka_AdminOptions_set_request_timeout(options, ADMIN_REQUEST_TIMEOUT_MS,
											  error, sizeof(error));
	rd_kafka_AdminOptions_set_opaque(options, (void *) (uintptr_t) token);
	rd_kafka_CreatePartitions(producer->rk, &growth, 1, options, producer->admin_queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_NewPartitions_destroy(growth);
	return true;
}

/*
 * Is there somebody to ask?  The library's mock cluster (our development
 * broker, and many a user's test) names a controller, but it is not one of its
 * brokers.
 */
static bool
admin_has_controller(rd_kafka_t *rk)
{
	char	   *id = rd_kafka_clusterid(rk, 0);
	bool		mock = id != NULL && strncmp(id, "mockCluster", strlen("mockCluster")) == 0;

	if (id != NULL)
		rd_kafka_mem_free(rk, id);
	return !mock && rd_kafka_controllerid(rk, 0) >= 0;
}

/*
 * Keeps an answer that is known without asking.  It must not get lost: there
 * is no second question before it.
 */
static void
admin_answer(DeProducer *producer, uint64 token, DeKafkaOutcome outcome, const char *error)
{
	DeAdminAnswer *answer = calloc(1, sizeof(DeAdminAnswer));
	uint64		one = 1;

	if (answer == NULL)
		return;					/* the producer's next failure asks again */
	answer->result.token = token;
	answer->result.outcome = outcome;
	strlcpy(answer->result.error, error, sizeof(answer->result.error));
	answer->next = producer->answers;
	producer->answers = answer;
	/* as the library announces its own */
	if (write(producer->fd, &one, sizeof(one)) < 0)
		return;					/* it is readable already */
}

/*
 * Hands over what became of the topics asked for.  To be called after
 * de_producer_poll, which drains the descriptor.
 */
void
de_producer_poll_topics(DeProducer *producer, DeTopicCallback callback, void *arg)
{
	rd_kafka_event_t *event;
	DeAdminAnswer *answer;

	while ((answer = producer->answers) != NULL)
	{
		producer->answers = answer->next;
		producer->result = answer->result;
		free(answer);
		callback(arg, &producer->result);
	}
	while ((event = rd_kafka_queue_poll(producer->admin_queue, 0)) != NULL)
	{
		if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATETOPICS_RESULT ||
			rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT)
			admin_report(producer, event, callback, arg);
		rd_kafka_event_destroy(event);
	}
}

/*
 * Hands over the result of one request, which was for one topic.
 */
static void
admin_report(DeProducer *producer, rd_kafka_event_t *event, DeTopicCallback callback, void *arg)
{
	DeTopicResult *result = &producer->result;
	rd_kafka_resp_err_t err = rd_kafka_event_error(event);

	memset(result, 0, sizeof(DeTopicResult));
	result->token = (uint64) (uintptr_t) rd_kafka_event_opaque(event);
	result->compared = rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT;
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		admin_interpret(result, producer->rk, err, rd_kafka_event_error_string(event));
	else
	{
		const rd_kafka_topic_result_t **topics;
		size_t		n;

		if (result->compared)
			topics = rd_kafka_CreatePartitions_result_topics(
				rd_kafka_event_CreatePartitions_result(event), &n);
		else
			topics = rd_kafka_CreateTopics_result_topics(
				rd_kafka_event_CreateTopics_result(event), &n);
		for (size_t i = 0; i < n; i++)
			admin_interpret(result, producer->rk, rd_kafka_topic_result_error(topics[i]),
							rd_kafka_topic_result_error_string(topics[i]));
	}
	callback(arg, result);
}

/*
 * Fills in what an error code of a creation means for the topic.
 */
static void
admin_interpret(DeTopicResult *result, rd_kafka_t *rk, rd_kafka_resp_err_t err, const char *text)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
			result->outcome = DE_KAFKA_OK;
			return;
		case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS:
			result->outcome = DE_KAFKA_OK;
			result->existed = true;
			return;

			/* see the head of this file */
		case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
			result->outcome = DE_KAFKA_OK;
			break;
		default:
			result->outcome = de_kafka_classify(rk, err);
			break;
	}
	strlcpy(result->error, text != NULL ? text : rd_kafka_err2str(err), sizeof(result->error));
}
