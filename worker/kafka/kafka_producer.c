/*-------------------------------------------------------------------------
 *
 * kafka_producer.c
 *		A producer: the relay's, and whoever else writes to Kafka.
 *
 * What order and delivery rest on, all of it fixed (the first two unless the
 * caller can do without):
 *		enable.idempotence			the broker drops what a retry repeats and
 *									refuses what would overtake
 *		enable.gapless.guarantee	without it a refused record is skipped and
 *									its queued successors are sent
 *		acks = all					implied, said for the reader
 *		message.timeout.ms = 0		a record that times out is a gap
 *		linger.ms = 0				the relay knows better when to wait (feed.c)
 *		sticky.partitioning.linger	0, or the library chooses the partitions of
 *									records without a key
 *		allow.auto.create.topics	off: a topic that the broker makes up has the
 *									broker's partitions, not the event type's
 *
 * Idempotence does not hold for the first records on a partition; that is what
 * proof.c is for.  So the partition is chosen here, as Java clients do: by
 * murmur2 of the key.  How many there are only the library knows, which tells it
 * to the partitioner alone: in the call that hands a record over, where it is
 * refused when the number is not what the partition was chosen of; or on one of
 * the library's threads, if the record was parked since there is no metadata of
 * the topic, as for its first one, and again whenever what there was has become
 * too old.  What is chosen stands in the topic, so nothing else of it is sent
 * until a parked record has come back.
 *
 * The library's own queue limits are set beyond what the relay lets in flight
 * (relay_buffer_size, which it counts with what a record costs in memory, not
 * only its bytes).  They are the second line: RETRIABLE from
 * de_producer_send() is legal and rare.
 *
 * The properties of the caller may override the defaults.  lz4: the headers of
 * neighbours are nearly the same, so it saves most of the bytes; measured, it
 * drains a backlog faster than no compression does (zstd: slower), and a single
 * event arrives as soon.  topic.metadata.propagation.max.ms is how long a
 * producer waits for a topic it cannot see.  The relay's were made, or taken to
 * be there, before; of one that is gone all events behind it wait for that long
 * until it is made again.
 *
 * The timeouts bound for how long a broker that stands still holds the
 * partitions it led: what it was sent is sent to the new leader only when the
 * old one's answer is given up.
 *
 * Memory is by malloc: nothing here may throw while a handle exists that
 * nobody would destroy then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "extension/base/clock.h"
#include "worker/kafka/kafka_internal.h"
#include "worker/kafka/kafka_producer.h"

/* Delivery reports taken out of an event at once. */
#define PRODUCER_REPORTS 128

/* A topic of which nothing comes back for so long may have no leader. */
#define PRODUCER_SILENT_MS 1000

/* No use in batches smaller than that; it is a bound before compression. */
#define PRODUCER_BATCH_MIN 1024

/* Room in a request for what comes with the largest event: names of headers, framing. */
#define PRODUCER_MESSAGE_OVERHEAD (64 * 1024)

static int32_t producer_choose(const rd_kafka_topic_t *rkt, const void *key, size_t key_len,
							   int32_t partitions, void *topic_opaque, void *record_opaque);
static DeKafkaOutcome producer_assign(DeProducer *producer, DeProducerTopic *topic,
									  const DeProducerRecord *record, char *error,
									  int error_size);
static DeKafkaOutcome producer_wait(DeProducerTopic *topic, int32 waits_for);
static void producer_release_topics(void *arg);
static void producer_report(DeProducer *producer, rd_kafka_event_t *event,
							DeProduceCallback delivered, void *arg);
static bool producer_opens(const DeProducerTopic *topic, int partition);
static void producer_shrink_batches(DeProducer *producer, const char *topic);

/*
 * Makes a producer; see producer.h.  Throws out of memory only, and only before
 * there is a handle.
 */
