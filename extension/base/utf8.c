/*-------------------------------------------------------------------------
 *
 * utf8.c
 *		Text of the database's encoding, and the UTF-8 that Kafka gets.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "extension/base/compat.h"
#include "extension/base/utf8.h"

/*
 * UTF-8 bytes of a string of the database's encoding, palloc'd.  Throws when a
 * SQL_ASCII database holds what is no UTF-8.
 */
bytea *
de_bytes_in_utf8(const char *s, int len)
{
	char	   *converted = pg_server_to_any(s, len, PG_UTF8);
	bytea	   *result;

	if (converted != s)
		len = strlen(converted);
	result = palloc(VARHDRSZ + len);
	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), converted, len);
	if (converted != s)
		pfree(converted);
	return result;
}

/*
 * UTF-8 bytes as text of the database's encoding; throws untranslatable_character.
 */
text *
de_text_from_utf8(const char *s, int len)
{
	char	   *converted = pg_any_to_server(s, len, PG_UTF8);
	text	   *result;

	if (converted == s)
		return cstring_to_text_with_len(s, len);
	result = cstring_to_text(converted);
	pfree(converted);
	return result;
}
