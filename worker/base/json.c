/*-------------------------------------------------------------------------
 *
 * json.c
 *		JSON of strangers: is it any, and its tokens.
 *
 * The server's parser will not do: it recurses, so that "[[[[..." makes it
 * throw by check_stack_depth, and an error raised by a record would end the
 * worker, which would read the same record again after its restart, for ever.
 * Its lexer neither looks at surrogates nor at the range of numbers unless it
 * de-escapes, which converts to the database's encoding, and throws when it
 * cannot.  So whether bytes are JSON is found out here, in one pass; the lexer
 * gives the tokens of what is.
 *
 * Pure: no state; linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "extension/base/compat.h"
#include "worker/base/json.h"

/* digits before the decimal point of the largest binary64, and its first ones */
#define JSON_MAX_MAGNITUDE 309
#define JSON_MAX_DIGITS "17976931348623157"

static bool json_valid(const char *s, int len, bool interoperable);
static inline const char *json_skip_space(const char *p, const char *end);
static inline bool json_has_special(uint64 bytes);
static const char *json_skip_string(const char *p, const char *end, bool interoperable);
static const char *json_skip_escape(const char *p, const char *end, bool interoperable);
static int	json_hex4(const char *p, const char *end);
static const char *json_skip_digits(const char *p, const char *end);
static const char *json_skip_number(const char *p, const char *end, bool interoperable);
static bool json_number_fits(const char *p, const char *end);
static const char *json_skip_word(const char *p, const char *end, const char *word, int len);

/*
 * Is this JSON as RFC 8259 has it?
 */
bool
de_json_valid(const char *s, int len)
{
	return json_valid(s, len, false);
}

/*
 * Is this JSON that every reader takes?  RFC 8259 allows strings with unpaired
 * surrogates (8.2) and numbers of any size (6), and calls what readers make of
 * them unpredictable: some refuse the whole text.
 */
bool
de_json_interoperable(const char *s, int len)
{
	return json_valid(s, len, true);
}

/*
 * A loop in place of recursion: all there is to know of the surroundings is
 * for each level whether it is an object.
 */
static bool
json_valid(const char *s, int len, bool interoperable)
{
	bool		in_object[DE_JSON_MAX_DEPTH + 1];
	const char *p = s;
	const char *end = s + len;
	int			depth = 0;

	if (pg_encoding_verifymbstr(PG_UTF8, s, len) != len)
		return false;

	in_object[0] = false;
	for (;;)
	{
		/* a value, in an object with its name before it */
		p = json_skip_space(p, end);
		if (in_object[depth])
		{
			if (p == end || *p != '"' ||
				(p = json_skip_string(p, end, interoperable)) == NULL)
				return false;
			p = json_skip_space(p, end);
			if (p == end || *p != ':')
				return false;
			p = json_skip_space(p + 1, end);
		}
		if (p == end)
			return false;

		switch (*p)
		{
			case '{':
			case '[':
				if (depth == DE_JSON_MAX_DEPTH)
					return false;
				in_object[++depth] = (*p == '{');
				p = json_skip_space(p + 1, end);
				if (p < end && *p == (in_object[depth] ? '}' : ']'))
					break;		/* closed below */
				continue;
			case '"':
				p = json_skip_string(p, end, interoperable);
				break;
			case 't':
				p = json_skip_word(p, end, "true", 4);
				break;
			case 'f':
				p = json_skip_word(p, end, "false", 5);
				break;
			case 'n':
				p = json_skip_word(p, end, "null", 4);
				break;
			default:
				p = json_skip_number(p, end, interoperable);
		}
		if (p == NULL)
			return false;

		/* what ends it: brackets, then a comma or the end of all */
		for (;;)
		{
			p = json_skip_space(p, end);
			if (p == end)
				return depth == 0;
			if (depth == 0)
				return false;
			if (*p == ',')
				break;
			if (*p != (in_object[depth] ? '}' : ']'))
				return false;
			depth--;
			p++;
		}
		p++;
	}
}

/*
 * The following skip what they are named after and return where it ends; NULL
 * if it is none.
 */

static inline const char *
json_skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
		p++;
	return p;
}

/*
 * Is one of eight bytes a quote, a backslash or a control character?  By the
 * borrow of a subtraction in each byte that is below 128; a borrow from the
 * byte before makes no difference, since that one is special then.
 */
