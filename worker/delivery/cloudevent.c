/*-------------------------------------------------------------------------
 *
 * cloudevent.c
 *		One record as a CloudEvent in JSON (docs/reference.md, "Delivery").
 *
 * Records are bytes of strangers, from any producer of a foreign topic, so:
 *
 * - Nothing depends on the database's encoding: all text is UTF-8 on both
 *	 sides, and what is not valid UTF-8 never gets into a body as text.
 * - Nothing throws because of content.  An error raised by a record would
 *	 end the worker, which would read the same record again after its restart,
 *	 for ever.
 * - Work and memory are linear in the bytes, also for a record with a hundred
 *	 thousand headers.
 *
 * Pure: no state; linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <time.h>

#include "utils/builtins.h"

#include "extension/base/reserved.h"
#include "worker/base/json.h"
#include "worker/delivery/cloudevent.h"
#include "worker/delivery/text.h"

/* Attributes taken from one record's headers; what is more is left out (see event_read_header) */
#define EVENT_MAX_EXTENSIONS 64
#define EVENT_MAX_ATTRIBUTE_NAME 20	/* CloudEvents: SHOULD NOT be longer */

/* What the headers of one record say. */
typedef struct EventAttributes
{
	DeText		id;
	DeText		source;
	DeText		type;
	DeText		time;
	DeText		subject;
	DeText		sequence;
	DeText		dataschema;
	DeText		content_type;
	int			nextensions;
	struct
	{
		const char *name;
		int			name_len;
		DeText		value;
	}			extensions[EVENT_MAX_EXTENSIONS];
} EventAttributes;

/* names of all attributes, numbers, and what stands in place of what is missing */
#define EVENT_ROOM_FIXED 640

static Size event_room(const DeRecord *record, int topic_len, const EventAttributes *attributes,
					   const DeText *key, bool is_json);
static inline char *event_put_bytes(char *p, const char *s, int len);
static inline char *event_put_member(char *p, const char *before, int before_len,
									 const DeText *text);
static void event_read_header(EventAttributes *attributes, const DeKafkaHeader *header);
static DeText *event_context_attribute(EventAttributes *attributes, const char *name, int len);
static bool event_is_attribute_name(const char *name, int len);
static char *event_put_time(char *p, int64 timestamp_ms);
static bool event_data_is_json(const DeRecord *record, const DeText *content_type);
static char *event_put_data(char *p, const DeRecord *record, const DeText *content_type,
							bool is_json);
static bool event_is_json_type(const char *s, int len);
static void event_note_trace(DeTrace *trace, const DeText *traceparent);
static bool event_is_hex(const char *s, int len);

/* constants are not measured at run time */
#define event_put(p, literal) event_put_bytes((p), (literal), sizeof(literal) - 1)
#define event_put_text(p, literal, text) \
	event_put_member((p), (literal), sizeof(literal) - 1, (text))

/*
 * Bytes of a record.
 */
Size
de_record_size(const DeRecord *record)
{
	Size		size = 0;

	if (record->key != NULL)
		size += record->key_len;
	if (record->value != NULL)
		size += record->value_len;
	for (int i = 0; i < record->nheaders; i++)
	{
		size += record->headers[i].name_len;
		if (record->headers[i].value != NULL)
			size += record->headers[i].value_len;
	}
	return size;
}

/*
 * Appends one record as a CloudEvent.
 *
 * A record without ce_id is foreign: its place in Kafka is its identity.
 * kafkaoffset is a string, because an Integer of CloudEvents has 32 bits.
 * sequence is left out when the record has none: an offset orders within its
 * partition only, the attribute within its source.
 *
 * The room for all of it is made once, and then filled: forty small appends
 * would cost more than what they append.
 */
