/*-------------------------------------------------------------------------
 *
 * reserved.h
 *		Names that only durable_event gives a value.  Header only.
 *
 * Three kinds, since an event passes three forms: headers of a record in
 * Kafka, attributes of a CloudEvent, headers of a request.  An entry that
 * ends in "-" or "_" stands for all names that begin so.  Lower case here;
 * the case of a name does not matter.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_RESERVED_H
#define DE_RESERVED_H

static inline bool
de_name_is_among(const char *name, int len, const char *const *reserved, int n)
{
	for (int i = 0; i < n; i++)
	{
		int			reserved_len = (int) strlen(reserved[i]);
		char		last = reserved[i][reserved_len - 1];

		if (len < reserved_len || pg_strncasecmp(name, reserved[i], reserved_len) != 0)
			continue;
		if (len == reserved_len || last == '-' || last == '_')
			return true;
	}
	return false;
}

/* A header of an event that its publisher may not set: the relay does, or who dead-letters it. */
static inline bool
de_event_header_is_reserved(const char *name, int len)
{
	static const char *const reserved[] = {"ce_", "content-type", "dlq-", "durable-event-"};

	return de_name_is_among(name, len, reserved, lengthof(reserved));
}

/* An attribute of a CloudEvent, which an event's header of that name does not become. */
static inline bool
de_attribute_is_reserved(const char *name, int len)
{
	static const char *const reserved[] = {
		"data", "datacontenttype", "dataschema", "id", "kafkaheaders", "kafkaoffset",
		"kafkapartition", "kafkatopic", "partitionkey", "partitionkeybase64", "sequence", "source",
		"specversion", "subject", "time", "type"
	};

	return de_name_is_among(name, len, reserved, lengthof(reserved));
}

/* A header of a request that handler_headers may not set: the protocol's, or HTTP's own. */
static inline bool
de_request_header_is_reserved(const char *name, int len)
{
	static const char *const reserved[] = {
		"connection", "content-encoding", "content-length", "content-type", "durable-event-",
		"expect", "host", "keep-alive", "te", "traceparent", "trailer", "transfer-encoding",
		"upgrade", "webhook-"
	};

	return de_name_is_among(name, len, reserved, lengthof(reserved));
}

#endif							/* DE_RESERVED_H */
