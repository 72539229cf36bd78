/*
 * What is JSON: all short texts held against the server's parser, random numbers against the
 * C library, surrogates one by one.
 *
 * links: worker/base/json.c
 */
#include "postgres.h"

#include <math.h>

#include "extension/base/compat.h"
#include "server_stubs.h"
#include "tap.h"
#include "worker/base/json.h"

#define RANDOM_NUMBERS 300000

static bool
valid(const char *text)
{
	return de_json_valid(text, strlen(text));
}

static bool
interoperable(const char *text)
{
	return de_json_interoperable(text, strlen(text));
}

/* JSON, but such that some readers refuse it? */
static bool
only_valid(const char *text)
{
	return valid(text) && !interoperable(text);
}

/* The server's parser, which recurses, so that workers cannot use it. */
static bool
server_takes(const char *text, int len)
{
	JsonLexContext lex;

	de_compat_json_lex_begin(&lex, text, len);
	return pg_parse_json(&lex, &nullSemAction) == JSON_SUCCESS;
}

/* All texts of a length over an alphabet. */
static void
test_all_texts(const char *alphabet, int length)
{
	int			n = strlen(alphabet);
	int64		ntexts = 1;
	int			taken = 0;
	int			differ = 0;
	char		text[16] = "";
	char		name[80];

	for (int i = 0; i < length; i++)
		ntexts *= n;
	for (int64 number = 0; number < ntexts; number++)
	{
		int64		rest = number;
		bool		expected;

		for (int i = 0; i < length; i++, rest /= n)
			text[i] = alphabet[rest % n];
		expected = server_takes(text, length);
		taken += expected;
		if (de_json_valid(text, length) != expected && differ++ < 5)
			printf("# differs: %s\n", text);
	}
	snprintf(name, sizeof(name), "all texts of %d of %s, of which %d are JSON", length, alphabet,
			 taken);
	ok(differ == 0 && taken > 0, name);
}

/* Each byte at each place of strings that are longer than what is looked at in one go. */
static void
test_strings(void)
{
	int			differ = 0;

	for (int len = 1; len < 40; len++)
	{
		for (int at = 0; at < len; at++)
		{
			for (int c = 1; c < 128; c++)
			{
				char		text[64];

				memset(text, len % 2 ? 'x' : '~', sizeof(text));
				text[0] = '"';
				text[1 + at] = (char) c;
				strcpy(text + 1 + len, "\"");
				if (de_json_valid(text, len + 2) != server_takes(text, len + 2) && differ++ < 5)
					printf("# differs: %s\n", text);
			}
		}
	}
	ok(differ == 0, "each byte at each place of a string");
	ok(interoperable("\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xe2\x82\xac\xe2\x82\xac\xf0\x9f\x98\x80\"") &&
		   !valid("\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\x1f\""),
	   "bytes above 127 in a row");
}

static void
test_numbers(void)
{
	static const char *const parts[] = {"0", "1", "9", "17976931348623157", "000", ".", "e", "E+",
										"e-", "30", "308", "309", "31", "-", "5"};
	int			numbers = 0;
	int			infinite = 0;
	int			differ = 0;

	for (int i = 0; i < RANDOM_NUMBERS; i++)
	{
		char		text[1024] = "";
		int			n = 1 + (int) tap_random(7);
		bool		is_number;

		for (int j = 0; j < n; j++)
		{
			/* long runs of zeros: numbers may be large without an exponent */
			int			repeat = tap_random(20) == 0 ? 100 : 1;
			const char *part = parts[tap_random(lengthof(parts))];

			while (repeat-- > 0 && strlen(text) < 900)
				strcat(text, part);
		}
		is_number = server_takes(text, strlen(text));
		if (valid(text) != is_number && differ++ < 5)
			printf("# differs as JSON: %s\n", text);
		if (!is_number)
			continue;
		numbers++;
		infinite += isinf(strtod(text, NULL)) != 0;
		if (interoperable(text) == (isinf(strtod(text, NULL)) != 0) && differ++ < 5)
			printf("# differs in range: %s\n", text);
	}
	printf("# %d numbers, %d of them too large\n", numbers, infinite);
	ok(differ == 0 && numbers > 10000 && infinite > 1000, "numbers, as the C library reads them");

	ok(interoperable("1.7976931348623157e308") && interoperable("-179769313486231570e291"),
	   "the largest number of a double");
	ok(only_valid("1.7976931348623159e308") && only_valid("[1e999]") && only_valid("-1e309"),
	   "larger ones");
	ok(interoperable("1e-999") && interoperable("0e999") && interoperable("0.000e99999999999999999"),
	   "what is zero");
	ok(only_valid("1e99999999999999999999999999"), "an exponent without end");
}

static void
test_surrogates(void)
{
	ok(interoperable("\"\\ud83d\\ude00\"") && interoperable("\"\\uD83D\\uDE00\"") &&
		   interoperable("\"\\uD7FF\\uE000\""),
	   "a pair, and the neighbours of surrogates");
	ok(only_valid("\"\\ud83d\"") && only_valid("\"\\ud83d") == false, "the first of a pair alone");
	ok(only_valid("\"\\ude00\"") && only_valid("\"\\ude00\\ud83d\""), "the second, or in front");
	ok(only_valid("\"\\ud83d\\ud83d\\ude00\"") && only_valid("\"\\ud83dx\\ude00\"") &&
		   only_valid("\"\\ud83d\\n\"") && only_valid("\"\\ud83d\\u0041\"") &&
		   only_valid("\"\\ud83d\\\\ude00\""),
	   "the first with something else behind it");
	ok(only_valid("{\"\\ud83d\":1}") && only_valid("[{\"a\":[\"\\udc00\"]}]"), "in a name, deep inside");
	ok(!valid("\"\\ud83d\\u\"") && !valid("\"\\ud83d\\ude0\"") && !interoperable("\"\\ud83d\\u"),
	   "a pair cut off");
	ok(!valid("\"\xed\xa0\xbd\""), "a surrogate in UTF-8");
}

int
main(void)
{
	char		deep[1100];

	tap_seed();
	test_all_texts("{}[],:\"1", 1);
	test_all_texts("{}[],:\"1", 6);
	test_all_texts("[]{}\"\":, 1", 7);
	test_all_texts("-+.eE01 ", 6);
	test_all_texts("\"\\u0aF/x", 6);
	test_all_texts("truefalsn \t", 5);
	test_strings();
	test_numbers();
	test_surrogates();

	ok(!valid("") && !valid(" ") && valid(" 1\n"), "nothing, and space around");
	ok(!de_json_valid("1\0", 2) && !de_json_valid("\"\\\0\"", 4) && !de_json_valid("\"a\0\"", 4),
	   "NUL");
	ok(!valid("\"\t\"") && !valid("\"\x1f\"") && valid("\"\x7f\""), "control characters");
	ok(valid("\"\xc3\xa9\"") && !valid("\"\xc3\""), "UTF-8");
	ok(interoperable("{\"a\":1,\"a\":2}") && interoperable("\"\\u0000\""),
	   "a name twice and an escaped NUL are everybody's JSON");

	memset(deep, '[', 501);
	memset(deep + 501, ']', 501);
	ok(de_json_valid(deep + 1, 1000) && !de_json_valid(deep, 1002), "the limit of nesting");
	ok(!de_json_valid(deep, 501), "brackets without end");
	return tap_done();
}
