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

/* the row of durable_event.relay_state */
typedef struct DeRelayStateRow
{
	char	   *source;			/* NULL = no relay has run here yet */
	bool		copied;			/* the source was stored in another database: this one is a copy */
	bool		paused;
} DeRelayStateRow;

/* Needs a transaction and an active snapshot; memory in the current context. */
extern void de_state_read(DeRelayStateRow *row);

/* Stores the source the first time; needs a transaction that may write. */
extern void de_state_store_source(const char *source);

/* Stores whether the relay is paused; needs a transaction that may write. */
extern void de_state_set_paused(bool paused);

#endif							/* DE_IDENTITY_H */
