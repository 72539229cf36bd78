/*-------------------------------------------------------------------------
 *
 * publish_row.h
 *		publish_row(): the trigger that publishes what happens to a table's rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_PUBLISH_ROW_H
#define DE_PUBLISH_ROW_H

/* Installs the hook that tells when a statement has ended; from _PG_init only. */
extern void de_publish_row_init(void);

#endif							/* DE_PUBLISH_ROW_H */
