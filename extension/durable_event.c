/*-------------------------------------------------------------------------
 *
 * durable_event.c
 *		Entry point of the library: settings, shared memory, callbacks and
 *		the launcher, in that order.
 *
 * Loaded by shared_preload_libraries it does all of it, in the postmaster;
 * nothing here may start a thread or touch librdkafka or libcurl (threads do
 * not survive fork).  Loaded any other way it only defines the settings, so
 * that CREATE EXTENSION works; functions that need more say so when called.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "extension/ddl.h"
#include "extension/base/guc.h"
#include "extension/publish.h"
#include "extension/nested.h"
#include "extension/base/shmem.h"
#include "worker/life/launcher.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/*
 * Called once when the library is loaded.
 */
void
_PG_init(void)
{
	de_guc_init();

	if (!process_shared_preload_libraries_in_progress)
		return;

	/* pg_upgrade's servers must neither publish nor consume (pitfall 13) */
	if (IsBinaryUpgrade)
		return;

	de_shmem_init();
	de_publish_init();
	de_nested_init(de_publish_statement_ended);
	de_ddl_init();
	de_launcher_register();
}
