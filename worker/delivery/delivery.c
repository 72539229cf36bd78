/*-------------------------------------------------------------------------
 *
 * delivery.c
 *		The request of the delivery protocol: records become CloudEvents in
 *		JSON, an attempt becomes header lines.  The answer is in answer.c.
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
 * Called by the proxy's main thread only.  No state but the two contexts of
 * the hash functions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "common/base64.h"
#include "common/cryptohash.h"
#include "common/hmac.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "worker/delivery/delivery.h"
#include "worker/base/json.h"

#define DLV_SHA256_SIZE 32
#define DLV_WEBHOOK_ID_BYTES 16 /* of the digest, in hex */

/* Attributes taken from one record's headers; what is more is left out (see dlv_read_header) */
#define DLV_MAX_EXTENSIONS 64
#define DLV_MAX_ATTRIBUTE_NAME 20	/* CloudEvents: SHOULD NOT be longer */

#define DLV_HEADER_LINES 14

/* what a byte means for a JSON string */
#define DLV_ESCAPE 1
#define DLV_HIGH 2

/* appends a string constant without measuring it at run time */
#define dlv_append_literal(buf, literal) \
	appendBinaryStringInfo((buf), (literal), sizeof(literal) - 1)

/* Text for a JSON string; valid only if it is UTF-8 without NUL. */
typedef struct DlvText
{
	const char *s;				/* NULL = not there, or not usable as text */
	int			len;
	bool		escape;			/* has bytes to escape */
} DlvText;

/* What the headers of one record say. */
typedef struct DlvAttributes
{
	DlvText		id;
	DlvText		source;
	DlvText		type;
	DlvText		time;
	DlvText		subject;
	DlvText		sequence;
	DlvText		dataschema;
	DlvText		content_type;
	int			nextensions;
	struct
	{
		const char *name;
		int			name_len;
		DlvText		value;
	}			extensions[DLV_MAX_EXTENSIONS];
} DlvAttributes;

static pg_cryptohash_ctx *dlv_sha256 = NULL;
static pg_hmac_ctx *dlv_hmac = NULL;

static void dlv_read_header(DlvAttributes *attributes, const DeKafkaHeader *header);
static DlvText *dlv_context_attribute(DlvAttributes *attributes, const char *name, int len);
static bool dlv_is_attribute_name(const char *name, int len);
static bool dlv_is_reserved(const char *name, int len);
static DlvText dlv_text(const char *s, int len);
static void dlv_append_text(StringInfo buf, const DlvText *text);
static void dlv_append_escaped(StringInfo buf, const char *s, int len);
static void dlv_append_int64(StringInfo buf, int64 value);
static void dlv_append_time(StringInfo buf, int64 timestamp_ms);
static void dlv_append_base64(StringInfo buf, const char *s, int len);
static void dlv_append_hex(StringInfo buf, const uint8 *bytes, int len);
static void dlv_append_data(StringInfo buf, const DeRecord *record, const DlvText *content_type);
static bool dlv_is_json_type(const char *s, int len);
static void dlv_note_trace(DeDeliveryBody *body, const DlvText *traceparent);
static bool dlv_is_hex(const char *s, int len);
static void dlv_append_traceparent(StringInfo buf, const DeDeliveryBody *body,
								   const DeDeliveryAttempt *attempt);
static void dlv_append_signature(StringInfo buf, const char *secret, const char *id,
								 int64 unix_seconds, const StringInfoData *json);
static void dlv_create_hash_contexts(void);

/* ---- request body ---- */

/*
 * Starts a body.  The hash is taken at the end, over a copy of its input, and
 * not as the records come: a hash context belongs to a resource owner, and one
 * per body would have to be given back on each error path, where 48 bytes per
 * event go with their memory context.
 */
