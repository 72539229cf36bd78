/*-------------------------------------------------------------------------
 *
 * ddl.h
 *		Gets our workers out of the way of commands that need a database
 *		for themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_DDL_H
#define DE_DDL_H

/* Installs the utility hook; from _PG_init under shared_preload_libraries. */
extern void de_ddl_init(void);

#endif							/* DE_DDL_H */
