/*-------------------------------------------------------------------------
 *
 * json.c
 *		JSON of strangers: is it any, and its tokens.
 *
 * The server's lexer without the server's parser.  pg_parse_json recurses:
 * "[[[[..." makes it throw by check_stack_depth, and an error raised by a
 * record would end the worker, which would read the same record again after
 * its restart, for ever.  De-escaping is left off as well, because it converts
 * to the database's encoding, and throws when it cannot.
 *
 * Pure: no state; linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "extension/base/compat.h"
#include "worker/base/json.h"

/* UTF-8 comes first: the lexer takes a NUL after a backslash for an escape. */
bool
de_json_valid(const char *s, int len)
{
	JsonLexContext lex;
	bool		in_object[DE_JSON_MAX_DEPTH];
	int			depth = 0;
	bool		first = false;	/* just after an opening bracket */
	bool		want_value = true;

	if (pg_encoding_verifymbstr(PG_UTF8, s, len) != len)
		return false;

	de_json_begin(&lex, s, len);
	for (;;)
	{
		JsonTokenType token = de_json_next(&lex);

		if (want_value)
		{
			JsonTokenType end = in_object[depth - 1] ? JSON_TOKEN_OBJECT_END : JSON_TOKEN_ARRAY_END;
			bool		closes = first && token == end;

			if (!closes && depth > 0 && in_object[depth - 1])
			{
				if (token != JSON_TOKEN_STRING || de_json_next(&lex) != JSON_TOKEN_COLON)
					return false;
				token = de_json_next(&lex);
			}
			first = false;
			want_value = false;

			switch (token)
			{
				case JSON_TOKEN_OBJECT_START:
				case JSON_TOKEN_ARRAY_START:
					if (depth == DE_JSON_MAX_DEPTH)
						return false;
					in_object[depth++] = (token == JSON_TOKEN_OBJECT_START);
					first = true;
					want_value = true;
					break;
				case JSON_TOKEN_OBJECT_END:
				case JSON_TOKEN_ARRAY_END:
					if (!closes)
						return false;
					depth--;
					break;
				case JSON_TOKEN_STRING:
				case JSON_TOKEN_NUMBER:
				case JSON_TOKEN_TRUE:
				case JSON_TOKEN_FALSE:
				case JSON_TOKEN_NULL:
					break;
				default:
					return false;
			}
		}
		else if (depth == 0)
			return token == JSON_TOKEN_END;
		else if (token == JSON_TOKEN_COMMA)
			want_value = true;
		else if (token == (in_object[depth - 1] ? JSON_TOKEN_OBJECT_END : JSON_TOKEN_ARRAY_END))
			depth--;
		else
			return false;
	}
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
