/*-------------------------------------------------------------------------
 *
 * record.h
 *		A Kafka record as others see it: the consumer that returns it, the
 *		delivery that encodes it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_RECORD_H
#define DE_RECORD_H

typedef struct DeKafkaHeader
{
	const char *name;
	const char *value;			/* NULL = null header */
	int			name_len;
	int			value_len;
} DeKafkaHeader;

/* A record, borrowed: valid until the next call on its partition. */
typedef struct DeRecord
{
	const char *topic;
	int32		partition;
	int64		offset;
	int64		timestamp_ms;	/* -1 = none */
	const char *key;			/* NULL = no key */
	const char *value;			/* NULL = tombstone */
	int			key_len;
	int			value_len;
	int			nheaders;
	const DeKafkaHeader *headers;
} DeRecord;

#endif							/* DE_RECORD_H */
