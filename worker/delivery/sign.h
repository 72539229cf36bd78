/*-------------------------------------------------------------------------
 *
 * sign.h
 *		Hashes of the delivery protocol: signatures of Standard Webhooks, SHA-256.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_SIGN_H
#define DE_SIGN_H

#include "lib/stringinfo.h"

#define DE_SHA256_SIZE 32

/* SHA-256 of bytes, into DE_SHA256_SIZE bytes. */
extern void de_sha256(const char *bytes, int len, uint8 *digest);

/* Appends a signature: "v1,<base64 of HMAC-SHA256 of id.timestamp.body>". */
extern void de_sign_append(StringInfo buf, const char *secret, const char *id,
						   int64 unix_seconds, const StringInfoData *json);

#endif							/* DE_SIGN_H */
