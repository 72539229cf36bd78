/*-------------------------------------------------------------------------
 *
 * secret.c
 *		Signing secrets: what they are as bytes.
 *
 * "whsec_" and base64, as Standard Webhooks writes them, or any other text as
 * it is.  Tools differ in how they write base64, and one that was read as text
 * would sign every request with a key that no handler has.  So all ways of
 * writing the same bytes are taken: padded or not, in either alphabet, with
 * white space around; anything else behind "whsec_" is refused when it is set.
 *
 * (The server's decoder knows one alphabet and wants the padding.)
 *
 * Pure: no state; linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "extension/base/secret.h"

#define SECRET_SPACE " \t\r\n"

static int	secret_sextet(char c);

/*
 * The bytes of a secret.
 */
int
de_secret_decode(const char *secret, unsigned char *key, const char **problem)
{
	const char *p = secret + strspn(secret, SECRET_SPACE);
	const char *end = p + strlen(p);
	int			prefix_len = strlen(DE_SECRET_PREFIX);
	int			padding = 0;
	int			ndigits;
	int			nbytes = 0;
	uint32		bits = 0;

	*problem = NULL;
	if (strncmp(p, DE_SECRET_PREFIX, prefix_len) != 0)
	{
		memcpy(key, secret, strlen(secret));
		return strlen(secret);
	}
	p += prefix_len;
	while (end > p && strchr(SECRET_SPACE, end[-1]) != NULL)
		end--;
	while (end > p && end[-1] == '=')
	{
		end--;
		padding++;
	}
	ndigits = end - p;
	if (ndigits == 0)
	{
		*problem = "Nothing stands behind \"whsec_\".";
		return -1;
	}
	/* four digits are three bytes; one left over is none */
	if (ndigits % 4 == 1 || (padding > 0 && (ndigits + padding) % 4 != 0) || padding > 2)
	{
		*problem = "What stands behind \"whsec_\" is not whole base64: its length is wrong.";
		return -1;
	}

	for (int i = 0; i < ndigits; i++)
	{
		int			sextet = secret_sextet(p[i]);

		if (sextet < 0)
		{
			*problem = "What stands behind \"whsec_\" is not base64: it has other characters.";
			return -1;
		}
		bits = (bits << 6) | sextet;
		/* of the last group there may be less than three bytes; what is left over is 0 */
		if (i % 4 > 0)
			key[nbytes++] = (unsigned char) (bits >> (6 - 2 * (i % 4)));
	}
	return nbytes;
}

/* The value of a digit of base64, in either alphabet; -1 = none. */
static int
secret_sextet(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	if (c == '/' || c == '_')
		return 63;
	return -1;
}