void
de_cloudevent_append(StringInfo json, const DeRecord *record, DeCloudEvent *event)
{
	int			topic_len = strlen(record->topic);
	EventAttributes attributes;
	DeText		key = {0};
	bool		is_json;
	Size		room;
	char	   *p;

	memset(event, 0, sizeof(*event));
	memset(&attributes, 0, offsetof(EventAttributes, extensions));
	for (int i = 0; i < record->nheaders; i++)
		event_read_header(&attributes, &record->headers[i]);
	if (record->key != NULL)
		key = de_text(record->key, record->key_len);
	if (attributes.subject.s == NULL)
		attributes.subject = key;
	is_json = record->value != NULL && event_data_is_json(record, &attributes.content_type);

	room = event_room(record, topic_len, &attributes, &key, is_json);
	if (room > INT_MAX)
		room = INT_MAX;			/* refused by the next */
	enlargeStringInfo(json, (int) room);
	p = json->data + json->len;

	p = event_put(p, "{\"specversion\":\"1.0\",\"id\":\"");
	event->id_start = p - json->data;
	if (attributes.id.s != NULL)
		p = de_put_text(p, &attributes.id);
	else
	{
		p = event_put_bytes(p, record->topic, topic_len);
		*p++ = '-';
		p += pg_lltoa(record->partition, p);
		*p++ = '-';
		p += pg_lltoa(record->offset, p);
	}
	event->id_len = p - json->data - event->id_start;

	p = event_put(p, "\",\"source\":\"");
	if (attributes.source.s != NULL)
		p = de_put_text(p, &attributes.source);
	else
	{
		/* a legal topic name is legal in a URI */
		p = event_put(p, "kafka:");
		p = event_put_bytes(p, record->topic, topic_len);
	}

	p = event_put(p, "\",\"type\":\"");
	if (attributes.type.s != NULL)
		p = de_put_text(p, &attributes.type);
	else
		p = event_put(p, "kafka.record");
	*p++ = '"';

	if (attributes.time.s != NULL)
		p = event_put_text(p, ",\"time\":\"", &attributes.time);
	else if (record->timestamp_ms >= 0)
		p = event_put_time(p, record->timestamp_ms);
	if (attributes.subject.s != NULL && attributes.subject.len > 0)
		p = event_put_text(p, ",\"subject\":\"", &attributes.subject);
	if (key.s != NULL)
		p = event_put_text(p, ",\"partitionkey\":\"", &key);
	else if (record->key != NULL)
	{
		/* a serialized key of a foreign topic: the only thing that tells its entity */
		p = event_put(p, ",\"partitionkeybase64\":\"");
		p = de_put_base64(p, record->key, record->key_len);
		*p++ = '"';
	}
	if (attributes.sequence.s != NULL)
		p = event_put_text(p, ",\"sequence\":\"", &attributes.sequence);
	if (attributes.dataschema.s != NULL)
		p = event_put_text(p, ",\"dataschema\":\"", &attributes.dataschema);

	p = event_put(p, ",\"kafkatopic\":\"");
	p = event_put_bytes(p, record->topic, topic_len);
	p = event_put(p, "\",\"kafkapartition\":");
	p += pg_lltoa(record->partition, p);
	p = event_put(p, ",\"kafkaoffset\":\"");
	p += pg_lltoa(record->offset, p);
	*p++ = '"';

	for (int i = 0; i < attributes.nextensions; i++)
	{
		const char *name = attributes.extensions[i].name;
		int			name_len = attributes.extensions[i].name_len;

		p = event_put(p, ",\"");
		p = event_put_bytes(p, name, name_len);
		p = event_put_text(p, "\":\"", &attributes.extensions[i].value);
		if (name_len == 11 && memcmp(name, "traceparent", 11) == 0)
			event_note_trace(&event->trace, &attributes.extensions[i].value);
	}

	if (record->value != NULL)
		p = event_put_data(p, record, &attributes.content_type, is_json);
	*p++ = '}';
	*p = '\0';

	Assert(p - json->data <= json->len + room);
	json->len = p - json->data;
}

/*
 * Bytes that the JSON of a record takes at most.
 */
