/*-------------------------------------------------------------------------
 *
 * state.h
 *		What the relay keeps in the database: stored progress (a sequence),
 *		the source it serves, whether it is paused.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_STATE_H
#define DE_STATE_H

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

/* Stored progress: a restart begins after this id.  Need a transaction. */
extern int64 de_progress_load(void);
extern void de_progress_store(int64 id);

/*
 * Registration of configuration changes: true once after event_type,
 * consumer_group or relay_state changed (also on a standby, through WAL).
 * Calls AcceptInvalidationMessages; outside of transactions only.
 */
typedef enum DeConfigTable
{
	DE_CONFIG_RELAY_STATE,
	DE_CONFIG_EVENT_TYPE,
	DE_CONFIG_CONSUMER_GROUP
} DeConfigTable;

extern bool de_config_changed(DeConfigTable table);

/* To be called in a transaction before the tables are read; see state.c. */
extern void de_config_note_tables(void);

#endif							/* DE_STATE_H */
