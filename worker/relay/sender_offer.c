/*-------------------------------------------------------------------------
 *
 * sender_offer.c
 *		Handing events over to the producer, or holding them while their topic
 *		takes none (hold.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "extension/base/clock.h"
#include "extension/base/guc.h"
#include "worker/relay/hold.h"
#include "worker/relay/sender_internal.h"

/*
 * What a record costs besides its bytes: the library's structures for it and
 * for each header (58 to 73 bytes, with malloc's own), the window's entry.
 */
#define SENDER_RECORD_COST 400
#define SENDER_HEADER_COST 72

/* So many events in a row without a key go to one partition. */
#define SENDER_KEYLESS_TURN 64

/* What the window wants to know of an event that was handed over. */
typedef struct SenderHanded
{
	uint32		lane;
	uint32		bytes;
	uint32		overhead;
} SenderHanded;

static bool sender_has_room(DeSender *sender, DeProducerTopic *handle, Size cost);
static void sender_no_topic(DeSender *sender, const DeOutboxEvent *event);
static DeKafkaOutcome sender_hand_over(DeSender *sender, DeTopic *topic,
									   const DeOutboxEvent *event, uint64 token,
									   SenderHanded *handed);

/*
 * Takes the next event, in the order of ids; see sender.h.
 *
 * Where one event is searched for that Kafka refuses, they go one by one and
 * none is held.
 */
bool
de_sender_offer(DeSender *sender, const DeOutboxEvent *event)
{
	DeTopic    *topic;
	SenderHanded handed;
	DeKafkaOutcome outcome = DE_KAFKA_BUSY;

	if (!de_link_takes(sender->link))
		return false;
	if (de_window_skip(sender->window, event->id))
		return true;
	if (de_window_is_full(sender->window) ||
		!de_suspect_may_send(&sender->suspect, de_window_unacked(sender->window)))
		return false;
	topic = de_topics_find(sender->topics, event->event_type, event->event_type_len);
	if (topic == NULL)
	{
		sender_no_topic(sender, event);
		return false;
	}
	sender->nameless = false;

	if (topic->held == 0 && topic->state == DE_TOPIC_READY)
		outcome = sender_hand_over(sender, topic, event, de_window_next_token(sender->window),
								   &handed);
	if (outcome == DE_KAFKA_OK)
		de_window_add(sender->window, event->id, event->created_at, handed.lane, handed.bytes,
					  handed.overhead);
	else if (outcome == DE_KAFKA_BUSY && !de_suspect_any(&sender->suspect))
		de_hold_event(sender->window, topic, event->id, event->created_at);
	else
		return false;
	return true;
}

/*
 * Takes an event that was held; see sender.h.
 */
bool
de_sender_offer_held(DeSender *sender, const DeOutboxEvent *event)
{
	DeTopic    *topic;
	SenderHanded handed;
	uint64		token;

	if (!de_link_takes(sender->link) ||
		!de_suspect_may_send(&sender->suspect, de_window_unacked(sender->window)))
		return false;
	/* its topic has stopped before it */
	if (!de_hold_is_swept(sender->topics, sender->window, event->id, &token))
		return true;
	topic = de_topics_find(sender->topics, event->event_type, event->event_type_len);
	switch (sender_hand_over(sender, topic, event, token, &handed))
	{
		case DE_KAFKA_OK:
			de_window_release(sender->window, token, handed.lane, handed.bytes, handed.overhead);
			de_hold_released(topic);
			return true;
		case DE_KAFKA_BUSY:
			de_hold_stop(topic);
			sender->stopped = true;
			return true;
		default:
			return false;
	}
}

/*
 * What of the events that are held may be offered now.
 */
bool
de_sender_sweep(DeSender *sender, int64 *first, int64 *last)
{
	sender->stopped = false;
	return de_link_takes(sender->link) && de_window_held(sender->window) > 0 &&
		de_hold_sweep(sender->topics, sender->window, first, last);
}

bool
de_sender_wants(DeSender *sender, int64 id)
{
	uint64		token;

	return de_hold_is_swept(sender->topics, sender->window, id, &token);
}

bool
de_sender_swept(DeSender *sender, int64 first, int64 upto)
{
	de_hold_swept(sender->topics, sender->window, first, upto);
	return !sender->stopped;
}