static Size
event_room(const DeRecord *record, int topic_len, const EventAttributes *attributes,
		   const DeText *key, bool is_json)
{
	/* three times the topic; names, numbers and what stands in place of what is missing */
	Size		room = EVENT_ROOM_FIXED + 3 * (Size) topic_len;

	room += de_text_room(&attributes->id) + de_text_room(&attributes->source) +
		de_text_room(&attributes->type) + de_text_room(&attributes->time) +
		de_text_room(&attributes->subject) + de_text_room(&attributes->sequence) +
		de_text_room(&attributes->dataschema) + de_text_room(&attributes->content_type);
	if (record->key != NULL)
		room += key->s != NULL ? de_text_room(key) : de_base64_room(record->key_len);
	for (int i = 0; i < attributes->nextensions; i++)
		room += EVENT_MAX_ATTRIBUTE_NAME + 6 + de_text_room(&attributes->extensions[i].value);
	if (record->value != NULL)
		room += is_json ? (Size) record->value_len : de_base64_room(record->value_len);
	return room;
}

/* The following put something at p and return where it ends; there is room for it. */

static inline char *
event_put_bytes(char *p, const char *s, int len)
{
	memcpy(p, s, len);
	return p + len;
}

/* A member with a string: what stands before the string, and the string. */
static inline char *
event_put_member(char *p, const char *before, int before_len, const DeText *text)
{
	p = event_put_bytes(p, before, before_len);
	p = de_put_text(p, text);
	*p++ = '"';
	return p;
}

/*
 * Files one header of a record.  Of a name that comes twice the first counts:
 * an object must not have a member twice.
 *
 * Binary mode of CloudEvents gives attributes as ce_<name>, so other
 * extensions come so as well as by their plain name.  Values that are not
 * UTF-8 are left out rather than encoded: the handler could not tell an
 * encoded value from a plain one.
 */
static void
event_read_header(EventAttributes *attributes, const DeKafkaHeader *header)
{
	const char *name = header->name;
	int			name_len = header->name_len;
	bool		prefixed = name_len > 3 && memcmp(name, "ce_", 3) == 0;
	DeText    *known = NULL;
	DeText		value;

	if (header->value == NULL)
		return;

	if (prefixed)
	{
		name += 3;
		name_len -= 3;
		known = event_context_attribute(attributes, name, name_len);
	}
	else if (name_len == 12 && pg_strncasecmp(name, "content-type", 12) == 0)
		known = &attributes->content_type;

	if (known != NULL)
	{
		value = de_text(header->value, header->value_len);
		if (known->s == NULL && value.len > 0)	/* an empty one is illegal */
			*known = value;
		return;
	}

	if (!event_is_attribute_name(name, name_len) || de_attribute_is_reserved(name, name_len))
		return;

	/* looking for duplicates is quadratic, so their number has a limit */
	if (attributes->nextensions == EVENT_MAX_EXTENSIONS)
		return;
	for (int i = 0; i < attributes->nextensions; i++)
	{
		if (attributes->extensions[i].name_len == name_len &&
			memcmp(attributes->extensions[i].name, name, name_len) == 0)
			return;
	}
	value = de_text(header->value, header->value_len);
	if (value.s == NULL)
		return;
	attributes->extensions[attributes->nextensions].name = name;
	attributes->extensions[attributes->nextensions].name_len = name_len;
	attributes->extensions[attributes->nextensions].value = value;
	attributes->nextensions++;
}

/* Where a context attribute that we read from ce_<name> is kept; NULL = none of those. */
static DeText *
event_context_attribute(EventAttributes *attributes, const char *name, int len)
{
	switch (len)
	{
		case 2:
			return memcmp(name, "id", 2) == 0 ? &attributes->id : NULL;
		case 4:
			if (memcmp(name, "type", 4) == 0)
				return &attributes->type;
			return memcmp(name, "time", 4) == 0 ? &attributes->time : NULL;
		case 6:
			return memcmp(name, "source", 6) == 0 ? &attributes->source : NULL;
		case 7:
			return memcmp(name, "subject", 7) == 0 ? &attributes->subject : NULL;
		case 8:
			return memcmp(name, "sequence", 8) == 0 ? &attributes->sequence : NULL;
		case 10:
			return memcmp(name, "dataschema", 10) == 0 ? &attributes->dataschema : NULL;
		default:
			return NULL;
	}
}

