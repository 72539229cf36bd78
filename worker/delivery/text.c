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

static void text_append_escaped(StringInfo buf, const char *s, int len);

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

/* Appends text as the inside of a JSON string. */
void
de_append_text(StringInfo buf, const DeText *text)
{
	if (text->escape)
		text_append_escaped(buf, text->s, text->len);
	else
		appendBinaryStringInfo(buf, text->s, text->len);
}

/* As escape_json, for counted strings and without the quotes. */
static void
text_append_escaped(StringInfo buf, const char *s, int len)
{
	static const char hex[] = "0123456789abcdef";
	int			run = 0;

	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) s[i];
		char		escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
		int			escape_len = 2;

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		if (i > run)
			appendBinaryStringInfo(buf, s + run, i - run);
		run = i + 1;

		switch (c)
		{
			case '"':
			case '\\':
				escape[1] = (char) c;
				break;
			case '\n':
				escape[1] = 'n';
				break;
			case '\r':
				escape[1] = 'r';
				break;
			case '\t':
				escape[1] = 't';
				break;
			default:
				escape_len = 6;
		}
		appendBinaryStringInfo(buf, escape, escape_len);
	}
	if (len > run)
		appendBinaryStringInfo(buf, s + run, len - run);
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
	int			room = pg_b64_enc_len(len);
	int			written;

	enlargeStringInfo(buf, room);
	/* through void: the element type of these arguments changed in 18 */
	written = pg_b64_encode((const void *) s, len, buf->data + buf->len, room);
	Assert(written >= 0);
	buf->len += Max(written, 0);
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