/*
 * Gives an event to the producer under this token.  OK; BUSY, its topic takes
 * none for now; or none is taken for now, and what comes from Kafka wakes us.
 */
static DeKafkaOutcome
sender_hand_over(DeSender *sender, DeTopic *topic, const DeOutboxEvent *event, uint64 token,
				 SenderHanded *handed)
{
	DeProducer *producer = de_link_producer(sender->link);
	char		error[DE_KAFKA_ERROR_SIZE] = "the library refuses the name of the topic";
	DeKafkaOutcome outcome = DE_KAFKA_REFUSED;
	int			partition;
	Size		bytes;
	Size		overhead;

	de_envelope_fill(&sender->envelope, event);
	bytes = event->payload_len + event->key_len + sender->envelope.bytes;
	overhead = SENDER_RECORD_COST + (Size) sender->envelope.n * SENDER_HEADER_COST;
	if (topic->handle == NULL)
		topic->handle = de_producer_topic(producer, topic->name);
	if (de_window_unacked(sender->window) == 0)
		de_health_active(&sender->health, de_monotonic_ms());	/* from now on an answer is due */
	else if (!sender_has_room(sender, topic->handle, bytes + overhead))
	{
		if (topic->handle == NULL || !de_producer_topic_is_silent(producer, topic->handle))
			return DE_KAFKA_RETRIABLE;
		de_producer_topic_wait(topic->handle);
		return DE_KAFKA_BUSY;
	}

	if (topic->handle != NULL)
	{
		DeProducerRecord record = {
			.key = event->key,
			.payload = event->payload,
			.key_len = event->key_len,
			.payload_len = event->payload_len,
			.headers = sender->envelope.headers,
			.nheaders = sender->envelope.n,
			.turn = (uint64) event->id / SENDER_KEYLESS_TURN,
			.token = token
		};

		outcome = de_producer_send(producer, topic->handle, &record, &partition, error,
								   sizeof(error));
	}
	switch (outcome)
	{
		case DE_KAFKA_OK:
			handed->lane = hash_combine(topic->hash, murmurhash32((uint32) partition));
			handed->bytes = (uint32) bytes;
			handed->overhead = (uint32) overhead;
			*de_producer_topic_cost(topic->handle) += bytes + overhead;
			de_suspect_sent(&sender->suspect);
			break;
		case DE_KAFKA_RETRIABLE:
		case DE_KAFKA_BUSY:
			break;
		case DE_KAFKA_REFUSED:
			/* first those before it: the producer goes with it */
			if (de_window_unacked(sender->window) == 0)
				de_sender_refused(sender, event->id, topic->name, error);
			else
			{
				char		reason[DE_KAFKA_ERROR_SIZE];

				de_suspect_refused(&sender->suspect, event->id);
				/* they may be in flight for long */
				de_sender_refusal(reason, event->id, topic->name, error);
				de_sender_trouble(sender, reason);
			}
			break;
		case DE_KAFKA_FATAL:
			de_link_fail(sender->link, de_monotonic_ms(), error);
			break;
	}
	return outcome;
}

/*
 * Is there room for so much of a topic?  It may have no more in flight than is
 * free: alone half of relay_buffer_size, so that one that has no leader leaves
 * room for others.
 */
static bool
sender_has_room(DeSender *sender, DeProducerTopic *handle, Size cost)
{
	Size		limit = (Size) de_relay_buffer_size * 1024;
	Size		used = de_window_cost(sender->window) + cost;

	return used <= limit &&
		(handle == NULL || *de_producer_topic_cost(handle) + used <= limit);
}

/*
 * An event has no topic, and waits until it has: says so.
 */
static void
sender_no_topic(DeSender *sender, const DeOutboxEvent *event)
{
	char		error[DE_KAFKA_ERROR_SIZE];

	if (sender->nameless)
		return;
	sender->nameless = true;
	snprintf(error, sizeof(error),
			 "event %lld is of the type \"%.*s\", which is not registered and makes no legal topic name",
			 (long long) event->id, Min(event->event_type_len, 200), event->event_type);
	de_sender_trouble(sender, error);
}
