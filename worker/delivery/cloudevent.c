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

#include <time.h>

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

static void event_read_header(EventAttributes *attributes, const DeKafkaHeader *header);
static DeText *event_context_attribute(EventAttributes *attributes, const char *name, int len);
static bool event_is_attribute_name(const char *name, int len);
static bool event_is_reserved(const char *name, int len);
static void event_append_time(StringInfo buf, int64 timestamp_ms);
static void event_append_data(StringInfo buf, const DeRecord *record, const DeText *content_type);
static bool event_is_json_type(const char *s, int len);
static void event_note_trace(DeTrace *trace, const DeText *traceparent);
static bool event_is_hex(const char *s, int len);

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
 */
void
de_cloudevent_append(StringInfo json, const DeRecord *record, DeCloudEvent *event)
{
	EventAttributes attributes;
	DeText		key = {0};

	memset(event, 0, sizeof(*event));
	memset(&attributes, 0, offsetof(EventAttributes, extensions));
	for (int i = 0; i < record->nheaders; i++)
		event_read_header(&attributes, &record->headers[i]);
	if (record->key != NULL)
		key = de_text(record->key, record->key_len);

	de_append_literal(json, "{\"specversion\":\"1.0\",\"id\":\"");
	event->id_start = json->len;
	if (attributes.id.s != NULL)
		de_append_text(json, &attributes.id);
	else
	{
		appendStringInfoString(json, record->topic);
		appendStringInfoCharMacro(json, '-');
		de_append_int64(json, record->partition);
		appendStringInfoCharMacro(json, '-');
		de_append_int64(json, record->offset);
	}
	event->id_len = json->len - event->id_start;

	de_append_literal(json, "\",\"source\":\"");
	if (attributes.source.s != NULL)
		de_append_text(json, &attributes.source);
	else
	{
		/* a legal topic name is legal in a URI */
		de_append_literal(json, "kafka:");
		appendStringInfoString(json, record->topic);
	}

	de_append_literal(json, "\",\"type\":\"");
	if (attributes.type.s != NULL)
		de_append_text(json, &attributes.type);
	else
		de_append_literal(json, "kafka.record");
	appendStringInfoCharMacro(json, '"');

	if (attributes.time.s != NULL)
	{
		de_append_literal(json, ",\"time\":\"");
		de_append_text(json, &attributes.time);
		appendStringInfoCharMacro(json, '"');
	}
	else if (record->timestamp_ms >= 0)
		event_append_time(json, record->timestamp_ms);

	if (attributes.subject.s == NULL)
		attributes.subject = key;
	if (attributes.subject.s != NULL && attributes.subject.len > 0)
	{
		de_append_literal(json, ",\"subject\":\"");
		de_append_text(json, &attributes.subject);
		appendStringInfoCharMacro(json, '"');
	}
	if (key.s != NULL)
	{
		de_append_literal(json, ",\"partitionkey\":\"");
		de_append_text(json, &key);
		appendStringInfoCharMacro(json, '"');
	}
	else if (record->key != NULL)
	{
		/* a serialized key of a foreign topic: the only thing that tells its entity */
		de_append_literal(json, ",\"partitionkeybase64\":\"");
		de_append_base64(json, record->key, record->key_len);
		appendStringInfoCharMacro(json, '"');
	}
	if (attributes.sequence.s != NULL)
	{
		de_append_literal(json, ",\"sequence\":\"");
		de_append_text(json, &attributes.sequence);
		appendStringInfoCharMacro(json, '"');
	}
	if (attributes.dataschema.s != NULL)
	{
		de_append_literal(json, ",\"dataschema\":\"");
		de_append_text(json, &attributes.dataschema);
		appendStringInfoCharMacro(json, '"');
	}

	de_append_literal(json, ",\"kafkatopic\":\"");
	appendStringInfoString(json, record->topic);
	de_append_literal(json, "\",\"kafkapartition\":");
	de_append_int64(json, record->partition);
	de_append_literal(json, ",\"kafkaoffset\":\"");
	de_append_int64(json, record->offset);
	appendStringInfoCharMacro(json, '"');

	for (int i = 0; i < attributes.nextensions; i++)
	{
		const char *name = attributes.extensions[i].name;
		int			name_len = attributes.extensions[i].name_len;

		de_append_literal(json, ",\"");
		appendBinaryStringInfo(json, name, name_len);
		de_append_literal(json, "\":\"");
		de_append_text(json, &attributes.extensions[i].value);
		appendStringInfoCharMacro(json, '"');
		if (name_len == 11 && memcmp(name, "traceparent", 11) == 0)
			event_note_trace(&event->trace, &attributes.extensions[i].value);
	}

	if (record->value != NULL)
		event_append_data(json, record, &attributes.content_type);
	appendStringInfoCharMacro(json, '}');
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

	if (!event_is_attribute_name(name, name_len) || event_is_reserved(name, name_len))
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

/* Is this a name that only we give a value? */
static bool
event_is_reserved(const char *name, int len)
{
	static const char *const reserved[] = {
		"specversion", "id", "source", "type", "time", "subject", "datacontenttype",
		"dataschema", "data", "sequence", "partitionkey", "partitionkeybase64",
		"kafkatopic", "kafkapartition", "kafkaoffset", "kafkaheaders"
	};

	for (int i = 0; i < lengthof(reserved); i++)
	{
		if (strncmp(reserved[i], name, len) == 0 && reserved[i][len] == '\0')
			return true;
	}
	return false;
}

/* Appends the time attribute; nothing when the year has not four digits. */
static void
event_append_time(StringInfo buf, int64 timestamp_ms)
{
	time_t		seconds = (time_t) (timestamp_ms / 1000);
	struct tm	tm;
	char		text[32];

	if (gmtime_r(&seconds, &tm) == NULL || tm.tm_year > 9999 - 1900)
		return;
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	appendStringInfo(buf, ",\"time\":\"%s.%03dZ\"", text, (int) (timestamp_ms % 1000));
}

/*
 * Appends datacontenttype and the payload: JSON as it is, anything else as
 * data_base64.
 *
 * A content type is believed only after a look: bytes that are not JSON, or
 * JSON that some readers refuse, would make the whole body unreadable, and
 * with it the partition undeliverable.
 * Without a content type (most foreign topics) a JSON object or array is taken
 * for one; a bare number or string is not, or one text topic would show its
 * payloads now in the one form and now in the other.
 */
static void
event_append_data(StringInfo buf, const DeRecord *record, const DeText *content_type)
{
	const char *value = record->value;
	int			len = record->value_len;
	bool		is_json;

	if (content_type->s != NULL)
	{
		de_append_literal(buf, ",\"datacontenttype\":\"");
		de_append_text(buf, content_type);
		appendStringInfoCharMacro(buf, '"');
		is_json = event_is_json_type(content_type->s, content_type->len) &&
			de_json_interoperable(value, len);
	}
	else
	{
		is_json = len > 0 && (value[0] == '{' || value[0] == '[') &&
			de_json_interoperable(value, len);
		if (is_json)
			de_append_literal(buf, ",\"datacontenttype\":\"application/json\"");
	}

	if (is_json)
	{
		de_append_literal(buf, ",\"data\":");
		appendBinaryStringInfo(buf, value, len);
	}
	else
	{
		de_append_literal(buf, ",\"data_base64\":\"");
		de_append_base64(buf, value, len);
		appendStringInfoCharMacro(buf, '"');
	}
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
