/*
 * Signing secrets, held against the server's own encoder of base64.
 *
 * links: extension/base/secret.c
 */
#include "postgres.h"

#include "common/base64.h"

#include "server_stubs.h"
#include "tap.h"
#include "extension/base/secret.h"

static unsigned char key[256];
static const char *problem;

static bool
is_key(const char *secret, const char *bytes)
{
	int			len = de_secret_decode(secret, key, &problem);

	return len == strlen(bytes) && memcmp(key, bytes, len) == 0 && problem == NULL;
}

static bool
is_refused(const char *secret, const char *reason)
{
	return de_secret_decode(secret, key, &problem) == -1 && strstr(problem, reason) != NULL;
}

int
main(void)
{
	int			differ = 0;

	tap_seed();
	ok(is_key("plain", "plain") && is_key(" plain ", " plain ") && is_key("", ""),
	   "other text is what it is");
	ok(is_key("WHSEC_YWJj", "WHSEC_YWJj") && is_key("xwhsec_YWJj", "xwhsec_YWJj"),
	   "also what only resembles the prefix");
	ok(is_key("whsec_YWJj", "abc") && is_key("whsec_YWI=", "ab") && is_key("whsec_YQ==", "a"),
	   "base64");
	ok(is_key("whsec_YWI", "ab") && is_key("whsec_YQ", "a"), "without padding");
	ok(is_key("whsec_YWJj ", "abc") && is_key("whsec_YQ==\n", "a") && is_key(" whsec_YWJj", "abc"),
	   "with white space around");
	ok(is_key("whsec_-_-_", "\xfb\xff\xbf") && is_key("whsec_+/+/", "\xfb\xff\xbf"),
	   "either alphabet");
	ok(is_refused("whsec_", "Nothing") && is_refused("whsec_==", "Nothing") &&
		   is_refused("whsec_  ", "Nothing"),
	   "nothing");
	ok(is_refused("whsec_Y", "length") && is_refused("whsec_YWJjY", "length") &&
		   is_refused("whsec_YWJj=", "length") && is_refused("whsec_YQ=", "length") &&
		   is_refused("whsec_YW=====", "length"),
	   "cut off, or padded wrongly");
	ok(is_refused("whsec_YW J", "characters") && is_refused("whsec_YW!j", "characters") &&
		   is_refused("whsec_YQ==YWJj", "characters") &&
		   is_refused("whsec_\xc3\xa9\xc3\xa9", "characters"),
	   "other characters");

	for (int i = 0; i < 100000; i++)
	{
		char		secret[300] = DE_SECRET_PREFIX;
		unsigned char bytes[100];
		int			len = 1 + (int) tap_random(sizeof(bytes) - 1);
		int			written;

		for (int j = 0; j < len; j++)
			bytes[j] = (unsigned char) tap_random(256);
		written = pg_b64_encode((const void *) bytes, len, secret + 6, 200);
		secret[6 + written] = '\0';
		if (i % 2 == 0)
			secret[strcspn(secret, "=")] = '\0';
		for (char *p = secret + 6; i % 3 == 0 && *p; p++)
			*p = *p == '+' ? '-' : *p == '/' ? '_' :
											   *p;
		if ((de_secret_decode(secret, key, &problem) != len || memcmp(key, bytes, len) != 0) &&
			differ++ < 5)
			printf("# differs: %s\n", secret);
	}
	ok(differ == 0, "random keys in all ways of writing");
	return tap_done();
}
