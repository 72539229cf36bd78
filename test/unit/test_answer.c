/*
 * What answers mean, with random ones held against a second opinion.
 *
 * links: worker/delivery/answer.c worker/base/json.c
 */
#include "postgres.h"

#include "records.h"
#include "server_stubs.h"
#include "tap.h"
#include "worker/delivery/answer.h"

#define RANDOM_ANSWERS 300000

static char last_reason[256];

static DeVerdict
answer_of(int status, const char *body, int len, bool body_complete)
{
	DeHttpResult result = {0};

	result.outcome = DE_HTTP_ANSWERED;
	result.status = status;
	result.body = body;
	result.body_len = len;
	result.body_complete = body_complete;
	result.retry_after_ms = -1;
	return de_answer_read(&result, last_reason, sizeof(last_reason));
}

static bool
acknowledges(int status, const char *body)
{
	return answer_of(status, body, strlen(body), true) == DE_VERDICT_ACKNOWLEDGED;
}

static bool
refuses(int status, const char *body, const char *reason)
{
	bool		refused = !acknowledges(status, body) && strstr(last_reason, reason) != NULL;

	if (!refused)
		printf("# reason: %s\n", last_reason);
	return refused;
}

static void
test_answers(void)
{
	DeHttpResult result = {0};
	char		tiny[8];

	ok(acknowledges(204, ""), "204");
	ok(acknowledges(200, "") && acknowledges(201, "") && acknowledges(202, ""),
	   "200, 201 and 202 without a body");
	ok(acknowledges(203, "") && acknowledges(205, "") && acknowledges(206, "") &&
		   acknowledges(226, ""),
	   "any other 2xx without a body");
	ok(acknowledges(200, "{}") && acknowledges(201, " { } \r\n") && acknowledges(202, "null"),
	   "{} and null");
	ok(acknowledges(200, "{\"batchItemFailures\":[]}") &&
		   acknowledges(200, "{ \"batchItemFailures\" : null }"),
	   "no failures");

	ok(answer_of(200, "", 0, false) == DE_VERDICT_RETRY &&
		   strstr(last_reason, "content-length") != NULL,
	   "an empty body that ends with its connection");
	ok(answer_of(200, "{}", 2, false) == DE_VERDICT_RETRY &&
		   strstr(last_reason, "content-length") != NULL,
	   "another one that does");
	ok(refuses(200, "<html><body>It works!</body></html>", "not JSON (answer 204, or 200 with {}): <html>"),
	   "the page of an ingress");
	ok(refuses(200, "OK", "not JSON"), "plain text");
	ok(refuses(200, "{\"batchItemFail", "not JSON"), "a body cut off");
	ok(refuses(200, "{} {}", "not JSON"), "two values");
	ok(refuses(200, "[]", "neither"), "an array");
	ok(refuses(200, "true", "neither") && refuses(200, "0", "neither") &&
		   refuses(200, "\"\"", "neither"),
	   "a scalar");
	ok(refuses(200, "{\"status\":\"ok\"}", "\"status\""), "another member");
	ok(refuses(200, "{\"batchItemFailures\":[],\"x\":1}", "besides"), "a further member");
	ok(refuses(200, "{\"batchItemFailures\":[],\"batchItemFailures\":[]}", "besides"),
	   "the member twice");
	ok(refuses(200, "{\"batchItemFailures\":{}}", "neither an array") &&
		   refuses(200, "{\"batchItemFailures\":\"\"}", "neither an array"),
	   "a wrong type");
	ok(refuses(200, "{\"batchItemFailures\":[{\"reason\":\"x\",\"itemIdentifier\":\"e-7\"},"
					"{\"itemIdentifier\":\"e-8\",\"a\":[1,{\"itemIdentifier\":2}]}]}",
			   "2 failed events, the first \"e-7\""),
	   "failures are counted");
	ok(refuses(200, "{\"batchItemFailures\":[[],[]]}", "2 failed events"), "even shapeless ones");
	ok(refuses(200, "{\"\xff\":1}", "not JSON"), "not UTF-8");
	ok(answer_of(200, "{}\0", 3, true) == DE_VERDICT_RETRY, "a NUL");
	ok(answer_of(200, "\"\\\0\"", 4, true) == DE_VERDICT_RETRY, "an escaped NUL");
	ok(refuses(200, nested(10000), "not JSON"), "ten thousand brackets");
	ok(refuses(200, nested(500), "neither") && refuses(200, nested(501), "not JSON"),
	   "the limit of nesting");

	ok(refuses(500, "", "handler answered 500") && refuses(500, "no\nway\xff", "500: no way?"),
	   "500 with its text");
	ok(refuses(203, "{}", "answer 203 has a body") && refuses(206, "OK", "only: OK"),
	   "another 2xx with a body");
	ok(refuses(203, "{}", "203") && refuses(206, "{}", "206") && refuses(302, "", "302") &&
		   refuses(404, "{}", "404") && refuses(429, "{}", "429"),
	   "other statuses");

	result.body = "";
	result.outcome = DE_HTTP_NOBODY;
	strcpy(result.error, "connect: refused");
	ok(de_answer_read(&result, last_reason, sizeof(last_reason)) == DE_VERDICT_RETRY &&
		   strcmp(last_reason, "connect: refused") == 0,
	   "nobody there");
	result.outcome = DE_HTTP_UNKNOWN;
	result.status = 204;
	ok(de_answer_read(&result, last_reason, sizeof(last_reason)) == DE_VERDICT_RETRY,
	   "an unknown outcome, whatever the status");
	result.outcome = DE_HTTP_CANCELLED;
	ok(de_answer_read(&result, tiny, sizeof(tiny)) == DE_VERDICT_RETRY &&
		   strlen(tiny) == 7,
	   "cancelled; a short buffer is enough");
}

