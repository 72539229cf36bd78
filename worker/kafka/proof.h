/*-------------------------------------------------------------------------
 *
 * proof.h
 *		For which partitions of a topic it is proven that Kafka keeps a
 *		producer's order.  Pure: no server, no library; memory by malloc only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_PROOF_H
#define DE_PROOF_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Without an acknowledgement for so long, a partition has to be proven again:
 * longer than a sound broker takes to answer.
 */
#define DE_PROOF_LASTS_MS 10000

/* The partitions of one topic, as one producer knows them. */
typedef struct DeProof DeProof;

/* NULL = out of memory. */
extern DeProof *de_proof_create(void);
extern void de_proof_free(DeProof *proof);

/* How many partitions records are divided among; 0 = not known yet. */
extern int	de_proof_partitions(const DeProof *proof);

/* Nothing in flight. */
extern bool de_proof_is_idle(const DeProof *proof);

/*
 * Takes the topic to have so many partitions from now on; false = out of memory.
 * Nothing may be in flight.
 */
extern bool de_proof_adopt(DeProof *proof, int partitions);

/*
 * May another record be handed over for this partition?  -1 while their number
 * is not known.  "now" is of a monotonic clock, in milliseconds.
 */
extern bool de_proof_may_send(const DeProof *proof, int partition, int64_t now);

/* A record was handed over, for a partition that may take it. */
extern void de_proof_sent(DeProof *proof, int partition);

/*
 * What became of a record.  A topic of which it was not known how many
 * partitions it has is taken to have "partitions" once one is stored.
 */
typedef struct DeProofReport
{
	int			partition;		/* where it went; negative = nowhere */
	int			partitions;		/* of how many */
	bool		stored;			/* else it failed, whatever the reason */
	int64_t		base;			/* offset of the first record of its request; negative = none */
} DeProofReport;

extern void de_proof_reported(DeProof *proof, const DeProofReport *report, int64_t now);

#endif							/* DE_PROOF_H */
