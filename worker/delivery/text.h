/*-------------------------------------------------------------------------
 *
 * text.h
 *		Text of strangers inside JSON: looked at once, escaped, appended.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_TEXT_H
#define DE_TEXT_H

#include "lib/stringinfo.h"

/* Text for a JSON string; valid only if it is UTF-8 without NUL. */
typedef struct DeText
{
	const char *s;				/* NULL = not there, or not usable as text */
	int			len;
	bool		escape;			/* has bytes to escape */
} DeText;

/* Bytes as text, borrowed; s is NULL when they are none.  Never throws. */
extern DeText de_text(const char *s, int len);

/* Bytes that text takes at most inside of a JSON string, and bytes in base64. */
static inline Size
de_text_room(const DeText *text)
{
	return text->escape ? 6 * (Size) text->len : (Size) text->len;
}

static inline Size
de_base64_room(int len)
{
	return ((Size) len + 2) / 3 * 4;
}

/*
 * Text as the inside of a JSON string, and bytes in base64, put where there is
 * room for them; returns their end.
 */
extern char *de_put_text(char *p, const DeText *text);
extern char *de_put_base64(char *p, const char *s, int len);

/* The following throw only out_of_memory. */

extern void de_append_int64(StringInfo buf, int64 value);
extern void de_append_base64(StringInfo buf, const char *s, int len);
extern void de_append_hex(StringInfo buf, const uint8 *bytes, int len);

/* appends a string constant without measuring it at run time */
#define de_append_literal(buf, literal) \
	appendBinaryStringInfo((buf), (literal), sizeof(literal) - 1)

#endif							/* DE_TEXT_H */