/* Is this a legal name of a CloudEvents attribute? */
static bool
event_is_attribute_name(const char *name, int len)
{
	if (len < 1 || len > EVENT_MAX_ATTRIBUTE_NAME)
		return false;
	for (int i = 0; i < len; i++)
	{
		if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9')))
			return false;
	}
	return true;
}

/* The time attribute; nothing when the year has not four digits. */
static char *
event_put_time(char *p, int64 timestamp_ms)
{
	time_t		seconds = (time_t) (timestamp_ms / 1000);
	struct tm	tm;

	if (gmtime_r(&seconds, &tm) == NULL || tm.tm_year > 9999 - 1900)
		return p;
	p = event_put(p, ",\"time\":\"");
	p += strftime(p, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	return p + sprintf(p, ".%03dZ\"", (int) (timestamp_ms % 1000));
}

/*
 * Does a payload go as JSON, as it is?
 *
 * A content type is believed only after a look: bytes that are not JSON, or
 * JSON that some readers refuse, would make the whole body unreadable, and
 * with it the partition undeliverable.  Without a content type (most foreign
 * topics) a JSON object or array is taken for one; a bare number or string is
 * not, or one text topic would show its payloads now in the one form and now
 * in the other.
 */
static bool
event_data_is_json(const DeRecord *record, const DeText *content_type)
{
	const char *value = record->value;
	int			len = record->value_len;

	if (content_type->s != NULL ?
			!event_is_json_type(content_type->s, content_type->len) :
			len == 0 || (value[0] != '{' && value[0] != '['))
		return false;
	return de_json_interoperable(value, len);
}

/*
 * datacontenttype and the payload: JSON as it is, anything else as
 * data_base64.
 */
static char *
event_put_data(char *p, const DeRecord *record, const DeText *content_type, bool is_json)
{
	if (content_type->s != NULL)
		p = event_put_text(p, ",\"datacontenttype\":\"", content_type);
	else if (is_json)
		p = event_put(p, ",\"datacontenttype\":\"application/json\"");

	if (is_json)
	{
		p = event_put(p, ",\"data\":");
		return event_put_bytes(p, record->value, record->value_len);
	}
	p = event_put(p, ",\"data_base64\":\"");
	p = de_put_base64(p, record->value, record->value_len);
	*p++ = '"';
	return p;
}

/* Is a content type "…/json" or "…+json", whatever its parameters? */
static bool
event_is_json_type(const char *s, int len)
{
	const char *semicolon = memchr(s, ';', len);

	if (semicolon != NULL)
		len = semicolon - s;
	while (len > 0 && (s[len - 1] == ' ' || s[len - 1] == '\t'))
		len--;
	return len > 5 && (s[len - 5] == '/' || s[len - 5] == '+') &&
		pg_strncasecmp(s + len - 4, "json", 4) == 0;
}

/*
 * Remembers a record's trace, and whether its publisher records it.  What is
 * no W3C traceparent is the event's own affair.
 */
static void
event_note_trace(DeTrace *trace, const DeText *traceparent)
{
	const char *s = traceparent->s;

	/* 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, later versions may go on */
	if (traceparent->len < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' ||
		!event_is_hex(s, 2) || !event_is_hex(s + 3, 32) ||
		!event_is_hex(s + 36, 16) || !event_is_hex(s + 53, 2) ||
		strspn(s + 3, "0") == 32)
		return;

	memcpy(trace->id, s + 3, 32);
	trace->sampled = strchr("13579bdf", s[54]) != NULL;
}

static bool
event_is_hex(const char *s, int len)
{
	for (int i = 0; i < len; i++)
	{
		if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
	}
	return true;
}
