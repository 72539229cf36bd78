/*-------------------------------------------------------------------------
 *
 * event_type.h
 *		Which event types may be published.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_EVENT_TYPE_H
#define DE_EVENT_TYPE_H

#define DE_MAX_TOPIC_LENGTH 249 /* Kafka's limit */

/* May this be the name of a Kafka topic?  (1..249 of [a-zA-Z0-9._-], not . or ..) */
extern bool de_topic_name_is_legal(const char *name, int len);

/*
 * The topic of an event type (in UTF-8) that has none of its own in event_type,
 * into a buffer of DE_MAX_TOPIC_LENGTH + 1 bytes; false if that is no legal name.
 */
extern bool de_topic_by_prefix(char *topic, const char *name, int len);

/*
 * Throws unless an event of that type (in UTF-8), with or without a key, may be
 * published: invalid_parameter_value when it has no legal topic or one that
 * collides with a registered type's, undefined_object when only registered types
 * may be published, null_value_not_allowed when its topic needs keys.  To be
 * called in a transaction; looks at the catalogs only after a change of
 * event_type, and then waits for a lock only if the answer depends on it.
 */
extern void de_event_type_check(const char *name, int len, bool has_key);

#endif							/* DE_EVENT_TYPE_H */
