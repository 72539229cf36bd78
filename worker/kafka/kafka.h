/*-------------------------------------------------------------------------
 *
 * kafka.h
 *		What all of this room's headers share: producer.h, admin.h and
 *		consumer.h show no librdkafka type; the kafka_*.c files behind them
 *		share kafka_internal.h.
 *
 * All functions are for the main thread of a worker, never block on the
 * network, never throw once a handle exists, and block signals around calls
 * that may start a thread.  Strings that a function returns in an event are
 * valid until the next call on the same handle.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_KAFKA_H
#define DE_KAFKA_H

#include "worker/kafka/record.h"

#define DE_KAFKA_ERROR_SIZE 512

typedef enum DeKafkaOutcome
{
	DE_KAFKA_OK,
	DE_KAFKA_RETRIABLE,			/* the same again may succeed */
	DE_KAFKA_BUSY,				/* the same again will succeed, others' may at once */
	DE_KAFKA_REFUSED,			/* this record or topic is refused for good */
	DE_KAFKA_FATAL				/* the handle is dead: build a new one */
} DeKafkaOutcome;

/* What a handle reports besides its own results. */
typedef struct DeKafkaNotice
{
	bool		fatal;			/* build a new handle */
	bool		all_brokers_down;
	char		text[DE_KAFKA_ERROR_SIZE];
} DeKafkaNotice;

/*
 * Handles are torn down on a thread of their own, since the library may wait
 * for its threads.  Waits at most timeout_ms for all teardowns begun so far;
 * true when none is left.  Called at exit.
 */
extern bool de_kafka_teardown_wait(int timeout_ms);

#endif							/* DE_KAFKA_H */
