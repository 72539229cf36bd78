/*-------------------------------------------------------------------------
 *
 * envelope.c
 *		The headers of an event in Kafka: CloudEvents 1.0, binary mode.
 *
 * This runs for every event on the one thread that also reads them, so the
 * texts are made by hand: the server's formatting functions together take
 * longer than the rest of the way to the library.
 *
 * The order is that of the specification's attributes, then the caller's
 * headers as they were given.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/datetime.h"

#include "worker/relay/envelope.h"

/* headers of ours: specversion id source type time subject sequence content-type */
#define ENVELOPE_OWN_HEADERS 8

static void envelope_put_digits(char *to, uint64 value, int digits);
static void envelope_put_id(char *to, const pg_uuid_t *id);
static void envelope_put_time(DeEnvelope *envelope, TimestampTz at);

/*
 * Adds a header; there is room.
 */
static inline void
envelope_add(DeEnvelope *envelope, const char *name, int name_len, const char *value,
			 int value_len)
{
	DeKafkaHeader *header = &envelope->headers[envelope->n++];

	header->name = name;
	header->name_len = name_len;
	header->value = value;
	header->value_len = value_len;
	envelope->bytes += name_len + value_len;
}

#define ENVELOPE_ADD(envelope, name, value, value_len) \
	envelope_add(envelope, name, sizeof(name) - 1, value, value_len)

/*
 * Prepares an envelope.
 */
void
de_envelope_init(DeEnvelope *envelope, const char *source)
{
	memset(envelope, 0, sizeof(DeEnvelope));
	envelope->max = 32;
	envelope->headers = palloc(envelope->max * sizeof(DeKafkaHeader));
	envelope->source = source;
	envelope->source_len = strlen(source);
	memcpy(envelope->time, "0000-00-00T00:00:00.000000Z", sizeof(envelope->time));
	envelope->day = PG_INT64_MIN;
}

/*
 * Fills in the headers of an event.
 */
void
de_envelope_fill(DeEnvelope *envelope, const DeOutboxEvent *event)
{
	DeEventHeader header;
	int			pos = 0;

	envelope->n = 0;
	envelope->bytes = 0;
	envelope_put_id(envelope->id, &event->event_id);
	envelope_put_time(envelope, event->created_at);
	envelope_put_digits(envelope->sequence, (uint64) event->id, sizeof(envelope->sequence));

	ENVELOPE_ADD(envelope, "ce_specversion", "1.0", 3);
	ENVELOPE_ADD(envelope, "ce_id", envelope->id, sizeof(envelope->id));
	ENVELOPE_ADD(envelope, "ce_source", envelope->source, envelope->source_len);
	ENVELOPE_ADD(envelope, "ce_type", event->event_type, event->event_type_len);
	ENVELOPE_ADD(envelope, "ce_time", envelope->time, sizeof(envelope->time));
	/* an empty subject is against the specification; the record's key is there anyway */
	if (event->key_len > 0)
		ENVELOPE_ADD(envelope, "ce_subject", event->key, event->key_len);
	ENVELOPE_ADD(envelope, "ce_sequence", envelope->sequence, sizeof(envelope->sequence));
	ENVELOPE_ADD(envelope, "content-type", event->content_type, event->content_type_len);
	Assert(envelope->n <= ENVELOPE_OWN_HEADERS);

	while (event->headers != NULL &&
		   de_headers_next(event->headers, event->headers_len, &pos, &header))
	{
		if (envelope->n == envelope->max)
		{
			envelope->headers = repalloc(envelope->headers,
										 2 * envelope->max * sizeof(DeKafkaHeader));
			envelope->max *= 2;
		}
		envelope_add(envelope, header.name, header.name_len, header.value, header.value_len);
	}
}

/*
 * A number in so many decimal digits.
 */
static void
envelope_put_digits(char *to, uint64 value, int digits)
{
	while (digits > 0)
	{
		to[--digits] = '0' + (char) (value % 10);
		value /= 10;
	}
}

/*
 * A UUID in its 36 characters.
 */
static void
envelope_put_id(char *to, const pg_uuid_t *id)
{
	static const char hex[] = "0123456789abcdef";

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		*to++ = hex[id->data[i] >> 4];
		*to++ = hex[id->data[i] & 0xf];
	}
}

/*
 * RFC 3339 in UTC.  The date is kept: it is nearly always that of the event
 * before.
 */
static void
envelope_put_time(DeEnvelope *envelope, TimestampTz at)
{
	int64		day = at / USECS_PER_DAY;
	int64		usec = at % USECS_PER_DAY;
	char	   *to = envelope->time;

	if (usec < 0)
	{
		day--;
		usec += USECS_PER_DAY;
	}
	if (day != envelope->day)
	{
		int			year;
		int			month;
		int			mday;

		j2date((int) day + POSTGRES_EPOCH_JDATE, &year, &month, &mday);
		envelope_put_digits(to, (uint64) Max(year, 0), 4);
		envelope_put_digits(to + 5, month, 2);
		envelope_put_digits(to + 8, mday, 2);
		envelope->day = day;
	}
	envelope_put_digits(to + 11, usec / USECS_PER_HOUR, 2);
	envelope_put_digits(to + 14, usec / USECS_PER_MINUTE % 60, 2);
	envelope_put_digits(to + 17, usec / USECS_PER_SEC % 60, 2);
	envelope_put_digits(to + 20, usec % USECS_PER_SEC, 6);
}
