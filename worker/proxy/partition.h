/*-------------------------------------------------------------------------
 *
 * partition.h
 *		One assigned partition of a consumer group: has its records delivered
 *		in order, knows what may be committed.
 *
 * Nothing here calls the group.  What an answer means for it, the loop hands
 * over; figures and positions it asks for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_PARTITION_H
#define DE_PARTITION_H

#include "datatype/timestamp.h"
#include "worker/kafka/consumer.h"
#include "worker/proxy/definition.h"
#include "worker/proxy/loop.h"

typedef struct DePartition DePartition;

/*
 * "owner" is the caller's, "share" his part of the memory for bodies.  The
 * partition becomes the owner of its source.
 */
extern DePartition *de_partition_create(DeLoop *loop, void *owner, DeBudgetShare *share,
										const DeGroupDefinition *definition,
										DeSource *source, int32 generation);
extern void *de_partition_owner(DePartition *partition);

/* The source stays for a while when the partition goes, without an owner. */
extern void de_partition_detach(DePartition *partition);

/*
 * Forgets the partition.  A request under way is given up: its outcome
 * stays unknown, so its events come again to whoever owns the partition next.
 * Does not touch "source", which may be gone already.
 */
extern void de_partition_destroy(DePartition *partition);

/* Takes records if it can; to be called when the group's descriptor was readable. */
extern void de_partition_run(DePartition *partition);

/* The group's definition has changed in place: holds from the next request on. */
extern void de_partition_redefine(DePartition *partition, const DeGroupDefinition *definition);

/* Stops taking and sending; what is under way may still be answered. */
extern void de_partition_quiesce(DePartition *partition);

/* Is there an answer to wait for? */
extern bool de_partition_busy(DePartition *partition);

/* What became of a request. */
typedef struct DePartitionAnswer
{
	bool		acknowledged;
	int			nevents;		/* of the request */
	char		reason[DE_HTTP_ERROR_SIZE]; /* why not; printable ASCII */
} DePartitionAnswer;

/*
 * Takes the answer to its request, which is finished.  Records are not taken
 * before the next de_partition_run().
 */
extern void de_partition_finished(DePartition *partition, DePartitionAnswer *answer);

/* Why it takes nothing any more, NULL = it does. */
extern const char *de_partition_blocked(DePartition *partition);

/* The same, but once: NULL when it has been told already. */
extern const char *de_partition_take_notice(DePartition *partition);

/* ---- commits; offsets of the next record wanted ---- */

typedef enum DeCommitMode
{
	DE_COMMIT_CHANGED,			/* if it has moved and no commit is under way */
	DE_COMMIT_PROBE,			/* also if it has not: does Kafka answer? */
	DE_COMMIT_LAST				/* what has moved, also beside a commit under way */
} DeCommitMode;

/* Notes the position for the group's next commit request; false if there is nothing to note. */
extern bool de_partition_note_commit(DePartition *partition, DeCommitMode mode);

/* Result of a commit of "offset". */
extern void de_partition_committed(DePartition *partition, int64 offset, bool ok);

/* Is there a result to wait for? */
extern bool de_partition_committing(DePartition *partition);

/* ---- figures ---- */

typedef struct DePartitionFigures
{
	int64		position;		/* offset that may be committed now; -1 = none */
	int64		lag;			/* events from there to the end; -1 = unknown */
	int			in_flight;		/* events in the request under way */
	TimestampTz oldest;			/* timestamp of the oldest one in the body; 0 = none */
} DePartitionFigures;

extern void de_partition_figures(DePartition *partition, DePartitionFigures *figures);

/* Has its body been refused, and is it sent again? */
extern bool de_partition_failing(DePartition *partition);

#endif							/* DE_PARTITION_H */
