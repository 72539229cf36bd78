/*-------------------------------------------------------------------------
 *
 * proof.c
 *		For which partitions of a topic it is proven that Kafka keeps a
 *		producer's order.
 *
 * What Kafka guarantees: a broker that has state of a producer id on a
 * partition appends only the sequence number that comes next, so nothing is
 * appended whose predecessor is not.
 *
 * What it does not: one that has no such state takes whatever number comes
 * first.  So of two requests on their way to a partition that is new to the
 * producer, the first may be refused for the moment (the leader has just moved,
 * the topic is not yet known to it, too few replicas are in sync) or for good,
 * and the second one appended.  The library then reports the first one as
 * acknowledged, by the second one's success, and Kafka never gets it; or, where
 * it notices, sends it again, behind its successor.
 *
 * Hence a partition is proven by an acknowledgement with an offset, and until
 * then has one record in flight.  Proof by induction: the first record is alone
 * until it is appended, and leaves the state; each later one is appended behind
 * its predecessor, since the state is there.  What takes the state away, or
 * may, takes the proof:
 *
 *	- the producer's end: a proof is one producer's
 *	- time: the broker forgets a producer of whose records the youngest is
 *	  older than producer.id.expiration.ms (a day, unless set to less).  They
 *	  are stamped when they are handed over: by the database's clock, and
 *	  before they wait in the queue, through an outage if need be.  Where that
 *	  and ten seconds come to the expiration, the proof is none
 *	- an offset below the former ones: the topic was made again, or its end cut
 *	  off by an unclean election
 *	- a failure, after which nobody knows what was appended
 *
 * After the last two, what is in flight comes back first: only a record behind
 * which none was handed over proves anything anew.
 *
 * A leader that moves without loss takes the state along: it is part of what is
 * replicated.  So does a new epoch of the producer, of which the library makes
 * use only when nothing of the partition is in flight; the broker then demands
 * sequence 0, not any number.
 *
 * Which partition a key has depends on how many there are.  That is known with
 * the first record that comes back; until then the topic has one in flight, too.
 * When it changes, the records in flight have to come back first, or those of
 * one key would be in two partitions at the same time.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "worker/kafka/proof.h"

typedef struct ProofPartition
{
	int			in_flight;
	bool		proven;
	int64_t		last_base;		/* of the last report; negative = none */
	int64_t		acked_at;
} ProofPartition;

struct DeProof
{
	int			in_flight;		/* of all partitions */
	bool		astray;			/* a record came back from where none was expected */
	int			n;				/* adopted; 0 = unknown */
	ProofPartition *partitions;
};

DeProof *
de_proof_create(void)
{
	return calloc(1, sizeof(DeProof));
}

void
de_proof_free(DeProof *proof)
{
	free(proof->partitions);
	free(proof);
}

int
de_proof_partitions(const DeProof *proof)
{
	return proof->n;
}

bool
de_proof_is_idle(const DeProof *proof)
{
	return proof->in_flight == 0;
}

/*
 * Partitions that there were before keep their proof: adding others does not
 * touch them.
 */
bool
de_proof_adopt(DeProof *proof, int partitions)
{
	ProofPartition *grown;

	grown = realloc(proof->partitions, partitions * sizeof(ProofPartition));
	if (grown == NULL)
		return false;
	for (int i = proof->n; i < partitions; i++)
		grown[i] = (ProofPartition){.last_base = -1};
	proof->partitions = grown;
	proof->n = partitions;
	return true;
}

bool
de_proof_may_send(const DeProof *proof, int partition, int64_t now)
{
	const ProofPartition *of;

	if (proof->n == 0)
		return proof->in_flight == 0;
	of = &proof->partitions[partition];
	return of->in_flight == 0 || (of->proven && now - of->acked_at < DE_PROOF_LASTS_MS);
}

void
de_proof_sent(DeProof *proof, int partition)
{
	proof->in_flight++;
	if (proof->n > 0)
		proof->partitions[partition].in_flight++;
}

void
de_proof_reported(DeProof *proof, const DeProofReport *report, int64_t now)
{
	ProofPartition *of;
	bool		alone;

	proof->in_flight--;
	if (proof->n == 0 && report->stored && proof->in_flight == 0)
		de_proof_adopt(proof, report->partitions);
	of = report->partition >= 0 && report->partition < proof->n ?
		&proof->partitions[report->partition] :
		NULL;
	if (of != NULL && of->in_flight > 0)
		of->in_flight--;
	else
		proof->astray = true;
	if (proof->in_flight == 0 && proof->astray)
	{
		/* one that failed before it had a partition, say, must not count for ever */
		for (int i = 0; i < proof->n; i++)
			proof->partitions[i].in_flight = 0;
		proof->astray = false;
	}
	if (of == NULL)
		return;
	/* what was handed over behind it was so on the strength of a proof that may be gone */
	alone = of->in_flight == 0;
	/* the records of one request share their base */
	of->proven = report->stored && report->base >= 0 &&
		(alone || (of->proven && report->base >= of->last_base));
	of->last_base = report->base;
	of->acked_at = now;
}
