/*-------------------------------------------------------------------------
 *
 * launcher.h
 *		Registration of the launcher: all that extension/ knows of worker/.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_LAUNCHER_H
#define DE_LAUNCHER_H

/* Registers the static launcher; from _PG_init under shared_preload_libraries. */
extern void de_launcher_register(void);

#endif							/* DE_LAUNCHER_H */