void
de_delivery_begin(DeDeliveryBody *body, DeDeliveryMode mode, const char *group,
				  const char *topic, int32 partition)
{
	uint32		partition_be = pg_hton32((uint32) partition);

	memset(body, 0, sizeof(*body));
	body->mode = mode;
	initStringInfo(&body->json);
	initStringInfo(&body->identity);

	/* with their NULs: group "a" and topic "bc" are not group "ab" and topic "c" */
	appendBinaryStringInfo(&body->identity, group, strlen(group) + 1);
	appendBinaryStringInfo(&body->identity, topic, strlen(topic) + 1);
	appendBinaryStringInfo(&body->identity, (const char *) &partition_be, sizeof(partition_be));

	if (mode == DE_DELIVERY_BATCH)
		appendStringInfoCharMacro(&body->json, '[');
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
de_delivery_append(DeDeliveryBody *body, const DeRecord *record)
{
	StringInfo	json = &body->json;
	DlvAttributes attributes;
	DlvText		key = {0};
	uint64		offset_be = pg_hton64((uint64) record->offset);
	uint32		id_len_be;
	int			id_start;
	int			id_len;

	Assert(body->mode == DE_DELIVERY_BATCH || body->nevents == 0);

	memset(&attributes, 0, offsetof(DlvAttributes, extensions));
	for (int i = 0; i < record->nheaders; i++)
		dlv_read_header(&attributes, &record->headers[i]);
	if (record->key != NULL)
		key = dlv_text(record->key, record->key_len);

	if (body->nevents == 0)
		body->first_offset = record->offset;
	else
		appendStringInfoCharMacro(json, ',');
	body->last_offset = record->offset;
	body->nevents++;

	dlv_append_literal(json, "{\"specversion\":\"1.0\",\"id\":\"");
	id_start = json->len;
	if (attributes.id.s != NULL)
		dlv_append_text(json, &attributes.id);
	else
	{
		appendStringInfoString(json, record->topic);
		appendStringInfoCharMacro(json, '-');
		dlv_append_int64(json, record->partition);
		appendStringInfoCharMacro(json, '-');
		dlv_append_int64(json, record->offset);
	}
	id_len = json->len - id_start;
	id_len_be = pg_hton32((uint32) id_len);
	appendBinaryStringInfo(&body->identity, (const char *) &offset_be, sizeof(offset_be));
	appendBinaryStringInfo(&body->identity, (const char *) &id_len_be, sizeof(id_len_be));
	appendBinaryStringInfo(&body->identity, json->data + id_start, id_len);

	dlv_append_literal(json, "\",\"source\":\"");
	if (attributes.source.s != NULL)
		dlv_append_text(json, &attributes.source);
	else
	{
		/* a legal topic name is legal in a URI */
		dlv_append_literal(json, "kafka:");
		appendStringInfoString(json, record->topic);
	}

	dlv_append_literal(json, "\",\"type\":\"");
	if (attributes.type.s != NULL)
		dlv_append_text(json, &attributes.type);
	else
		dlv_append_literal(json, "kafka.record");
	appendStringInfoCharMacro(json, '"');

	if (attributes.time.s != NULL)
	{
		dlv_append_literal(json, ",\"time\":\"");
		dlv_append_text(json, &attributes.time);
		appendStringInfoCharMacro(json, '"');
	}
	else if (record->timestamp_ms >= 0)
		dlv_append_time(json, record->timestamp_ms);

	if (attributes.subject.s == NULL)
		attributes.subject = key;
	if (attributes.subject.s != NULL && attributes.subject.len > 0)
	{
		dlv_append_literal(json, ",\"subject\":\"");
		dlv_append_text(json, &attributes.subject);
		appendStringInfoCharMacro(json, '"');
	}
	if (key.s != NULL)
	{
		dlv_append_literal(json, ",\"partitionkey\":\"");
		dlv_append_text(json, &key);
		appendStringInfoCharMacro(json, '"');
	}
	else if (record->key != NULL)
	{
		/* a serialized key of a foreign topic: the only thing that tells its entity */
		dlv_append_literal(json, ",\"partitionkeybase64\":\"");
		dlv_append_base64(json, record->key, record->key_len);
		appendStringInfoCharMacro(json, '"');
	}
	if (attributes.sequence.s != NULL)
	{
		dlv_append_literal(json, ",\"sequence\":\"");
		dlv_append_text(json, &attributes.sequence);
		appendStringInfoCharMacro(json, '"');
	}
	if (attributes.dataschema.s != NULL)
	{
		dlv_append_literal(json, ",\"dataschema\":\"");
		dlv_append_text(json, &attributes.dataschema);
		appendStringInfoCharMacro(json, '"');
	}

	dlv_append_literal(json, ",\"kafkatopic\":\"");
	appendStringInfoString(json, record->topic);
	dlv_append_literal(json, "\",\"kafkapartition\":");
	dlv_append_int64(json, record->partition);
	dlv_append_literal(json, ",\"kafkaoffset\":\"");
	dlv_append_int64(json, record->offset);
	appendStringInfoCharMacro(json, '"');

	for (int i = 0; i < attributes.nextensions; i++)
	{
		const char *name = attributes.extensions[i].name;
		int			name_len = attributes.extensions[i].name_len;

		dlv_append_literal(json, ",\"");
		appendBinaryStringInfo(json, name, name_len);
		dlv_append_literal(json, "\":\"");
		dlv_append_text(json, &attributes.extensions[i].value);
		appendStringInfoCharMacro(json, '"');
		if (name_len == 11 && memcmp(name, "traceparent", 11) == 0)
			dlv_note_trace(body, &attributes.extensions[i].value);
	}

	if (record->value != NULL)
		dlv_append_data(json, record, &attributes.content_type);
	appendStringInfoCharMacro(json, '}');
}

void
de_delivery_finish(DeDeliveryBody *body)
{
	if (body->mode == DE_DELIVERY_BATCH)
		appendStringInfoCharMacro(&body->json, ']');

	dlv_create_hash_contexts();
	if (pg_cryptohash_init(dlv_sha256) < 0 ||
		pg_cryptohash_update(dlv_sha256, (uint8 *) body->identity.data, body->identity.len) < 0 ||
		pg_cryptohash_final(dlv_sha256, body->digest, sizeof(body->digest)) < 0)
		elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(dlv_sha256));

	pfree(body->identity.data);
	body->identity.data = NULL;
}

