/*-------------------------------------------------------------------------
 *
 * event.h
 *		One event: what is legal, and its encoding.
 *
 * Encoded headers (column "headers" of a segment): for each header
 *		uint16 name length, name, uint32 value length, value
 * with lengths in network byte order, text in UTF-8.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_EVENT_H
#define DE_EVENT_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "extension/base/event_type.h"
#include "extension/base/utf8.h"

#define DE_MAX_HEADERS 1000		/* of an event, beside those that the relay adds */
#define DE_MAX_HEADER_NAME 255	/* bytes */
#define DE_MAX_HEADER_VALUE 32768	/* bytes */

/*
 * A validated event, not yet stored.  Text is UTF-8, whatever the database's
 * encoding; everything belongs to its creator's memory context.
 */
typedef struct DePendingEvent
{
	pg_uuid_t	event_id;
	TimestampTz created_at;
	bytea	   *event_type;
	bytea	   *key;			/* NULL = none */
	bytea	   *content_type;	/* NULL = application/json */
	bytea	   *headers;		/* encoded; NULL = none */
	bytea	   *payload;		/* NULL = tombstone */
} DePendingEvent;

#define DE_JSON_CONTENT_TYPE "application/json"

/*
 * Makes a pending event of what a caller gave: checks event type, headers and
 * size, converts to UTF-8, gives it an id and the time.  key and headers may be
 * NULL; payload (already bytes for Kafka) and content_type are taken as they
 * are.  Throws invalid_parameter_value or program_limit_exceeded.
 */
extern void de_event_build(DePendingEvent *event, text *event_type, text *key, bytea *payload,
						   bytea *content_type, Jsonb *headers);

/* JSON text of a jsonb value in UTF-8, as a bytea. */
extern bytea *de_event_json_payload(Jsonb *json);

/* A content type as bytes; throws invalid_parameter_value. */
extern bytea *de_event_content_type(text *content_type);

/* SQL: encoded headers (bytea) as jsonb, for people. */
extern PGDLLEXPORT Datum durable_event_decode_headers(PG_FUNCTION_ARGS);

/* One decoded header; pointers into the encoded bytes. */
typedef struct DeEventHeader
{
	const char *name;
	const char *value;
	int			name_len;
	int			value_len;
} DeEventHeader;

/*
 * Walks encoded headers: *pos starts at 0; returns false at the end (or at
 * bytes that are no encoding).  Never throws, allocates nothing.
 */
extern bool de_headers_next(const char *encoded, int len, int *pos, DeEventHeader *header);

#endif							/* DE_EVENT_H */
