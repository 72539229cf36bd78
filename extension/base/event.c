/*-------------------------------------------------------------------------
 *
 * event.c
 *		One event: what is legal, and its encoding.
 *
 * Everything that can be refused is refused here, in the statement that
 * publishes, where the writer can still be told; the relay only moves bytes.
 * Encoding (JSON text, UTF-8, headers) is done here too, so that its cost is
 * spread over the backends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/time.h>

#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "extension/base/event.h"
#include "extension/base/event_type.h"
#include "extension/base/guc.h"
#include "extension/base/reserved.h"
#include "extension/base/json_text.h"

/*
 * What a record costs at most beside key, payload, event type, content type and
 * our caller's headers, so that an event that is accepted fits a topic whose
 * max.message.bytes is max_event_size: 61 bytes of a batch of its own, 40 for
 * lengths and the like of the record, names, values and lengths of the eight
 * headers that the relay adds, with a source of 255 bytes.
 */
#define EVENT_OVERHEAD 576

/*
 * A header of our caller takes that much more than its name and value while the
 * relay and the library have the event in memory: counted, or 80,000 empty
 * ones would be no large event.
 */
#define EVENT_HEADER_OVERHEAD 64

PG_FUNCTION_INFO_V1(durable_event_decode_text);
PG_FUNCTION_INFO_V1(durable_event_decode_headers);

static void event_uuid7(pg_uuid_t *uuid, TimestampTz at);
static bytea *event_encode_headers(Jsonb *headers, int *n);
static void event_check_header_name(const char *name, int len);
static void append_length_prefixed(StringInfo buf, const char *s, int len, bool is_name);

/*
 * A UUID of version 7: milliseconds, 12 bits of the fraction (so that those of
 * one process ascend), 62 random bits.  Random bytes are fetched in bulk: a
 * call for each id would cost as much as all else of publishing.
 */
static void
event_uuid7(pg_uuid_t *uuid, TimestampTz at)
{
	static uint8 pool[512];
	static int	left = 0;
	uint64		us = (uint64) (at + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);
	uint64		ms = us / 1000;
	uint32		fraction = (uint32) ((us % 1000) * 4096 / 1000);

	if (left < 8)
	{
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		left = sizeof(pool);
	}
	for (int i = 0; i < 6; i++)
		uuid->data[i] = (uint8) (ms >> (8 * (5 - i)));
	uuid->data[6] = 0x70 | (uint8) (fraction >> 8);
	uuid->data[7] = (uint8) fraction;
	left -= 8;
	memcpy(&uuid->data[8], &pool[left], 8);
	uuid->data[8] = 0x80 | (uuid->data[8] & 0x3f);
}

/*
 * Makes a pending event of what a caller gave; see event.h.
 */
void
de_event_build(DePendingEvent *event, text *event_type, text *key, bytea *payload,
			   bytea *content_type, Jsonb *headers)
{
	Size		size = EVENT_OVERHEAD;
	int			nheaders = 0;

	event->event_type = de_bytes_in_utf8(VARDATA_ANY(event_type), VARSIZE_ANY_EXHDR(event_type));
	size += VARSIZE(event->event_type) - VARHDRSZ;
	de_event_type_check(VARDATA(event->event_type), VARSIZE(event->event_type) - VARHDRSZ,
						key != NULL);
	event->key = NULL;
	if (key != NULL)
	{
		event->key = de_bytes_in_utf8(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
		/* twice: the relay repeats it as ce_subject */
		size += 2 * (VARSIZE(event->key) - VARHDRSZ);
	}
	event->headers = headers != NULL ? event_encode_headers(headers, &nheaders) : NULL;
	if (event->headers != NULL)
		size += VARSIZE(event->headers) - VARHDRSZ + nheaders * EVENT_HEADER_OVERHEAD;
	event->content_type = content_type;
	size += content_type != NULL ? VARSIZE(content_type) - VARHDRSZ : strlen(DE_JSON_CONTENT_TYPE);
	event->payload = payload;
	if (payload != NULL)
		size += VARSIZE(payload) - VARHDRSZ;
	if (size > (Size) de_max_event_size * 1024)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("event of type \"%s\" is too large",
						text_to_cstring(event_type)),
				 errdetail("It takes %zu bytes with key and headers, the limit is %zu.",
						   size, (Size) de_max_event_size * 1024),
				 errhint("Publish a reference to the data, or fewer columns of a row (columns= of publish_row()), or increase durable_event.max_event_size together with max.message.bytes of the topic.")));
	event->created_at = GetCurrentTimestamp();
	event_uuid7(&event->event_id, event->created_at);
}

