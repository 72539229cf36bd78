/*
 * The proof of order against a model of Kafka: every interleaving of a relay
 * that hands over a few records of one partition, a library that pipelines and
 * repeats them, and a broker that refuses requests for the moment or for good,
 * takes whatever comes first of a producer that it does not know, and forgets
 * producers; the relay's producer may die at any point.  In none of them may a
 * record be lost that counts as acknowledged, or come for the first time behind
 * a later one.  Without the proof both happen, or the model would show nothing.
 *
 * links: worker/kafka/proof.c
 */
#include <string.h>

#include "tap.h"
#include "worker/kafka/proof.h"

#define MAX_RECORDS 5
#define PARTITION 1				/* of two, so that their number has to be learned */
#define PARTITIONS 2
#define MAX_STEPS 64
#define MAX_LOG 64

/* ---- choices: a run is repeated with the next one, until all were made */

static int	chosen[MAX_STEPS * 2];
static int	choices[MAX_STEPS * 2];
static int	depth;				/* of the present run */
static int	made;				/* choices that are given */

static int
choose(int n)
{
	if (depth == made)
	{
		chosen[made] = 0;
		choices[made++] = n;
	}
	return chosen[depth++];
}

/* Prepares the next run; false = there is none. */
static bool
next_run(void)
{
	made = depth;
	while (made > 0 && chosen[made - 1] + 1 == choices[made - 1])
		made--;
	if (made > 0)
		chosen[made - 1]++;
	return made > 0;
}

/* ---- the model */

typedef enum Answer
{
	STORED,
	LATER,
	NEVER,
	OUT_OF_ORDER
} Answer;

typedef struct Request
{
	int			record;
	int			sequence;
	Answer		answer;
	int			offset;
} Request;

typedef struct Queue
{
	Request		of[MAX_STEPS];
	int			first;
	int			end;
} Queue;

typedef struct Model
{
	/* the broker */
	int			log[MAX_LOG];
	int			offsets[MAX_RECORDS];	/* where this producer's sequence stands */
	int			logged;
	bool		known;			/* it has state of this producer */
	int			expected;		/* sequence */
	/* the library */
	Queue		requests;
	Queue		answers;
	bool		waits[MAX_RECORDS]; /* by sequence: handed over, not reported */
	int			sequence;		/* of the next record */
	int			begin;			/* record that has sequence 0 */
	/* the relay */
	DeProof    *proof;
	bool		gate;
	int			records;
	int			next;			/* record to hand over */
	int			acked;			/* all before it are */
	int64_t		now;
	/* faults left */
	int			refusals;
	int			deaths;
	int			pauses;
	bool		lost;
	bool		inverted;
} Model;

static void
rebuild(Model *model)
{
	/* what is on its way may arrive, up to any request */
	int			arrive = choose(model->requests.end - model->requests.first + 1);

	for (int i = 0; i < arrive; i++)
	{
		Request    *request = &model->requests.of[model->requests.first + i];

		if (!model->known || request->sequence == model->expected)
		{
			model->log[model->logged++] = request->record;
			model->known = true;
			model->expected = request->sequence + 1;
		}
	}
	memset(&model->requests, 0, sizeof(Queue));
	memset(&model->answers, 0, sizeof(Queue));
	memset(model->waits, 0, sizeof(model->waits));
	de_proof_free(model->proof);
	model->proof = de_proof_create();
	model->known = false;
	model->sequence = 0;
	model->next = model->acked;
	model->begin = model->acked;
}

static void
hand_over(Model *model)
{
	de_proof_sent(model->proof, de_proof_partitions(model->proof) > 0 ? PARTITION : -1);
	model->waits[model->sequence] = true;
	model->requests.of[model->requests.end++] = (Request){
		.record = model->next++,
		.sequence = model->sequence++
	};
}

static void
broker_takes(Model *model, Answer refusal)
{
	Request		request = model->requests.of[model->requests.first++];

	request.answer = refusal;
	if (refusal == STORED)
	{
		if (model->known && request.sequence > model->expected)
			request.answer = OUT_OF_ORDER;
		else if (model->known && request.sequence < model->expected)
			request.offset = model->offsets[request.sequence];
		else
		{
			request.offset = model->logged;
			model->offsets[request.sequence] = model->logged;
			model->log[model->logged++] = request.record;
			model->known = true;
			model->expected = request.sequence + 1;
		}
	}
	model->answers.of[model->answers.end++] = request;
}

/* Tells the proof, and moves what counts as acknowledged; false = the producer is given up. */
static bool
report(Model *model, int sequence, bool stored, int offset)
{
	DeProofReport report = {PARTITION, PARTITIONS, stored, offset};

	model->waits[sequence] = false;
	de_proof_reported(model->proof, &report, model->now);
	if (!stored || offset < 0)
		return false;
	model->acked = model->begin + sequence + 1;
	return true;
}

static void
library_takes(Model *model)
{
	Request		answer = model->answers.of[model->answers.first++];
	bool		good = true;
	int			first = 0;

	if (!model->waits[answer.sequence])
		return;
	while (!model->waits[first])
		first++;
	switch (answer.answer)
	{
		case STORED:
			/* so those before it are, it thinks */
			for (; first < answer.sequence; first++)
			{
				if (model->waits[first])
					good &= report(model, first, true, -1);
			}
			if (good)
				good = report(model, answer.sequence, true, answer.offset);
			break;
		case LATER:
			break;
		case OUT_OF_ORDER:
			/* because of one before it, or for ever */
			good = first < answer.sequence;
			break;
		case NEVER:
			good = report(model, answer.sequence, false, -1);
			break;
	}
	if (!good)
	{
		rebuild(model);
		return;
	}
	if (answer.answer != STORED)
	{
		/* again, in the order of sequences */
		Queue	   *queue = &model->requests;
		int			at = queue->end++;

		for (; at > queue->first && queue->of[at - 1].sequence > answer.sequence; at--)
			queue->of[at] = queue->of[at - 1];
		queue->of[at] = (Request){.record = answer.record, .sequence = answer.sequence};
	}
}

