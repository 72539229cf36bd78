/*-------------------------------------------------------------------------
 *
 * segment.h
 *		The ring of segment tables: which they are, their columns.  For the
 *		outbox_*.c files.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_SEGMENT_H
#define DE_SEGMENT_H

#include "access/sdir.h"
#include "datatype/timestamp.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "extension/outbox/outbox.h"

/* columns of a segment, from 1 */
enum
{
	ATTR_ID = 1,
	ATTR_EVENT_ID,
	ATTR_CREATED_AT,
	ATTR_EVENT_TYPE,
	ATTR_KEY,
	ATTR_CONTENT_TYPE,
	ATTR_HEADERS,
	ATTR_PAYLOAD
};

#define SEGMENT_NATTS ATTR_PAYLOAD

/*
 * Opens a segment with a lock, kept to the end of the transaction unless the
 * caller gives it back; throws if the extension or the table is not there, or
 * is not to be trusted (catalog.h), or lacks a column.
 */
extern Relation de_segment_open(int segment, LOCKMODE lockmode);

/*
 * The same with its index on id (NULL = without), without waiting: false when
 * somebody holds a lock on either that conflicts.
 */
extern bool de_segment_try_open(int segment, LOCKMODE lockmode, Relation *rel, Relation *index);

/*
 * OID of the plain index on id of a segment that is open; throws
 * undefined_object if it has none that is valid.
 */
extern Oid	de_segment_index(Relation rel);

/*
 * The first or last id of a segment and when its event was made, counting
 * rows dead or alive (a dead one's id was drawn too); 0 if it has none.
 */
extern int64 de_segment_edge(Relation rel, Relation index, ScanDirection direction,
							 TimestampTz *created_at);

/*
 * Bytes on disk of a segment with its TOAST table, without their indexes; and
 * its largest id, as de_segment_edge().  Neither waits for a lock: while
 * somebody's is in the way, it is what anybody saw last.
 */
extern int64 de_segment_bytes(DeDatabase *db, int segment);
extern int64 de_segment_last(DeDatabase *db, int segment);

#endif							/* DE_SEGMENT_H */
