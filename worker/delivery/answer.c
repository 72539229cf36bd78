/*-------------------------------------------------------------------------
 *
 * answer.c
 *		The answer of the delivery protocol: what a handler's words mean for
 *		the events it was sent.
 *
 * Answers are bytes of strangers, from the handler or from any ingress on the
 * way: nothing throws because of their content, and whatever is not understood
 * acknowledges nothing (G7).
 *
 * Pure: no state; linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/delivery/answer.h"
#include "worker/base/json.h"

#define ANSWER_SNIPPET_SIZE 160 /* of an answer that is quoted in a reason */

static bool answer_acknowledges(const char *body, int len, char *reason, int reason_size);
static bool answer_failure_list(JsonLexContext *lex, char *reason, int reason_size);
static void answer_quote(char *dst, int size, const char *s, int len);

/*
 * Reads an answer: only what docs/reference.md, "Answer", calls an
 * acknowledgement is one.  A page of an ingress in front of a handler that is
 * gone has status 200 too, so a 2xx alone means nothing.
 */
DeVerdict
de_answer_read(const DeHttpResult *result, char *reason, int reason_size)
{
	char		quoted[ANSWER_SNIPPET_SIZE];

	reason[0] = '\0';
	switch (result->outcome)
	{
		case DE_HTTP_ANSWERED:
			break;
		case DE_HTTP_NOBODY:
		case DE_HTTP_UNKNOWN:
			answer_quote(reason, reason_size, result->error, strlen(result->error));
			return DE_VERDICT_RETRY;
		case DE_HTTP_CANCELLED:
			snprintf(reason, reason_size, "request was cancelled");
			return DE_VERDICT_RETRY;
	}

	if (result->status < 200 || result->status > 299)
	{
		answer_quote(quoted, sizeof(quoted), result->body, (int) result->body_len);
		if (quoted[0] != '\0')
			snprintf(reason, reason_size, "handler answered %d: %s", result->status, quoted);
		else
			snprintf(reason, reason_size, "handler answered %d", result->status);
		return DE_VERDICT_RETRY;
	}

	/* what ends with its connection may be cut off */
	if (!result->body_complete)
	{
		snprintf(reason, reason_size,
				 "answer %d ended with its connection: answer 204, or with a content-length",
				 result->status);
		return DE_VERDICT_RETRY;
	}
	if (result->body_len == 0)
		return DE_VERDICT_ACKNOWLEDGED;
	if (result->status > 202)
	{
		answer_quote(quoted, sizeof(quoted), result->body, (int) result->body_len);
		snprintf(reason, reason_size,
				 "answer %d has a body, expected with 200, 201 or 202 only: %s", result->status,
				 quoted);
		return DE_VERDICT_RETRY;
	}
	if (answer_acknowledges(result->body, (int) result->body_len, reason, reason_size))
		return DE_VERDICT_ACKNOWLEDGED;
	return DE_VERDICT_RETRY;
}

/*
 * Does a body say that all events are processed?  If not, the reason says
 * what it says instead.
 */
static bool
answer_acknowledges(const char *body, int len, char *reason, int reason_size)
{
	JsonLexContext lex;
	char		quoted[ANSWER_SNIPPET_SIZE];

	if (!de_json_valid(body, len))
	{
		answer_quote(quoted, sizeof(quoted), body, len);
		snprintf(reason, reason_size, "answer is not JSON (answer 204, or 200 with {}): %s", quoted);
		return false;
	}

	/* the syntax is right from here on, so only the shape is looked at */
	de_json_begin(&lex, body, len);
	switch (de_json_next(&lex))
	{
		case JSON_TOKEN_NULL:
			return true;
		case JSON_TOKEN_OBJECT_START:
			break;
		default:
			snprintf(reason, reason_size, "answer is neither a JSON object nor null");
			return false;
	}

	if (de_json_next(&lex) == JSON_TOKEN_OBJECT_END)
		return true;
	if (!de_json_token_is(&lex, "\"batchItemFailures\""))
	{
		answer_quote(quoted, sizeof(quoted), lex.token_start,
					 lex.token_terminator - lex.token_start);
		snprintf(reason, reason_size,
				 "answer has the member %s, expected only \"batchItemFailures\"", quoted);
		return false;
	}
	(void) de_json_next(&lex);	/* the colon */

	switch (de_json_next(&lex))
	{
		case JSON_TOKEN_NULL:
			break;
		case JSON_TOKEN_ARRAY_START:
			if (!answer_failure_list(&lex, reason, reason_size))
				return false;
			break;
		default:
			snprintf(reason, reason_size,
					 "member \"batchItemFailures\" of the answer is neither an array nor null");
			return false;
	}

	if (de_json_next(&lex) != JSON_TOKEN_OBJECT_END)
	{
		snprintf(reason, reason_size,
				 "answer has members besides \"batchItemFailures\"");
		return false;
	}
	return true;
}

/*
 * Reads on behind the "[" of a list of failures; true when it is empty.  Else
 * the reason tells their number and names the first.
 */
static bool
answer_failure_list(JsonLexContext *lex, char *reason, int reason_size)
{
	char		first[ANSWER_SNIPPET_SIZE] = "";
	JsonTokenType token = de_json_next(lex);
	int			depth = 0;
	int			failures = (token == JSON_TOKEN_ARRAY_END) ? 0 : 1;
	bool		is_identifier = false;	/* the value of itemIdentifier comes next */

	for (; depth > 0 || token != JSON_TOKEN_ARRAY_END; token = de_json_next(lex))
	{
		switch (token)
		{
			case JSON_TOKEN_OBJECT_START:
			case JSON_TOKEN_ARRAY_START:
				depth++;
				break;
			case JSON_TOKEN_OBJECT_END:
			case JSON_TOKEN_ARRAY_END:
				depth--;
				break;
			case JSON_TOKEN_COMMA:
				if (depth == 0)
					failures++;
				break;
			case JSON_TOKEN_COLON:
				continue;
			case JSON_TOKEN_END:
				return false;	/* cannot happen in valid JSON */
			default:
				if (is_identifier && first[0] == '\0')
					answer_quote(first, sizeof(first), lex->token_start,
								 lex->token_terminator - lex->token_start);
				break;
		}
		is_identifier = (depth == 1 && token == JSON_TOKEN_STRING &&
						 de_json_token_is(lex, "\"itemIdentifier\""));
	}

	if (failures > 0)
		snprintf(reason, reason_size, "handler reported %d failed events%s%s", failures,
				 first[0] != '\0' ? ", the first " : "", first);
	return failures == 0;
}

/*
 * Copies the beginning of foreign text for a message: printable ASCII only,
 * because the message is shown in databases of any encoding.
 */
static void
answer_quote(char *dst, int size, const char *s, int len)
{
	int			n = 0;

	for (int i = 0; i < len && n < size - 1; i++)
	{
		unsigned char c = (unsigned char) s[i];

		if (c == '\n' || c == '\r' || c == '\t')
			c = ' ';
		dst[n++] = (c >= 0x20 && c < 0x7f) ? (char) c : '?';
	}
	dst[n] = '\0';
}