/*
 * JSON text of a jsonb value in UTF-8.
 */
bytea *
de_event_json_payload(Jsonb *json)
{
	StringInfoData buf;

	initStringInfo(&buf);
	if (GetDatabaseEncoding() == PG_UTF8)
	{
		/* room for the header first, so that the text need not be copied behind one */
		buf.len = VARHDRSZ;
		de_json_text_append(&buf, json);
		SET_VARSIZE(buf.data, buf.len);
		return (bytea *) buf.data;
	}
	de_json_text_append(&buf, json);
	return de_bytes_in_utf8(buf.data, buf.len);
}

/*
 * A content type as bytes: printable ASCII only, since it becomes a header.
 */
bytea *
de_event_content_type(text *content_type)
{
	const char *s = VARDATA_ANY(content_type);
	int			len = VARSIZE_ANY_EXHDR(content_type);
	bool		legal = len > 0 && len <= 255;

	for (int i = 0; i < len && legal; i++)
		legal = s[i] >= ' ' && s[i] <= '~';
	if (!legal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid content type \"%s\"", text_to_cstring(content_type)),
				 errdetail("A content type consists of 1 to 255 printable ASCII characters.")));
	return de_bytes_in_utf8(s, len);
}

/*
 * Encodes a flat JSON object of strings; see event.h for the format.  NULL
 * for an empty object.  *n = how many.
 */
static bytea *
event_encode_headers(Jsonb *headers, int *n)
{
	StringInfoData buf;
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event headers must be a JSON object of strings")));
	*n = JB_ROOT_COUNT(headers);
	if (*n == 0)
		return NULL;
	if (*n > DE_MAX_HEADERS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many event headers"),
				 errdetail("There are %d, the limit is %d.", *n, DE_MAX_HEADERS),
				 errhint("Put data into the payload; headers are for what routes and traces an event.")));

	initStringInfo(&buf);
	appendStringInfoSpaces(&buf, VARHDRSZ);
	it = JsonbIteratorInit(&headers->root);
	token = JsonbIteratorNext(&it, &v, true);	/* WJB_BEGIN_OBJECT */
	while ((token = JsonbIteratorNext(&it, &v, true)) == WJB_KEY)
	{
		bytea	   *name = de_bytes_in_utf8(v.val.string.val, v.val.string.len);
		bytea	   *value;

		event_check_header_name(VARDATA(name), VARSIZE(name) - VARHDRSZ);
		append_length_prefixed(&buf, VARDATA(name), VARSIZE(name) - VARHDRSZ, true);
		token = JsonbIteratorNext(&it, &v, true);
		if (token != WJB_VALUE || v.type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("value of event header \"%.*s\" is not a string",
							(int) (VARSIZE(name) - VARHDRSZ), VARDATA(name)),
					 errhint("Event headers are a JSON object of strings; write numbers and booleans in quotes.")));
		value = de_bytes_in_utf8(v.val.string.val, v.val.string.len);
		if (VARSIZE(value) - VARHDRSZ > DE_MAX_HEADER_VALUE)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("value of event header \"%.*s\" is too long",
							(int) (VARSIZE(name) - VARHDRSZ), VARDATA(name)),
					 errdetail("It takes %d bytes, the limit is %d.",
							   (int) (VARSIZE(value) - VARHDRSZ), DE_MAX_HEADER_VALUE),
					 errhint("Put data into the payload; headers are for what routes and traces an event.")));
		append_length_prefixed(&buf, VARDATA(value), VARSIZE(value) - VARHDRSZ, false);
		pfree(name);
		pfree(value);
	}
	SET_VARSIZE(buf.data, buf.len);
	return (bytea *) buf.data;
}

