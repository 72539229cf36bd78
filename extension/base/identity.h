/*-------------------------------------------------------------------------
 *
 * identity.h
 *		Whose events these are: the source that a relay has stored in the
 *		database, and whether this database is a copy of that one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_IDENTITY_H
#define DE_IDENTITY_H

/* Whose events this database holds, by the settings and its relay_state. */
typedef enum DeIdentity
{
	DE_IDENTITY_UNCONFIGURED,	/* source or bootstrap_servers is not set */
	DE_IDENTITY_NEW,			/* no relay has stored a source yet */
	DE_IDENTITY_COPIED,			/* the source was stored in another database: this one is a copy */
	DE_IDENTITY_OTHER,			/* the stored source is not the configured one */
	DE_IDENTITY_OURS
} DeIdentity;

/* the row of durable_event.relay_state, and the verdict */
typedef struct DeRelayStateRow
{
	char	   *source;			/* NULL = no relay has run here yet */
	bool		paused;
	DeIdentity	identity;
} DeRelayStateRow;

/* Needs a transaction and an active snapshot; memory in the current context. */
extern void de_state_read(DeRelayStateRow *row);

/* Stores the source the first time; needs a transaction that may write. */
extern void de_state_store_source(const char *source);

/* Stores whether the relay is paused; needs a transaction that may write. */
extern void de_state_set_paused(bool paused);

#endif							/* DE_IDENTITY_H */