void
de_delivery_free(DeDeliveryBody *body)
{
	if (body->json.data != NULL)
		pfree(body->json.data);
	if (body->identity.data != NULL)
		pfree(body->identity.data);
	body->json.data = NULL;
	body->identity.data = NULL;
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
dlv_read_header(DlvAttributes *attributes, const DeKafkaHeader *header)
{
	const char *name = header->name;
	int			name_len = header->name_len;
	bool		prefixed = name_len > 3 && memcmp(name, "ce_", 3) == 0;
	DlvText    *known = NULL;
	DlvText		value;

	if (header->value == NULL)
		return;

	if (prefixed)
	{
		name += 3;
		name_len -= 3;
		known = dlv_context_attribute(attributes, name, name_len);
	}
	else if (name_len == 12 && pg_strncasecmp(name, "content-type", 12) == 0)
		known = &attributes->content_type;

	if (known != NULL)
	{
		value = dlv_text(header->value, header->value_len);
		if (known->s == NULL && value.len > 0)	/* an empty one is illegal */
			*known = value;
		return;
	}

	if (!dlv_is_attribute_name(name, name_len) || dlv_is_reserved(name, name_len))
		return;

	/* looking for duplicates is quadratic, so their number has a limit */
	if (attributes->nextensions == DLV_MAX_EXTENSIONS)
		return;
	for (int i = 0; i < attributes->nextensions; i++)
	{
		if (attributes->extensions[i].name_len == name_len &&
			memcmp(attributes->extensions[i].name, name, name_len) == 0)
			return;
	}
	value = dlv_text(header->value, header->value_len);
	if (value.s == NULL)
		return;
	attributes->extensions[attributes->nextensions].name = name;
	attributes->extensions[attributes->nextensions].name_len = name_len;
	attributes->extensions[attributes->nextensions].value = value;
	attributes->nextensions++;
}

/* Where a context attribute that we read from ce_<name> is kept; NULL = none of those. */
static DlvText *
dlv_context_attribute(DlvAttributes *attributes, const char *name, int len)
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
dlv_is_attribute_name(const char *name, int len)
{
	if (len < 1 || len > DLV_MAX_ATTRIBUTE_NAME)
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
dlv_is_reserved(const char *name, int len)
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

/*
 * Looks at bytes once: are they text, and do they need escapes?  Short ASCII
 * is nearly all there is, so that one loop decides it; only bytes above 127
 * pay for the verification.
 */
static DlvText
dlv_text(const char *s, int len)
{
	DlvText		text = {NULL, 0, false};
	int			seen = 0;

	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) s[i];

		if (c >= 0x80)
			seen |= DLV_HIGH;
		else if (c < 0x20 || c == '"' || c == '\\')
		{
			if (c == '\0')
				return text;
			seen |= DLV_ESCAPE;
		}
	}
	if ((seen & DLV_HIGH) && pg_encoding_verifymbstr(PG_UTF8, s, len) != len)
		return text;

	text.s = s;
	text.len = len;
	text.escape = (seen & DLV_ESCAPE) != 0;
	return text;
}