/*
 * Throws unless a header may have this name (in UTF-8).
 */
static void
event_check_header_name(const char *name, int len)
{
	bool		legal = len > 0 && len <= DE_MAX_HEADER_NAME;

	for (int i = 0; i < len && legal; i++)
		legal = name[i] > ' ' && name[i] <= '~' && name[i] != ':';
	if (!legal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid event header name \"%s\"",
						text_to_cstring(de_text_from_utf8(name, len))),
				 errdetail("A header name consists of 1 to %d printable ASCII characters other than space and colon.",
						   DE_MAX_HEADER_NAME)));
	if (de_event_header_is_reserved(name, len))
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME),
				 errmsg("event header name \"%.*s\" is reserved", len, name),
				 errdetail("Names that begin with \"ce_\", \"durable-event-\" or \"dlq-\", and \"content-type\", are written by durable_event.")));
}

/*
 * Appends a length in network byte order (2 bytes for a name, 4 for a value)
 * and the bytes.
 */
static void
append_length_prefixed(StringInfo buf, const char *s, int len, bool is_name)
{
	if (is_name)
	{
		uint16		n = pg_hton16((uint16) len);

		appendBinaryStringInfo(buf, (const char *) &n, sizeof(n));
	}
	else
	{
		uint32		n = pg_hton32((uint32) len);

		appendBinaryStringInfo(buf, (const char *) &n, sizeof(n));
	}
	appendBinaryStringInfo(buf, s, len);
}

/*
 * Walks encoded headers.  Bytes that are no encoding end the walk: the
 * column can only hold what event_encode_headers wrote.
 */
bool
de_headers_next(const char *encoded, int len, int *pos, DeEventHeader *header)
{
	uint16		name_len;
	uint32		value_len;
	int			left = len - *pos;

	if (left < (int) (sizeof(name_len) + sizeof(value_len)))
		return false;
	memcpy(&name_len, encoded + *pos, sizeof(name_len));
	name_len = pg_ntoh16(name_len);
	left -= sizeof(name_len) + sizeof(value_len);
	if (left < name_len)
		return false;
	header->name = encoded + *pos + sizeof(name_len);
	header->name_len = name_len;
	memcpy(&value_len, header->name + name_len, sizeof(value_len));
	value_len = pg_ntoh32(value_len);
	left -= name_len;
	if ((uint32) left < value_len)
		return false;
	header->value = header->name + name_len + sizeof(value_len);
	header->value_len = (int) value_len;
	*pos = (int) (header->value + value_len - encoded);
	return true;
}

/*
 * SQL: decode_text(bytea) returns text: a stored UTF-8 string as text of the
 * database's encoding, for the views.
 */
Datum
durable_event_decode_text(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_TEXT_P(de_text_from_utf8(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)));
}

/*
 * SQL: decode_headers(bytea) returns jsonb: stored headers as an object.
 */
Datum
durable_event_decode_headers(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	JsonbParseState *state = NULL;
	JsonbValue *result;
	JsonbValue	v;
	DeEventHeader header;
	int			pos = 0;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	while (de_headers_next(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), &pos, &header))
	{
		v.type = jbvString;
		v.val.string.val = text_to_cstring(de_text_from_utf8(header.name, header.name_len));
		v.val.string.len = strlen(v.val.string.val);
		pushJsonbValue(&state, WJB_KEY, &v);
		v.val.string.val = text_to_cstring(de_text_from_utf8(header.value, header.value_len));
		v.val.string.len = strlen(v.val.string.val);
		pushJsonbValue(&state, WJB_VALUE, &v);
	}
	result = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	PG_RETURN_JSONB_P(JsonbValueToJsonb(result));
}
