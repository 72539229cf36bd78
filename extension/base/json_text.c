/*-------------------------------------------------------------------------
 *
 * json_text.c
 *		The text of a jsonb value, fast.
 *
 * The server's own function copies each string and then looks at each of its
 * bytes, until PostgreSQL 18: more than a tenth of all that publishing a large
 * transaction costs.  Here eight bytes are looked at in one step, and a run of
 * bytes that need no escape is appended as a whole.  The text must be the very
 * same, since a payload is what jsonb prints; sql/encoding.sql compares.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"

#include "extension/base/json_text.h"

static void json_text_scalar(StringInfo buf, const JsonbValue *v);
static void json_text_string(StringInfo buf, const char *s, int len);
static int	json_text_plain_run(const char *s, int len);

/*
 * Appends the text of a value; see json_text.h.
 */
void
de_json_text_append(StringInfo buf, Jsonb *json)
{
	JsonbIterator *it = JsonbIteratorInit(&json->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	bool		comma = false;	/* is what comes next not the first of its level? */

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		if (comma && token != WJB_END_ARRAY && token != WJB_END_OBJECT)
			appendBinaryStringInfo(buf, ", ", 2);
		switch (token)
		{
			case WJB_BEGIN_ARRAY:
				/* a scalar is stored as an array of one */
				if (!v.val.array.rawScalar)
					appendStringInfoCharMacro(buf, '[');
				comma = false;
				break;
			case WJB_BEGIN_OBJECT:
				appendStringInfoCharMacro(buf, '{');
				comma = false;
				break;
			case WJB_KEY:
				json_text_string(buf, v.val.string.val, v.val.string.len);
				appendBinaryStringInfo(buf, ": ", 2);
				comma = false;
				break;
			case WJB_ELEM:
			case WJB_VALUE:
				json_text_scalar(buf, &v);
				comma = true;
				break;
			case WJB_END_ARRAY:
				/* of a scalar there is no other */
				if (!JB_ROOT_IS_SCALAR(json))
					appendStringInfoCharMacro(buf, ']');
				comma = true;
				break;
			case WJB_END_OBJECT:
				appendStringInfoCharMacro(buf, '}');
				comma = true;
				break;
			default:
				elog(ERROR, "unexpected token %d of jsonb", (int) token);
		}
	}
}

/*
 * Appends a value that is no object and no array.
 */
static void
json_text_scalar(StringInfo buf, const JsonbValue *v)
{
	Datum		number;

	switch (v->type)
	{
		case jbvNull:
			appendBinaryStringInfo(buf, "null", 4);
			break;
		case jbvString:
			json_text_string(buf, v->val.string.val, v->val.string.len);
			break;
		case jbvNumeric:
			number = DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric));
			appendStringInfoString(buf, DatumGetCString(number));
			break;
		case jbvBool:
			appendStringInfoString(buf, v->val.boolean ? "true" : "false");
			break;
		default:
			elog(ERROR, "unexpected type %d of a jsonb scalar", (int) v->type);
	}
}

/*
 * Appends a string in quotes, escaped.
 */
static void
json_text_string(StringInfo buf, const char *s, int len)
{
	appendStringInfoCharMacro(buf, '"');
	while (len > 0)
	{
		int			run = json_text_plain_run(s, len);

		if (run > 0)
			appendBinaryStringInfo(buf, s, run);
		s += run;
		len -= run;
		if (len == 0)
			break;
		switch (*s)
		{
			case '\b':
				appendBinaryStringInfo(buf, "\\b", 2);
				break;
			case '\f':
				appendBinaryStringInfo(buf, "\\f", 2);
				break;
			case '\n':
				appendBinaryStringInfo(buf, "\\n", 2);
				break;
			case '\r':
				appendBinaryStringInfo(buf, "\\r", 2);
				break;
			case '\t':
				appendBinaryStringInfo(buf, "\\t", 2);
				break;
			case '"':
				appendBinaryStringInfo(buf, "\\\"", 2);
				break;
			case '\\':
				appendBinaryStringInfo(buf, "\\\\", 2);
				break;
			default:
				appendStringInfo(buf, "\\u%04x", (int) *s);
				break;
		}
		s++;
		len--;
	}
	appendStringInfoCharMacro(buf, '"');
}

/*
 * How many bytes from here need no escape?
 */
static int
json_text_plain_run(const char *s, int len)
{
	const uint64 ones = UINT64CONST(0x0101010101010101);
	const uint64 highs = UINT64CONST(0x8080808080808080);
	int			i = 0;

	while (len - i >= 8)
	{
		uint64		w;
		uint64		quote;
		uint64		backslash;

		memcpy(&w, s + i, 8);
		quote = w ^ (ones * '"');
		backslash = w ^ (ones * '\\');
		/* is a byte zero in one of these, or below a blank in w?  Then look closer. */
		if ((((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) |
			 ((w - ones * ' ') & ~w)) &
			highs)
			break;
		i += 8;
	}
	for (; i < len; i++)
	{
		unsigned char c = (unsigned char) s[i];

		if (c < ' ' || c == '"' || c == '\\')
			break;
	}
	return i;
}
