/*-------------------------------------------------------------------------
 *
 * outbox.h
 *		The ring of segment tables: append, read in id order, rotate.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_OUTBOX_H
#define DE_OUTBOX_H

#include "extension/base/event.h"
#include "extension/base/shmem.h"
#include "utils/uuid.h"

/* One committed event as stored.  Pointers go into the batch's memory. */
typedef struct DeOutboxEvent
{
	int64		id;
	pg_uuid_t	event_id;
	TimestampTz created_at;
	const char *event_type;		/* UTF-8, not NUL-terminated */
	const char *key;			/* UTF-8; NULL = no key */
	const char *content_type;
	const char *headers;		/* encoded, see event.h; NULL = none */
	const char *payload;		/* NULL = tombstone */
	int			event_type_len;
	int			key_len;
	int			content_type_len;
	int			headers_len;
	int			payload_len;
} DeOutboxEvent;

typedef struct DeOutboxBatch
{
	int			n;
	int			max;			/* allocated entries */
	DeOutboxEvent *events;		/* ascending ids */
	Size		bytes;			/* keys, headers and payloads */
	int64		upto;			/* every event up to here was in this or an earlier batch */
} DeOutboxBatch;

/* Which events to read; must not throw. */
typedef struct DeOutboxFilter
{
	bool (*wanted)(void *arg, int64 id);
	void	   *arg;
} DeOutboxFilter;

/*
 * Reads the events with after < id <= upto, oldest first, into "batch" (all
 * memory in the current memory context), stopping after max_events or
 * max_bytes (at least one event is read); of them those that the filter wants,
 * NULL = all.  Needs a transaction and an active
 * snapshot taken after de_horizon_safe() returned "upto".  Never waits for a
 * lock: false, and nothing read, when somebody holds one that conflicts with
 * reading a segment.  Throws undefined_table when the extension is not there.
 */
extern bool de_outbox_read(int64 after, int64 upto, const DeOutboxFilter *filter, int max_events,
						   Size max_bytes, DeOutboxBatch *batch);

/*
 * Moves the current segment on when it is full or old, and empties one
 * segment that is wholly published ("stored" is the stored progress) and older
 * than the retention; near max_outbox_size both as soon as possible.  What it
 * empties it locks conditionally.  To be called
 * by the relay, in a transaction of its own without a snapshot.  Returns true
 * if it emptied one (call again).
 */
extern bool de_outbox_rotate(DeDatabase *db, int64 stored);

/* The largest id in any segment, committed or not; 0 = none. */
extern int64 de_outbox_largest_id(int *segment);

/*
 * Bytes on disk of the segments that count for max_outbox_size (segment.c has the
 * rule).  Near "limit" (MB) the relay is told to make room.  Needs a transaction.
 * Never waits for a lock: of a segment that somebody has locked it goes by what
 * was last known.
 */
extern int64 de_outbox_size(DeDatabase *db, int limit);

/* Does the relay know of a reason to call de_outbox_rotate() soon? */
extern bool de_outbox_is_pressed(DeDatabase *db);

/*
 * The relay's word that it can make room, which de_outbox_size() takes for a
 * while; and that it cannot.
 */
extern void de_outbox_room(DeDatabase *db, bool possible);

/* bytes at which a limit of the outbox in MB is near */
#define DE_OUTBOX_TARGET(limit) ((int64) (limit) * (1024 * 1024 / 4 * 3))

/*
 * Appends pending events of this transaction to the current segment; used by
 * publish.c at pre-commit, under an active snapshot.  Opening takes all locks,
 * to the end of the transaction; "largest" is at least the bytes of the largest
 * event.  The writer lives in the current memory context, which stays current.
 * Ids must ascend.
 */
typedef struct DeOutboxWriter DeOutboxWriter;
extern DeOutboxWriter *de_outbox_writer_open(DeDatabase *db, Size largest);
extern void de_outbox_writer_append(DeOutboxWriter *writer, int64 id, const DePendingEvent *event);
extern void de_outbox_writer_close(DeOutboxWriter *writer);

#endif							/* DE_OUTBOX_H */