DeProducer *
de_producer_create(const DeProducerOptions *options, char *error, int error_size)
{
	DeProducerLearned *learned = options->learned;
	char		queue_kbytes[16];
	char		message_bytes[16];
	char		batch_size[16];
	char		socket_timeout[16];
	char		request_timeout[16];
	size_t		batch_len = sizeof(batch_size);
	const char *const defaults[] = {
		"client.id", options->client_id,
		"compression.codec", "lz4",
		"topic.metadata.propagation.max.ms", "5000",
		"socket.timeout.ms", socket_timeout,
		"request.timeout.ms", request_timeout,
		NULL
	};
	const char *const fixed[] = {
		"enable.idempotence", options->idempotent ? "true" : "false",
		"enable.gapless.guarantee", options->gapless ? "true" : "false",
		"acks", "all",
		"message.timeout.ms", "0",
		"sticky.partitioning.linger.ms", "0",
		"allow.auto.create.topics", "false",
		"linger.ms", "0",
		"queue.buffering.max.kbytes", queue_kbytes,
		"queue.buffering.max.messages", "10000000",
		"message.max.bytes", message_bytes,
		learned->batch_bytes > 0 ? "batch.size" : NULL, batch_size,
		NULL
	};
	int			message_size = options->record_kb * 1024 + PRODUCER_MESSAGE_OVERHEAD;
	rd_kafka_conf_t *conf;
	DeProducer *producer;

	Assert(options->idempotent || !options->gapless);
	message_size = Max(message_size, learned->record_bytes);
	snprintf(socket_timeout, sizeof(socket_timeout), "%d", options->socket_timeout_ms);
	snprintf(request_timeout, sizeof(request_timeout), "%d", options->request_timeout_ms);
	snprintf(message_bytes, sizeof(message_bytes), "%d", message_size);
	snprintf(batch_size, sizeof(batch_size), "%d", learned->batch_bytes);
	snprintf(queue_kbytes, sizeof(queue_kbytes), "%d",
			 options->buffer_kb + 2 * (message_size / 1024));
	conf = de_kafka_conf_build(options->bootstrap_servers, options->properties, defaults, fixed,
							   RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG,
							   error, error_size);
	if (conf == NULL)
		return NULL;

	/* as in effect */
	if (rd_kafka_conf_get(conf, "batch.size", batch_size, &batch_len) != RD_KAFKA_CONF_OK)
		batch_size[0] = '\0';

	producer = calloc(1, sizeof(DeProducer));
	if (producer == NULL)
	{
		snprintf(error, error_size, "out of memory");
		rd_kafka_conf_destroy(conf);
		return NULL;
	}
	producer->fd = de_kafka_eventfd_create();
	if (producer->fd < 0)
	{
		snprintf(error, error_size, "could not create an eventfd: %s", strerror(errno));
		rd_kafka_conf_destroy(conf);
		free(producer);
		return NULL;
	}
	producer->rk = de_kafka_new(RD_KAFKA_PRODUCER, conf, error, error_size);
	if (producer->rk == NULL)
	{
		close(producer->fd);
		free(producer);
		return NULL;
	}

	producer->now = de_monotonic_ms();
	producer->learned = learned;
	producer->message_size = message_size;
	producer->batch_size = atoi(batch_size);

	/* delivery reports, errors and logs on one queue, topic results on another */
	rd_kafka_set_log_queue(producer->rk, NULL);
	producer->queue = rd_kafka_queue_get_main(producer->rk);
	producer->admin_queue = rd_kafka_queue_new(producer->rk);
	de_kafka_queue_notify(producer->queue, producer->fd);
	de_kafka_queue_notify(producer->admin_queue, producer->fd);
	return producer;
}

/*
 * The descriptor to wait for.
 */
int
de_producer_fd(DeProducer *producer)
{
	return producer->fd;
}

/*
 * Has any broker answered since the producer was made, and of which cluster is
 * it?
 */
bool
de_producer_cluster(DeProducer *producer, char *cluster)
{
	/*
	 * Both are known from the first metadata on; with a timeout of 0 this only
	 * looks.  Not every service that speaks the protocol names its cluster;
	 * then the controller tells that one has answered.
	 */
	char	   *id = rd_kafka_clusterid(producer->rk, 0);

	strlcpy(cluster, id != NULL ? id : "", DE_KAFKA_CLUSTER_SIZE);
	if (id == NULL)
		return rd_kafka_controllerid(producer->rk, 0) >= 0;
	rd_kafka_mem_free(producer->rk, id);
	return true;
}

/*
 * The handle of a topic; NULL if the library refuses the name.
 */
DeProducerTopic *
de_producer_topic(DeProducer *producer, const char *name)
{
	DeProducerTopic *topic;
	rd_kafka_topic_conf_t *conf;
	int			len = strlen(name);

	for (topic = producer->topics; topic != NULL; topic = topic->next)
	{
		if (strcmp(topic->name, name) == 0)
			return topic;
	}
	topic = calloc(1, offsetof(DeProducerTopic, name) + len + 1);
	if (topic == NULL)
		return NULL;
	topic->proof = de_proof_create();
	if (topic->proof == NULL)
	{
		free(topic);
		return NULL;
	}
	pg_atomic_init_u32(&topic->partitions, 0);
	pg_atomic_init_u32(&topic->asked, 0);
	conf = rd_kafka_default_topic_conf_dup(producer->rk);
	rd_kafka_topic_conf_set_partitioner_cb(conf, producer_choose);
	rd_kafka_topic_conf_set_opaque(conf, topic);
	topic->rkt = rd_kafka_topic_new(producer->rk, name, conf);
	if (topic->rkt == NULL)
	{
		de_proof_free(topic->proof);
		free(topic);
		return NULL;
	}
	memcpy(topic->name, name, len + 1);
	topic->next = producer->topics;
	producer->topics = topic;
	return topic;
}