/* Appends text as the inside of a JSON string. */
static void
dlv_append_text(StringInfo buf, const DlvText *text)
{
	if (text->escape)
		dlv_append_escaped(buf, text->s, text->len);
	else
		appendBinaryStringInfo(buf, text->s, text->len);
}

/* As escape_json, for counted strings and without the quotes. */
static void
dlv_append_escaped(StringInfo buf, const char *s, int len)
{
	static const char hex[] = "0123456789abcdef";
	int			run = 0;

	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) s[i];
		char		escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
		int			escape_len = 2;

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		if (i > run)
			appendBinaryStringInfo(buf, s + run, i - run);
		run = i + 1;

		switch (c)
		{
			case '"':
			case '\\':
				escape[1] = (char) c;
				break;
			case '\n':
				escape[1] = 'n';
				break;
			case '\r':
				escape[1] = 'r';
				break;
			case '\t':
				escape[1] = 't';
				break;
			default:
				escape_len = 6;
		}
		appendBinaryStringInfo(buf, escape, escape_len);
	}
	if (len > run)
		appendBinaryStringInfo(buf, s + run, len - run);
}

static void
dlv_append_int64(StringInfo buf, int64 value)
{
	char		digits[MAXINT8LEN + 1];
	int			len = pg_lltoa(value, digits);

	appendBinaryStringInfo(buf, digits, len);
}

/* Appends the time attribute; nothing when the year has not four digits. */
static void
dlv_append_time(StringInfo buf, int64 timestamp_ms)
{
	time_t		seconds = (time_t) (timestamp_ms / 1000);
	struct tm	tm;
	char		text[32];

	if (gmtime_r(&seconds, &tm) == NULL || tm.tm_year > 9999 - 1900)
		return;
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	appendStringInfo(buf, ",\"time\":\"%s.%03dZ\"", text, (int) (timestamp_ms % 1000));
}

static void
dlv_append_base64(StringInfo buf, const char *s, int len)
{
	int			room = pg_b64_enc_len(len);
	int			written;

	enlargeStringInfo(buf, room);
	/* through void: the element type of these arguments changed in 18 */
	written = pg_b64_encode((const void *) s, len, buf->data + buf->len, room);
	Assert(written >= 0);
	buf->len += Max(written, 0);
	buf->data[buf->len] = '\0';
}

static void
dlv_append_hex(StringInfo buf, const uint8 *bytes, int len)
{
	static const char hex[] = "0123456789abcdef";

	for (int i = 0; i < len; i++)
	{
		appendStringInfoCharMacro(buf, hex[bytes[i] >> 4]);
		appendStringInfoCharMacro(buf, hex[bytes[i] & 15]);
	}
}

/*
 * Appends datacontenttype and the payload: JSON as it is, anything else as
 * data_base64.
 *
 * A content type is believed only after a look: bytes that are not JSON would
 * make the whole body unreadable, and with it the partition undeliverable.
 * Without a content type (most foreign topics) a JSON object or array is taken
 * for one; a bare number or string is not, or one text topic would show its
 * payloads now in the one form and now in the other.
 */
static void
dlv_append_data(StringInfo buf, const DeRecord *record, const DlvText *content_type)
{
	const char *value = record->value;
	int			len = record->value_len;
	bool		is_json;

	if (content_type->s != NULL)
	{
		dlv_append_literal(buf, ",\"datacontenttype\":\"");
		dlv_append_text(buf, content_type);
		appendStringInfoCharMacro(buf, '"');
		is_json = dlv_is_json_type(content_type->s, content_type->len) &&
			de_json_valid(value, len);
	}
	else
	{
		is_json = len > 0 && (value[0] == '{' || value[0] == '[') && de_json_valid(value, len);
		if (is_json)
			dlv_append_literal(buf, ",\"datacontenttype\":\"application/json\"");
	}

	if (is_json)
	{
		dlv_append_literal(buf, ",\"data\":");
		appendBinaryStringInfo(buf, value, len);
	}
	else
	{
		dlv_append_literal(buf, ",\"data_base64\":\"");
		dlv_append_base64(buf, value, len);
		appendStringInfoCharMacro(buf, '"');
	}
}

/* Is a content type "…/json" or "…+json", whatever its parameters? */
static bool
dlv_is_json_type(const char *s, int len)
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
 * Remembers the first event's trace, and whether any publisher records its
 * trace.  What is no W3C traceparent is the event's own affair.
 */