/* Is the text these tokens with any whitespace around them? */
static bool
consists_of(const char *text, int len, const char *const *tokens)
{
	const char *end = text + len;

	for (;; tokens++)
	{
		while (text < end && memchr(" \t\r\n", *text, 4) != NULL)
			text++;
		if (*tokens == NULL)
			return text == end;
		if (end - text < strlen(*tokens) || memcmp(text, *tokens, strlen(*tokens)) != 0)
			return false;
		text += strlen(*tokens);
	}
}

static void
test_random_answers(void)
{
	static const char *const null_answer[] = {"null", NULL};
	static const char *const object[] = {"{", "}", NULL};
	static const char *const list[] = {"{", "\"batchItemFailures\"", ":", "[", "]", "}", NULL};
	static const char *const no_list[] = {"{", "\"batchItemFailures\"", ":", "null", "}", NULL};
	static const char *const pieces[] = {
		"{", "}", "[", "]", ":", ",", "null", "\"batchItemFailures\"", "\"batchItemFailures\":",
		" ", "\n", "{\"itemIdentifier\":\"x\"}", "\"itemIdentifier\"", "1", "\"", "\\", "{}", "[]",
		"true", "{\"batchItemFailures\":[", "]}"
	};
	static const char *const good[] = {
		"{\"batchItemFailures\":[]}", "{ }", "null", "{\"batchItemFailures\" : null}",
		"{\"batchItemFailures\":[{\"itemIdentifier\":\"a\",\"action\":\"retry\"}]}"
	};
	int			acknowledged = 0;
	int			differ = 0;

	for (int i = 0; i < RANDOM_ANSWERS; i++)
	{
		char		text[512] = "";
		int			len;
		bool		expected;

		if (i % 3 == 0)			/* random pieces */
		{
			int			n = 1 + (int) tap_random(8);

			for (int j = 0; j < n; j++)
				strcat(text, pieces[tap_random(lengthof(pieces))]);
			len = strlen(text);
		}
		else if (i % 3 == 1)	/* a good one with a byte changed, left out or cut off */
		{
			strcpy(text, good[tap_random(lengthof(good))]);
			len = strlen(text);
			switch (tap_random(4))
			{
				case 0:
					text[tap_random(len)] = (char) tap_random(256);
					break;
				case 1:
					len = (int) tap_random(len);
					break;
				case 2:
					text[len++] = (char) tap_random(256);
					break;
				default:
					break;
			}
		}
		else					/* random bytes */
		{
			len = 1 + (int) tap_random(60);
			for (int j = 0; j < len; j++)
				text[j] = (char) tap_random(256);
		}

		expected = len == 0 || consists_of(text, len, null_answer) ||
			consists_of(text, len, object) || consists_of(text, len, list) ||
			consists_of(text, len, no_list);
		acknowledged += expected;
		if ((answer_of(200, text, len, true) == DE_VERDICT_ACKNOWLEDGED) != expected &&
			differ++ < 5)
			printf("# differs: %.*s\n", len, text);
		if (!expected && last_reason[0] == '\0' && differ++ < 5)
			printf("# no reason: %.*s\n", len, text);
	}
	printf("# %d of %d random answers acknowledge\n", acknowledged, RANDOM_ANSWERS);
	ok(differ == 0 && acknowledged > 1000, "random answers acknowledge only when they say so");
}

int
main(void)
{
	tap_seed();
	test_answers();
	test_random_answers();
	return tap_done();
}