/* One run; false = it came to no end within the steps. */
static bool
run(Model *model)
{
	depth = 0;
	model->proof = de_proof_create();
	for (int step = 0; step < MAX_STEPS && model->logged < MAX_LOG - MAX_RECORDS; step++)
	{
		enum
		{
			HAND_OVER,
			BROKER,
			REFUSE,
			REFUSE_FOR_GOOD,
			LIBRARY,
			DIE,
			PAUSE
		}			can[7];
		int			n = 0;
		bool		quiet = model->requests.first == model->requests.end &&
			model->answers.first == model->answers.end;

		if (model->acked == model->records)
			break;
		if (model->next < model->records &&
			(!model->gate ||
			 de_proof_may_send(model->proof, de_proof_partitions(model->proof) > 0 ? PARTITION : -1,
							   model->now)))
			can[n++] = HAND_OVER;
		if (model->requests.first < model->requests.end)
		{
			can[n++] = BROKER;
			if (model->refusals > 0)
			{
				can[n++] = REFUSE;
				can[n++] = REFUSE_FOR_GOOD;
			}
		}
		if (model->answers.first < model->answers.end)
			can[n++] = LIBRARY;
		if (model->deaths > 0)
			can[n++] = DIE;
		if (quiet && model->pauses > 0)
			can[n++] = PAUSE;
		if (n == 0)
			break;
		switch (can[choose(n)])
		{
			case HAND_OVER:
				hand_over(model);
				break;
			case BROKER:
				broker_takes(model, STORED);
				break;
			case REFUSE:
				model->refusals--;
				broker_takes(model, LATER);
				break;
			case REFUSE_FOR_GOOD:
				model->refusals--;
				broker_takes(model, NEVER);
				break;
			case LIBRARY:
				library_takes(model);
				break;
			case DIE:
				model->deaths--;
				rebuild(model);
				break;
			case PAUSE:
				/* long enough for the broker to forget the producer */
				model->pauses--;
				model->now += DE_PROOF_LASTS_MS;
				model->known = false;
				break;
		}
	}
	de_proof_free(model->proof);

	for (int record = 0, last = -1; record < model->records; record++)
	{
		int			at = 0;

		while (at < model->logged && model->log[at] != record)
			at++;
		if (at < model->logged)
		{
			model->inverted |= at < last;
			last = at;
		}
		else
			model->lost |= record < model->acked;
		/* one that is missing is behind all that are there */
		if (at == model->logged)
			last = MAX_LOG;
	}
	return model->acked == model->records;
}

typedef struct Outcome
{
	long		runs;
	long		lost;
	long		inverted;
	long		unended;
} Outcome;

static void
explore(Outcome *outcome, bool gate, int records, int refusals, int deaths, int pauses)
{
	made = 0;
	do
	{
		Model		model = {
			.gate = gate,
			.records = records,
			.refusals = refusals,
			.deaths = deaths,
			.pauses = pauses,
			.now = 1
		};

		outcome->unended += !run(&model);
		outcome->runs++;
		outcome->lost += model.lost;
		outcome->inverted += model.inverted;
	} while (next_run());
}

/* What may go wrong in one run; all of it in one would be too many. */
static const int faults[][3] = {
	{2, 0, 0}, {1, 1, 0}, {1, 0, 1}, {0, 1, 1}, {0, 2, 0}
};

/* Does an offset that falls take the proof until all that is in flight has come back? */
static bool
offsets_fall(void)
{
	DeProof    *proof = de_proof_create();
	DeProofReport report = {0, PARTITIONS, true, 100};
	bool		right;

	de_proof_sent(proof, -1);
	de_proof_reported(proof, &report, 0);
	for (int i = 0; i < 4; i++)
		de_proof_sent(proof, 0);
	right = de_proof_may_send(proof, 0, 0);
	/* two records of one request, and one of the next */
	report.base = 0;
	de_proof_reported(proof, &report, 0);
	de_proof_reported(proof, &report, 0);
	report.base = 2;
	de_proof_reported(proof, &report, 0);
	right &= !de_proof_may_send(proof, 0, 0);
	report.base = 3;
	de_proof_reported(proof, &report, 0);
	de_proof_sent(proof, 0);
	right &= de_proof_may_send(proof, 0, 0);
	de_proof_free(proof);
	return right;
}

int
main(void)
{
	Outcome		with = {0};
	Outcome		without = {0};

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
	{
		const int  *of = faults[i];

		explore(&with, true, MAX_RECORDS, of[0], of[1], of[2]);
		explore(&without, false, 3, of[0], of[1], of[2]);
	}
	printf("# %ld interleavings with the proof; without it %ld, of which %ld invert and %ld lose\n",
		   with.runs, without.runs, without.inverted, without.lost);
	ok(with.runs > 10000, "there are many");
	ok(with.unended == 0 && without.unended == 0, "all of them end with everything acknowledged");
	ok(with.inverted == 0, "none inverts");
	ok(with.lost == 0, "none loses");
	ok(without.inverted > 0, "without the proof some do");
	ok(offsets_fall(), "an offset that falls takes the proof until one record has come back alone");
	return tap_done();
}
