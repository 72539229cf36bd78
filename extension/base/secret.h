/*-------------------------------------------------------------------------
 *
 * secret.h
 *		Signing secrets: what they are as bytes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_SECRET_H
#define DE_SECRET_H

/* What a secret of Standard Webhooks begins with. */
#define DE_SECRET_PREFIX "whsec_"

/*
 * The bytes of a secret, which are not more than its characters, into key;
 * returns their number, or -1 with the reason in *problem (a constant, to be
 * shown; says nothing of the secret).  Never throws, allocates nothing.
 */
extern int	de_secret_decode(const char *secret, unsigned char *key, const char **problem);

#endif							/* DE_SECRET_H */