/*
 * The partition of a record among so many.  Keyless ones of one turn go
 * together, which makes batches.
 */
static int32_t
producer_partition(const rd_kafka_topic_t *rkt, const void *key, size_t key_len, uint64 turn,
				   int32_t partitions)
{
	if (key == NULL)
		return (int32_t) (turn % (uint64) partitions);
	return rd_kafka_msg_partitioner_murmur2(rkt, key, key_len, partitions, NULL, NULL);
}

/*
 * The library asks for the partition of a record: in the call that hands it
 * over, or for a parked one on a thread of its own, where nothing of the server
 * may be called.  Until "asked" is set, the topic is not touched elsewhere.
 */
static int32_t
producer_choose(const rd_kafka_topic_t *rkt, const void *key, size_t key_len, int32_t partitions,
				void *topic_opaque, void *record_opaque)
{
	DeProducerTopic *topic = topic_opaque;
	int32		chosen = topic->chosen;

	pg_atomic_write_u32(&topic->partitions, (uint32) partitions);
	if (chosen < 0)
		chosen = producer_partition(rkt, key, key_len, topic->turn, partitions);
	else if (topic->chosen_of != partitions)
		chosen = PG_INT32_MAX;	/* which no partition has: the library refuses it */
	pg_write_barrier();
	pg_atomic_write_u32(&topic->asked, 1);
	return chosen;
}

/*
 * Chooses the partition of a record.  OK or BUSY, FATAL with the reason in
 * error; chosen = -1 when the library has to.
 */
static DeKafkaOutcome
producer_assign(DeProducer *producer, DeProducerTopic *topic, const DeProducerRecord *record,
				char *error, int error_size)
{
	int			adopted = de_proof_partitions(topic->proof);
	int			partitions = (int) pg_atomic_read_u32(&topic->partitions);

	if (topic->parked && !de_proof_is_idle(topic->proof))
		return producer_wait(topic, PRODUCER_WAITS_FOR_ALL);
	topic->parked = false;
	if (adopted > 0 && partitions != adopted)
	{
		if (!de_proof_is_idle(topic->proof))
			return producer_wait(topic, PRODUCER_WAITS_FOR_ALL);
		if (!de_proof_adopt(topic->proof, partitions))
		{
			snprintf(error, error_size, "out of memory");
			return DE_KAFKA_FATAL;
		}
		ereport(LOG,
				(errmsg("topic \"%s\" has %d partitions now instead of %d", topic->name, partitions,
						adopted),
				 errdetail("Keys are divided among them anew, behind what was sent before.")));
		adopted = partitions;
	}
	topic->turn = record->turn;
	topic->chosen = -1;
	topic->chosen_of = adopted;
	if (adopted > 0)
		topic->chosen = producer_partition(topic->rkt, record->key, record->key_len, record->turn,
										   adopted);
	if (de_proof_may_send(topic->proof, topic->chosen, producer->now))
		return DE_KAFKA_OK;
	/* while their number is not known, that of the only record in flight */
	return producer_wait(topic, topic->chosen >= 0 ? topic->chosen : PRODUCER_WAITS_FOR_ALL);
}

/*
 * Notes which report ends what the topic waits for; BUSY.
 */
static DeKafkaOutcome
producer_wait(DeProducerTopic *topic, int32 waits_for)
{
	topic->busy = true;
	topic->waits_for = waits_for;
	return DE_KAFKA_BUSY;
}

/*
 * Queues a copy of a record; see producer.h.
 */