static void
dlv_note_trace(DeDeliveryBody *body, const DlvText *traceparent)
{
	const char *s = traceparent->s;

	/* 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, later versions may go on */
	if (traceparent->len < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' ||
		!dlv_is_hex(s, 2) || !dlv_is_hex(s + 3, 32) ||
		!dlv_is_hex(s + 36, 16) || !dlv_is_hex(s + 53, 2) ||
		strspn(s + 3, "0") == 32)
		return;

	if (body->trace_id[0] == '\0')
		memcpy(body->trace_id, s + 3, 32);
	if (strchr("13579bdf", s[54]) != NULL)
		body->trace_sampled = true;
}

static bool
dlv_is_hex(const char *s, int len)
{
	for (int i = 0; i < len; i++)
	{
		if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
	}
	return true;
}

/* ---- request headers ---- */

/*
 * All lines go into one buffer, each ended by its NUL: this runs for each
 * event in single mode, where fourteen small allocations and formats would
 * cost more than the body.
 */
int
de_delivery_headers(const DeDeliveryBody *body, const DeDeliveryAttempt *attempt,
					const char ***headers)
{
	StringInfoData text;
	StringInfoData id;
	int			start[DLV_HEADER_LINES];
	const char **lines;
	int			n = 0;

#define DLV_BEGIN_LINE(literal) \
	do \
	{ \
		Assert(n < DLV_HEADER_LINES); \
		start[n++] = text.len; \
		dlv_append_literal(&text, literal); \
	} while (0)
#define DLV_END_LINE() appendStringInfoCharMacro(&text, '\0')

	initStringInfo(&id);
	dlv_append_literal(&id, "deb_");
	dlv_append_hex(&id, body->digest, DLV_WEBHOOK_ID_BYTES);

	initStringInfo(&text);
	if (body->mode == DE_DELIVERY_BATCH)
		DLV_BEGIN_LINE("content-type: application/cloudevents-batch+json");
	else
		DLV_BEGIN_LINE("content-type: application/cloudevents+json");
	DLV_END_LINE();

	DLV_BEGIN_LINE("webhook-id: ");
	appendBinaryStringInfo(&text, id.data, id.len);
	DLV_END_LINE();

	DLV_BEGIN_LINE("webhook-timestamp: ");
	dlv_append_int64(&text, attempt->unix_seconds);
	DLV_END_LINE();

	if (attempt->secret[0] != '\0')
	{
		DLV_BEGIN_LINE("webhook-signature: ");
		dlv_append_signature(&text, attempt->secret, id.data, attempt->unix_seconds,
							 &body->json);
		if (attempt->previous_secret[0] != '\0')
		{
			appendStringInfoCharMacro(&text, ' ');
			dlv_append_signature(&text, attempt->previous_secret, id.data,
								 attempt->unix_seconds, &body->json);
		}
		DLV_END_LINE();
	}

	DLV_BEGIN_LINE("traceparent: ");
	dlv_append_traceparent(&text, body, attempt);
	DLV_END_LINE();

	DLV_BEGIN_LINE("durable-event-group: ");
	appendStringInfoString(&text, attempt->group);
	DLV_END_LINE();

	DLV_BEGIN_LINE("durable-event-topic: ");
	appendStringInfoString(&text, attempt->topic);
	DLV_END_LINE();

	DLV_BEGIN_LINE("durable-event-partition: ");
	dlv_append_int64(&text, attempt->partition);
	DLV_END_LINE();

	DLV_BEGIN_LINE("durable-event-first-offset: ");
	dlv_append_int64(&text, body->first_offset);
	DLV_END_LINE();

	DLV_BEGIN_LINE("durable-event-last-offset: ");
	dlv_append_int64(&text, body->last_offset);
	DLV_END_LINE();

	DLV_BEGIN_LINE("durable-event-attempt: ");
	dlv_append_int64(&text, attempt->attempt);
	DLV_END_LINE();

	DLV_BEGIN_LINE("durable-event-timeout-ms: ");
	dlv_append_int64(&text, attempt->timeout_ms);
	DLV_END_LINE();

	DLV_BEGIN_LINE("durable-event-term: ");
	dlv_append_int64(&text, attempt->generation);
	DLV_END_LINE();

#undef DLV_BEGIN_LINE
#undef DLV_END_LINE

	pfree(id.data);
	lines = palloc(sizeof(char *) * n);
	for (int i = 0; i < n; i++)
		lines[i] = text.data + start[i];
	*headers = lines;
	return n;
}

