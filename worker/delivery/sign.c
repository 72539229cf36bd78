/*-------------------------------------------------------------------------
 *
 * sign.c
 *		Hashes of the delivery protocol: signatures of Standard Webhooks, SHA-256.
 *
 * No state but the two contexts of the hash functions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/hmac.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "extension/base/secret.h"
#include "worker/delivery/sign.h"
#include "worker/delivery/text.h"

static pg_cryptohash_ctx *sign_sha256 = NULL;
static pg_hmac_ctx *sign_hmac = NULL;

static void sign_create_contexts(void);

/* SHA-256 of bytes, into DE_SHA256_SIZE bytes. */
void
de_sha256(const char *bytes, int len, uint8 *digest)
{
	sign_create_contexts();
	if (pg_cryptohash_init(sign_sha256) < 0 ||
		pg_cryptohash_update(sign_sha256, (const uint8 *) bytes, len) < 0 ||
		pg_cryptohash_final(sign_sha256, digest, DE_SHA256_SIZE) < 0)
		elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(sign_sha256));
}

/*
 * Appends "v1,<base64 of HMAC-SHA256 of id.timestamp.body>" (Standard
 * Webhooks).
 */
void
de_sign_append(StringInfo buf, const char *secret, const char *id,
			   int64 unix_seconds, const StringInfoData *json)
{
	uint8	   *key = palloc(strlen(secret) + 1);
	const char *problem;
	int			key_len = de_secret_decode(secret, key, &problem);
	char		timestamp[MAXINT8LEN + 3];
	int			timestamp_len;
	uint8		mac[DE_SHA256_SIZE];

	if (key_len < 0)
		elog(ERROR, "signing secret is malformed");	/* refused when it is set */

	timestamp[0] = '.';
	timestamp_len = 1 + pg_lltoa(unix_seconds, timestamp + 1);
	timestamp[timestamp_len++] = '.';

	sign_create_contexts();
	if (pg_hmac_init(sign_hmac, key, key_len) < 0 ||
		pg_hmac_update(sign_hmac, (const uint8 *) id, strlen(id)) < 0 ||
		pg_hmac_update(sign_hmac, (const uint8 *) timestamp, timestamp_len) < 0 ||
		pg_hmac_update(sign_hmac, (const uint8 *) json->data, json->len) < 0 ||
		pg_hmac_final(sign_hmac, mac, sizeof(mac)) < 0)
		elog(ERROR, "could not compute HMAC-SHA256: %s", pg_hmac_error(sign_hmac));

	explicit_bzero(key, key_len);
	pfree(key);
	de_append_literal(buf, "v1,");
	de_append_base64(buf, (const char *) mac, sizeof(mac));
}

/*
 * Creates the hash contexts at first use, for the life of the process.
 *
 * The server registers them with CurrentResourceOwner without asking whether
 * there is one.  Outside of a transaction, where deliveries are made, there is
 * none (a null pointer); inside of one they would be freed at its end.  So they
 * get an owner of their own that is never released.  A server built without
 * OpenSSL takes their memory from the current context, which lives too short
 * as well.
 */
static void
sign_create_contexts(void)
{
#ifndef FRONTEND				/* the unit tests have neither owners nor contexts */
	ResourceOwner saved_owner = CurrentResourceOwner;
	MemoryContext saved_context = CurrentMemoryContext;
#endif

	if (sign_hmac != NULL)
		return;

#ifndef FRONTEND
	MemoryContextSwitchTo(TopMemoryContext);
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "durable_event delivery");
#endif
	PG_TRY();
	{
		if (sign_sha256 == NULL)
			sign_sha256 = pg_cryptohash_create(PG_SHA256);
		sign_hmac = pg_hmac_create(PG_SHA256);
	}
	PG_FINALLY();
	{
#ifndef FRONTEND
		CurrentResourceOwner = saved_owner;
		MemoryContextSwitchTo(saved_context);
#endif
	}
	PG_END_TRY();
}
