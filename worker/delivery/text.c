/*-------------------------------------------------------------------------
 *
 * text.c
 *		Text of strangers inside JSON: looked at once, escaped, appended.
 *
 * Nothing depends on the database's encoding: all text is UTF-8 on both sides.
 *
 * Pure: no state; linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "worker/delivery/text.h"

/* what a byte means for a JSON string */
#define TEXT_ESCAPE 1
#define TEXT_HIGH 2

static char *text_put_escaped(char *p, const char *s, int len);

/*
 * Looks at bytes once: are they text, and do they need escapes?  Short ASCII
 * is nearly all there is, so that one loop decides it; only bytes above 127
 * pay for the verification.
 */
DeText
de_text(const char *s, int len)
{
	DeText		text = {NULL, 0, false};
	int			seen = 0;

	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) s[i];

		if (c >= 0x80)
			seen |= TEXT_HIGH;
		else if (c < 0x20 || c == '"' || c == '\\')
		{
			if (c == '\0')
				return text;
			seen |= TEXT_ESCAPE;
		}
	}
	if ((seen & TEXT_HIGH) && pg_encoding_verifymbstr(PG_UTF8, s, len) != len)
		return text;

	text.s = s;
	text.len = len;
	text.escape = (seen & TEXT_ESCAPE) != 0;
	return text;
}

/* Puts text as the inside of a JSON string. */
char *
de_put_text(char *p, const DeText *text)
{
	if (text->escape)
		return text_put_escaped(p, text->s, text->len);
	memcpy(p, text->s, text->len);
	return p + text->len;
}

/* As escape_json, for counted strings and without the quotes. */
static char *
text_put_escaped(char *p, const char *s, int len)
{
	static const char hex[] = "0123456789abcdef";

	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) s[i];

		if (c >= 0x20 && c != '"' && c != '\\')
		{
			*p++ = (char) c;
			continue;
		}
		*p++ = '\\';
		switch (c)
		{
			case '"':
			case '\\':
				*p++ = (char) c;
				break;
			case '\n':
				*p++ = 'n';
				break;
			case '\r':
				*p++ = 'r';
				break;
			case '\t':
				*p++ = 't';
				break;
			default:
				*p++ = 'u';
				*p++ = '0';
				*p++ = '0';
				*p++ = hex[c >> 4];
				*p++ = hex[c & 15];
		}
	}
	return p;
}

/* Puts bytes in base64. */
char *
de_put_base64(char *p, const char *s, int len)
{
	/* through void: the element type of these arguments changed in 18 */
	int			written = pg_b64_encode((const void *) s, len, p, (int) de_base64_room(len));

	Assert(written >= 0);
	return p + Max(written, 0);
}

void
de_append_int64(StringInfo buf, int64 value)
{
	char		digits[MAXINT8LEN + 1];
	int			len = pg_lltoa(value, digits);

	appendBinaryStringInfo(buf, digits, len);
}

void
de_append_base64(StringInfo buf, const char *s, int len)
{
	enlargeStringInfo(buf, (int) de_base64_room(len));
	buf->len = de_put_base64(buf->data + buf->len, s, len) - buf->data;
	buf->data[buf->len] = '\0';
}

void
de_append_hex(StringInfo buf, const uint8 *bytes, int len)
{
	static const char hex[] = "0123456789abcdef";

	for (int i = 0; i < len; i++)
	{
		appendStringInfoCharMacro(buf, hex[bytes[i] >> 4]);
		appendStringInfoCharMacro(buf, hex[bytes[i] & 15]);
	}
}
