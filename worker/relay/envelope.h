/*-------------------------------------------------------------------------
 *
 * envelope.h
 *		The headers of an event in Kafka: CloudEvents 1.0, binary mode.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_ENVELOPE_H
#define DE_ENVELOPE_H

#include "extension/outbox/outbox.h"
#include "worker/kafka/record.h"

/* The headers of one event at a time; pointers into it, the event and "source". */
typedef struct DeEnvelope
{
	DeKafkaHeader *headers;
	int			n;
	int			max;
	Size		bytes;			/* names and values */
	const char *source;
	int			source_len;

	/* where the texts are made */
	char		id[36];
	char		time[27];		/* 2026-01-31T23:59:59.999999Z */
	char		sequence[20];
	int64		day;			/* that the date in "time" is of, days since 2000-01-01 */
} DeEnvelope;

/* "source" must live as long as the envelope; its memory is the current context's. */
extern void de_envelope_init(DeEnvelope *envelope, const char *source);

/* Fills in the headers of an event. */
extern void de_envelope_fill(DeEnvelope *envelope, const DeOutboxEvent *event);

#endif							/* DE_ENVELOPE_H */
