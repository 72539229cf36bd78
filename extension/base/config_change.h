/*-------------------------------------------------------------------------
 *
 * config_change.h
 *		Tells the workers that a configuration table has changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_CONFIG_CHANGE_H
#define DE_CONFIG_CHANGE_H

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

/* To be called in a transaction before the tables are read; see config_change.c. */
extern void de_config_note_tables(void);

#endif							/* DE_CONFIG_CHANGE_H */
