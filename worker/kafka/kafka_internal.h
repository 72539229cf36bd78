/*-------------------------------------------------------------------------
 *
 * kafka_internal.h
 *		What the kafka_*.c files share.  The only header that includes
 *		librdkafka; only kafka_*.c may include it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_KAFKA_INTERNAL_H
#define DE_KAFKA_INTERNAL_H

#include <librdkafka/rdkafka.h>

#include "worker/kafka/kafka.h"

/*
 * A configuration: the event API (no callback runs on a library thread),
 * defaults of all handles, then those of the role, then the user's properties
 * ("property=value, ..."), then bootstrap_servers (empty = none) and the fixed
 * properties of the role, which win.  "defaults" and "fixed" are name, value,
 * ..., NULL.  NULL with the reason in error.  The caller owns it.
 */
extern rd_kafka_conf_t *de_kafka_conf_build(const char *bootstrap_servers,
											const char *properties,
											const char *const *defaults,
											const char *const *fixed, int events,
											char *error, int error_size);

/* rd_kafka_new with signals blocked; takes conf over, also when it fails. */
extern rd_kafka_t *de_kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf,
								char *error, int error_size);

/*
 * Destroys rk on a thread of its own (signals blocked there).  All queues,
 * topics and messages of it must have been released before.  What its threads
 * may use until then goes afterwards: "closefd" is closed (the target of the
 * queues' io events), -1 = none; "release" is called with "arg", NULL = none.
 * It may run on that thread, so it calls nothing of the server.
 */
extern void de_kafka_destroy_in_background(rd_kafka_t *rk, int closefd,
										   void (*release)(void *arg), void *arg);

/* What an error code means for the record, topic or handle it came for. */
extern DeKafkaOutcome de_kafka_classify(rd_kafka_t *rk, rd_kafka_resp_err_t err);

/* Fills in a notice from an error or log event; false if nobody needs to know. */
extern bool de_kafka_notice_from_event(rd_kafka_t *rk, rd_kafka_event_t *event,
									   DeKafkaNotice *notice);

/* A non-blocking eventfd for rd_kafka_queue_io_event_enable, and its draining. */
extern int	de_kafka_eventfd_create(void);
extern void de_kafka_eventfd_drain(int fd);
extern void de_kafka_queue_notify(rd_kafka_queue_t *queue, int fd);

#endif							/* DE_KAFKA_INTERNAL_H */
