/*-------------------------------------------------------------------------
 *
 * stats.h
 *		What the workers say about themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_STATS_H
#define DE_STATS_H

#include "extension/base/shmem.h"

/* Copied from shared memory at one moment. */
typedef struct DeRelayReport
{
	int			pid;			/* 0 = no relay runs; state is stopped then */
	DeRelayState state;
	TimestampTz state_since;
	DeLastError error;
	DeLastError outbox_error;	/* at 0 = all is well */
	TimestampTz last_acked_at;
	TimestampTz oldest_unacked_at;
} DeRelayReport;

extern void de_relay_get_report(DeDatabase *db, DeRelayReport *report);

#endif							/* DE_STATS_H */