/*
 * The delivery's own span.  A single event's delivery is part of the event's
 * trace; a batch, which may hold many traces, has one of its own.  All
 * attempts share the trace and differ in the span.  Ids are taken from the
 * digest, so nothing random is needed here.
 *
 * The sampled flag follows the publishers; with no trace at all it is set,
 * because a parent that is not sampled would switch the handler's own tracing
 * off.
 */
static void
dlv_append_traceparent(StringInfo buf, const DeDeliveryBody *body,
					   const DeDeliveryAttempt *attempt)
{
	bool		sampled = body->trace_sampled || body->trace_id[0] == '\0';
	uint64		span;

	dlv_append_literal(buf, "00-");
	if (body->mode == DE_DELIVERY_SINGLE && body->trace_id[0] != '\0')
		appendBinaryStringInfo(buf, body->trace_id, 32);
	else
		dlv_append_hex(buf, body->digest + DLV_SHA256_SIZE - 16, 16);
	appendStringInfoCharMacro(buf, '-');

	memcpy(&span, body->digest, sizeof(span));
	span ^= pg_hton64(((uint64) attempt->unix_seconds << 24) ^ (uint64) attempt->attempt);
	if (span == 0)				/* not a legal span id */
		span = 1;
	dlv_append_hex(buf, (const uint8 *) &span, sizeof(span));
	appendStringInfoString(buf, sampled ? "-01" : "-00");
}

/*
 * Appends "v1,<base64 of HMAC-SHA256 of id.timestamp.body>" (Standard
 * Webhooks).  A secret is "whsec_" and base64, or any other text as it is.
 */
static void
dlv_append_signature(StringInfo buf, const char *secret, const char *id,
					 int64 unix_seconds, const StringInfoData *json)
{
	int			secret_len = strlen(secret);
	uint8	   *key = palloc(secret_len + 1);
	int			key_len = -1;
	char		timestamp[MAXINT8LEN + 3];
	int			timestamp_len;
	uint8		mac[DLV_SHA256_SIZE];

	if (strncmp(secret, "whsec_", 6) == 0 && secret_len > 6)
		key_len = pg_b64_decode(secret + 6, secret_len - 6, (void *) key, secret_len);
	if (key_len <= 0)
	{
		memcpy(key, secret, secret_len);
		key_len = secret_len;
	}

	timestamp[0] = '.';
	timestamp_len = 1 + pg_lltoa(unix_seconds, timestamp + 1);
	timestamp[timestamp_len++] = '.';

	dlv_create_hash_contexts();
	if (pg_hmac_init(dlv_hmac, key, key_len) < 0 ||
		pg_hmac_update(dlv_hmac, (const uint8 *) id, strlen(id)) < 0 ||
		pg_hmac_update(dlv_hmac, (const uint8 *) timestamp, timestamp_len) < 0 ||
		pg_hmac_update(dlv_hmac, (const uint8 *) json->data, json->len) < 0 ||
		pg_hmac_final(dlv_hmac, mac, sizeof(mac)) < 0)
		elog(ERROR, "could not compute HMAC-SHA256: %s", pg_hmac_error(dlv_hmac));

	explicit_bzero(key, key_len);
	pfree(key);
	dlv_append_literal(buf, "v1,");
	dlv_append_base64(buf, (const char *) mac, sizeof(mac));
}

/*
 * Creates the hash contexts at first use, for the life of the process.
 *
 * The server registers them with CurrentResourceOwner without asking whether
 * there is one.  Outside of a transaction, where deliveries are made, there is
 * none (a null pointer); inside of one they would be freed at its end.  So they
 * get an owner of their own that is never released.  A server built without
 * OpenSSL takes their memory from the current context, which lives too short
 * as well.
 */
static void
dlv_create_hash_contexts(void)
{
#ifndef FRONTEND				/* the unit tests have neither owners nor contexts */
	ResourceOwner saved_owner = CurrentResourceOwner;
	MemoryContext saved_context = CurrentMemoryContext;
#endif

	if (dlv_hmac != NULL)
		return;

#ifndef FRONTEND
	MemoryContextSwitchTo(TopMemoryContext);
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "durable_event delivery");
#endif
	PG_TRY();
	{
		if (dlv_sha256 == NULL)
			dlv_sha256 = pg_cryptohash_create(PG_SHA256);
		dlv_hmac = pg_hmac_create(PG_SHA256);
	}
	PG_FINALLY();
	{
#ifndef FRONTEND
		CurrentResourceOwner = saved_owner;
		MemoryContextSwitchTo(saved_context);
#endif
	}
	PG_END_TRY();
}
