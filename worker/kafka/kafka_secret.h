/*-------------------------------------------------------------------------
 *
 * kafka_secret.h
 *		Secrets of the Kafka client that stand in files.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_KAFKA_SECRET_H
#define DE_KAFKA_SECRET_H

#define DE_KAFKA_SECRET_SIZE 16384

/*
 * The property whose value stands in a file that the property "name" names
 * ("sasl.password" for "sasl.password.file"), NULL = name is no such.
 */
extern const char *de_kafka_secret_property(const char *name);

/*
 * Reads the file, without the end of its last line, into value, at most size
 * bytes with the NUL.  False with the reason in error.  Never throws; blocks no
 * longer than a local file does.
 */
extern bool de_kafka_secret_read(const char *property, const char *path, char *value, int size,
								 char *error, int error_size);

#endif							/* DE_KAFKA_SECRET_H */