static inline bool
json_has_special(uint64 bytes)
{
	const uint64 ones = UINT64CONST(0x0101010101010101);
	uint64		quote = bytes ^ (ones * '"');
	uint64		backslash = bytes ^ (ones * '\\');

	return (((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) |
			((bytes - ones * 0x20) & ~bytes)) &
		(ones * 0x80);
}

/* From the opening quote to behind the closing one. */
static const char *
json_skip_string(const char *p, const char *end, bool interoperable)
{
	p++;
	for (;;)
	{
		/* eight bytes at a time while none of them means anything */
		while (end - p >= 8)
		{
			uint64		bytes;

			memcpy(&bytes, p, 8);
			if (json_has_special(bytes))
				break;
			p += 8;
		}
		while (p < end && *p != '"' && *p != '\\' && (unsigned char) *p >= 0x20)
			p++;
		if (p == end)
			return NULL;
		if (*p == '"')
			return p + 1;
		if (*p != '\\' || (p = json_skip_escape(p + 1, end, interoperable)) == NULL)
			return NULL;
	}
}

/* What stands behind a backslash. */
static const char *
json_skip_escape(const char *p, const char *end, bool interoperable)
{
	int			unit;

	if (p == end)
		return NULL;
	if (*p != 'u')
		return *p != '\0' && strchr("\"\\/bfnrt", *p) != NULL ? p + 1 : NULL;

	unit = json_hex4(p + 1, end);
	if (unit < 0)
		return NULL;
	p += 5;
	if (!interoperable || unit < 0xd800 || unit > 0xdfff)
		return p;

	/* a surrogate: the first of a pair, with the second right behind it? */
	if (unit > 0xdbff || end - p < 2 || p[0] != '\\' || p[1] != 'u')
		return NULL;
	unit = json_hex4(p + 2, end);
	return unit >= 0xdc00 && unit <= 0xdfff ? p + 6 : NULL;
}

/* The number of four hexadecimal digits, -1 if there are none. */
static int
json_hex4(const char *p, const char *end)
{
	int			value = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		int			digit = p[i] >= '0' && p[i] <= '9' ? p[i] - '0' :
			(p[i] | 0x20) >= 'a' && (p[i] | 0x20) <= 'f' ? (p[i] | 0x20) - 'a' + 10 :
														   -1;

		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

static const char *
json_skip_digits(const char *p, const char *end)
{
	const char *start = p;

	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p > start ? p : NULL;
}

static const char *
json_skip_number(const char *p, const char *end, bool interoperable)
{
	const char *start = p;

	if (*p == '-')
		p++;
	if (p < end && *p == '0')
		p++;
	else if ((p = json_skip_digits(p, end)) == NULL)
		return NULL;
	if (p < end && *p == '.' && (p = json_skip_digits(p + 1, end)) == NULL)
		return NULL;
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		if ((p = json_skip_digits(p, end)) == NULL)
			return NULL;
	}
	return !interoperable || json_number_fits(start, p) ? p : NULL;
}

/*
 * Is a number no larger than the largest binary64?  By its digits, since the
 * library's conversion wants a terminated copy.  What is too small is zero to
 * all readers, and too many digits are rounded.
 */
static bool
json_number_fits(const char *p, const char *end)
{
	const char *limit = JSON_MAX_DIGITS;
	const char *q;
	const char *first = NULL;	/* digit that is not 0 */
	int64		magnitude = 0;	/* digits before the point, or minus the zeros behind it */
	int64		exponent = 0;
	bool		fraction = false;
	bool		negative = false;

	for (q = p; q < end && *q != 'e' && *q != 'E'; q++)
	{
		if (*q == '.')
			fraction = true;
		else if (*q >= '0' && *q <= '9')
		{
			if (first == NULL && *q != '0')
				first = q;
			if (!fraction && first != NULL)
				magnitude++;
			else if (fraction && first == NULL)
				magnitude--;
		}
	}
	if (first == NULL)
		return true;
	for (q = q < end ? q + 1 : q; q < end; q++)
	{
		if (*q == '-')
			negative = true;
		else if (*q != '+')
			exponent = Min(exponent * 10 + (*q - '0'), PG_INT32_MAX);
	}
	magnitude += negative ? -exponent : exponent;
	if (magnitude != JSON_MAX_MAGNITUDE)
		return magnitude < JSON_MAX_MAGNITUDE;

	/* the one magnitude where the digits decide */
	for (q = first; q < end && *limit && *q != 'e' && *q != 'E'; q++)
	{
		if (*q == '.')
			continue;
		if (*q != *limit)
			return *q < *limit;
		limit++;
	}
	return true;
}

static const char *
json_skip_word(const char *p, const char *end, const char *word, int len)
{
	return end - p >= len && memcmp(p, word, len) == 0 ? p + len : NULL;
}

void
de_json_begin(JsonLexContext *lex, const char *s, int len)
{
	de_compat_json_lex_begin(lex, s, len);
}

JsonTokenType
de_json_next(JsonLexContext *lex)
{
	return json_lex(lex) == JSON_SUCCESS ? lex->token_type : JSON_TOKEN_INVALID;
}

bool
de_json_token_is(const JsonLexContext *lex, const char *raw)
{
	int			len = strlen(raw);

	return lex->token_terminator - lex->token_start == len &&
		memcmp(lex->token_start, raw, len) == 0;
}
