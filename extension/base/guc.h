/*-------------------------------------------------------------------------
 *
 * guc.h
 *		The settings of durable_event.  A variable is named as its setting,
 *		with de_ for durable_event.; the paragraph on each stands in guc.c.
 *
 * String settings are never NULL; empty means unset.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_GUC_H
#define DE_GUC_H

#include "nodes/pg_list.h"

typedef enum DeProxyWhere
{
	DE_PROXY_OFF,
	DE_PROXY_PRIMARY,			/* only while this server is not in recovery */
	DE_PROXY_STANDBY,			/* only while it is */
	DE_PROXY_ANY
} DeProxyWhere;

typedef enum DeEventTypes
{
	DE_EVENT_TYPES_ANY,
	DE_EVENT_TYPES_REGISTERED	/* only those with a row in event_type */
} DeEventTypes;

#define DE_MAX_PROXY_WORKERS 16

extern char *de_bootstrap_servers;
extern char *de_databases;
extern int	de_event_types;		/* DeEventTypes */
extern char *de_group_prefix;
extern char *de_handler_ca_file;
extern char *de_handler_cert_file;
extern char *de_handler_hosts;
extern char *de_handler_key_file;
extern char *de_handler_url;
extern char *de_kafka_config;
extern int	de_max_databases;
extern int	de_max_event_size;	/* kB */
extern int	de_max_events_per_transaction;	/* 0 = no limit */
extern int	de_max_groups;
extern int	de_max_outbox_size; /* MB; 0 = no limit */
extern int	de_max_record_size; /* kB; see de_record_limit() */
extern int	de_proxy;			/* DeProxyWhere */
extern int	de_proxy_memory;	/* kB */
extern int	de_proxy_workers;
extern bool de_relay;
extern int	de_relay_buffer_size;	/* kB */
extern int	de_relay_linger;	/* ms */
extern int	de_retention;		/* s */
extern int	de_segment_interval;	/* s */
extern int	de_segment_size;	/* MB */
extern int	de_shutdown_timeout;	/* ms */
extern char *de_signing_secret;
extern char *de_signing_secret_previous;
extern char *de_source;
extern int	de_topic_partitions;
extern char *de_topic_prefix;
extern int	de_topic_replication_factor;

extern void de_guc_init(void);

/* Can signing_secret and signing_secret_previous be signed with?  False only after a bad start. */
extern bool de_signing_secrets_are_usable(void);

/* Is the named database in durable_event.databases?  Any backend or worker. */
extern bool de_database_is_listed(const char *dbname);

/* Bytes of the largest record that is delivered. */
extern Size de_record_limit(void);

/*
 * The names in durable_event.databases as a List of palloc'd char *, in the
 * caller's context.
 */
extern List *de_listed_databases(void);

#endif							/* DE_GUC_H */