DeKafkaOutcome
de_producer_send(DeProducer *producer, DeProducerTopic *topic, const DeProducerRecord *record,
				 int *partition, char *error, int error_size)
{
	rd_kafka_headers_t *list;
	rd_kafka_resp_err_t err;
	DeKafkaOutcome outcome;
	bool		grown;

	/* again, when the library turns out to know of more partitions */
	do
	{
		outcome = producer_assign(producer, topic, record, error, error_size);
		if (outcome != DE_KAFKA_OK)
			return outcome;
		list = rd_kafka_headers_new(record->nheaders);
		for (int i = 0; i < record->nheaders; i++)
			rd_kafka_header_add(list, record->headers[i].name, record->headers[i].name_len,
								record->headers[i].value, record->headers[i].value_len);

		pg_atomic_write_u32(&topic->asked, 0);
		/* on success the library owns the headers */
		err = rd_kafka_producev(producer->rk,
								RD_KAFKA_V_RKT(topic->rkt),
								RD_KAFKA_V_KEY(record->key, record->key_len),
								RD_KAFKA_V_VALUE((void *) record->payload, record->payload_len),
								RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
								RD_KAFKA_V_HEADERS(list),
								RD_KAFKA_V_OPAQUE((void *) (uintptr_t) record->token),
								RD_KAFKA_V_END);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			if (de_proof_is_idle(topic->proof))
				topic->heard_at = producer->now;
			de_proof_sent(topic->proof, topic->chosen);
			topic->parked = pg_atomic_read_u32(&topic->asked) == 0;
			*partition = topic->chosen;
			return DE_KAFKA_OK;
		}
		rd_kafka_headers_destroy(list);
		grown = topic->chosen >= 0 && err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION &&
			(int) pg_atomic_read_u32(&topic->partitions) != de_proof_partitions(topic->proof);
	} while (grown);

	if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		return DE_KAFKA_RETRIABLE;
	if (rd_kafka_fatal_error(producer->rk, error, error_size) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return DE_KAFKA_FATAL;
	snprintf(error, error_size, "%s", rd_kafka_err2str(err));

	/* a limit of ours, not Kafka's: the next producer has a higher one */
	if (err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
	{
		int			needed = record->key_len + record->payload_len + PRODUCER_MESSAGE_OVERHEAD;

		for (int i = 0; i < record->nheaders; i++)
			needed += record->headers[i].name_len + Max(record->headers[i].value_len, 0) + 16;
		if (needed > producer->message_size)
		{
			producer->learned->record_bytes = needed;
			snprintf(error, error_size,
					 "it is larger than durable_event.max_event_size is now, a new producer takes it");
			return DE_KAFKA_FATAL;
		}
	}

	/* nothing but a full queue passes by waiting for this producer */
	return de_kafka_classify(producer->rk, err) == DE_KAFKA_REFUSED ?
		DE_KAFKA_REFUSED :
		DE_KAFKA_FATAL;
}

/*
 * Drains what has happened; see kafka.h.
 */
void
de_producer_poll(DeProducer *producer, DeProduceCallback delivered, DeNoticeCallback notice,
				 void *arg)
{
	rd_kafka_event_t *event;

	producer->now = de_monotonic_ms();
	de_kafka_eventfd_drain(producer->fd);
	while ((event = rd_kafka_queue_poll(producer->queue, 0)) != NULL)
	{
		if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
			producer_report(producer, event, delivered, arg);
		else if (de_kafka_notice_from_event(producer->rk, event, &producer->notice))
			notice(arg, &producer->notice);
		rd_kafka_event_destroy(event);
	}
}

/*
 * Hands over the reports of one event, which are those of one produce request.
 *
 * A request that the broker has answered with success has an offset.  Without
 * one the library has acknowledged it for its successor's sake: it takes the
 * success of a later request of the same partition as proof that all before it
 * are stored.  They are not if this producer is new to the partition, where
 * the broker takes any first sequence: one that was refused for the moment
 * (too few replicas in sync, a leader that just moved) is then never sent
 * again.  So that counts as a failure, and what comes after it is void, too.
 * The first record decides: the library counts offsets on from the base
 * offset, also from the negative number that stands for none.
 */
static void
producer_report(DeProducer *producer, rd_kafka_event_t *event, DeProduceCallback delivered,
				void *arg)
{
	const rd_kafka_message_t *messages[PRODUCER_REPORTS];
	DeProduceReport *delivery = &producer->delivery;
	DeProducerTopic *topic;
	DeProofReport proof;
	bool		first = true;
	bool		too_large;
	size_t		of_batch = rd_kafka_event_message_count(event);
	size_t		n;

	while ((n = rd_kafka_event_message_array(event, messages, PRODUCER_REPORTS)) > 0)
	{
		for (size_t i = 0; i < n; i++)
		{
			delivery->token = (uint64) (uintptr_t) messages[i]->_private;
			delivery->topic = rd_kafka_topic_name(messages[i]->rkt);
			delivery->outcome = de_kafka_classify(producer->rk, messages[i]->err);
			topic = rd_kafka_topic_opaque(messages[i]->rkt);
			if (first)
				proof.base = messages[i]->offset;
			first = false;
			proof.partition = messages[i]->partition;
			proof.partitions = (int) pg_atomic_read_u32(&topic->partitions);
			proof.stored = delivery->outcome == DE_KAFKA_OK;
			de_proof_reported(topic->proof, &proof, producer->now);
			delivery->doubtful = proof.stored && proof.base < 0;
			delivery->handle = topic;
			delivery->opened = producer_opens(topic, proof.partition);
			topic->busy &= !delivery->opened;
			topic->heard_at = producer->now;
			if (delivery->doubtful)
			{
				delivery->outcome = DE_KAFKA_FATAL;
				strlcpy(delivery->error,
						"it was acknowledged without an offset, so Kafka may not have it",
						sizeof(delivery->error));
			}
			else if (delivery->outcome == DE_KAFKA_OK)
				delivery->error[0] = '\0';
			else
				strlcpy(delivery->error, rd_kafka_err2str(messages[i]->err),
						sizeof(delivery->error));
			too_large = messages[i]->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
				messages[i]->err == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE;
			if (too_large && of_batch > 1)
				producer_shrink_batches(producer, delivery->topic);
			delivered(arg, delivery);
		}
	}
}

/*
 * Does a report of this partition end what the topic waits for?
 */
static bool
producer_opens(const DeProducerTopic *topic, int partition)
{
	if (!topic->busy)
		return false;
	if (topic->waits_for == PRODUCER_WAITS_FOR_ALL)
		return de_proof_is_idle(topic->proof);
	return topic->waits_for == PRODUCER_WAITS_FOR_ANY || topic->waits_for == partition;
}

bool
de_producer_topic_is_silent(DeProducer *producer, DeProducerTopic *topic)
{
	return !de_proof_is_idle(topic->proof) &&
		producer->now - topic->heard_at >= PRODUCER_SILENT_MS;
}

void
de_producer_topic_wait(DeProducerTopic *topic)
{
	(void) producer_wait(topic, PRODUCER_WAITS_FOR_ANY);
}

size_t *
de_producer_topic_cost(DeProducerTopic *topic)
{
	return &topic->cost;
}

/*
 * A topic has refused a batch for its size: its max.message.bytes is less than
 * batch.size.  Its events may well fit one by one, but batches of the next
 * producer would be refused again, which costs a producer each time; so that
 * one makes smaller ones.  Not taken back, since nobody tells when the topic
 * takes more.
 */
static void
producer_shrink_batches(DeProducer *producer, const char *topic)
{
	int			size = Max(producer->batch_size / 4, PRODUCER_BATCH_MIN);

	/* once for a producer, however many of its batches come back */
	if (producer->batch_size <= PRODUCER_BATCH_MIN ||
		(producer->learned->batch_bytes > 0 && producer->learned->batch_bytes <= size))
		return;
	producer->learned->batch_bytes = size;
	ereport(LOG,
			(errmsg("batches for Kafka will have at most %d bytes, topic \"%s\" refuses larger ones",
					size, topic),
			 errhint("Increase max.message.bytes of the topic, or decrease batch.size in durable_event.kafka_config.")));
}

/*
 * Gives the producer up.  Its queued records are dropped at once, so that no
 * thread sends another one; what a broker has received already may still be
 * appended, therefore wait for the teardown before you send the same records
 * again.
 */
void
de_producer_destroy(DeProducer *producer)
{
	const int	all = RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT;
	DeProducerTopic *topic;
	DeAdminAnswer *answer;

	rd_kafka_purge(producer->rk, all | RD_KAFKA_PURGE_F_NON_BLOCKING);
	for (topic = producer->topics; topic != NULL; topic = topic->next)
		rd_kafka_topic_destroy(topic->rkt);
	while ((answer = producer->answers) != NULL)
	{
		producer->answers = answer->next;
		free(answer);
	}
	/* they write to the descriptor until the end: closing it is the teardown's last step */
	rd_kafka_queue_destroy(producer->admin_queue);
	rd_kafka_queue_destroy(producer->queue);
	de_kafka_destroy_in_background(producer->rk, producer->fd, producer_release_topics,
								   producer->topics);
	free(producer);
}

/*
 * Frees what the partitioner may have used.  Possibly on a thread of its own.
 */
static void
producer_release_topics(void *arg)
{
	DeProducerTopic *topic;
	DeProducerTopic *next;

	for (topic = arg; topic != NULL; topic = next)
	{
		next = topic->next;
		de_proof_free(topic->proof);
		free(topic);
	}
}
