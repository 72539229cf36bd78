/*-------------------------------------------------------------------------
 *
 * utf8.h
 *		Text of the database's encoding, and the UTF-8 that Kafka gets.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_UTF8_H
#define DE_UTF8_H

/* Bytes in UTF-8 of a string of the database's encoding; palloc'd. */
extern bytea *de_bytes_in_utf8(const char *s, int len);

/* UTF-8 bytes as text of the database's encoding. */
extern text *de_text_from_utf8(const char *s, int len);

#endif							/* DE_UTF8_H */
