/*-------------------------------------------------------------------------
 *
 * upkeep.c
 *		What the relay does in the database beside sending.
 *
 * None of it may keep events from being sent.  On a full disk a segment cannot
 * be emptied, which takes a new file; a relay that died of that would, with
 * each life, try that first and send nothing, and publishing fails until a
 * segment is emptied.  So failures are caught, told, and the chore is tried
 * again with backoff.
 *
 * A lock that somebody holds on a segment (REINDEX, VACUUM FULL) is no failure
 * while it is short, and nothing to die of either: the producer stays, and what
 * is in flight is acknowledged meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "extension/base/catalog.h"
#include "extension/base/clock.h"
#include "extension/base/kill_point.h"
#include "extension/outbox/outbox.h"
#include "extension/outbox/progress.h"
#include "worker/base/backoff.h"
#include "worker/life/attempt.h"
#include "worker/life/worker.h"
#include "worker/relay/upkeep.h"

/* What a crash repeats besides the window; each costs a transaction. */
#define PROGRESS_INTERVAL_MS 250

/* Age and retention of segments pass without any event. */
#define ROTATE_IDLE_INTERVAL_MS 5000

/* What the log and check() call the chores, and how they are tried again. */
static const struct
{
	const char *purpose;
	int			patience_ms;	/* before it is told */
	int			retry_min_ms;
	int			retry_max_ms;
}			chores[DE_CHORES] = {
	[DE_CHORE_CONFIGURE] = {"read its configuration", 5000, 100, 100},
	[DE_CHORE_READ] = {"read the outbox", 5000, 100, 100},
	[DE_CHORE_STORE] = {"store progress", 0, 1000, 30000},
	[DE_CHORE_ROTATE] = {"move outbox segments on", 0, 1000, 30000},
};

/* One chore that has failed since it was last done. */
typedef struct ChoreState
{
	int			attempts;		/* 0 = all is well */
	int64		since;
	int64		retry_at;
	bool		told;
	char		reason[DE_ERROR_SIZE];	/* as told */
} ChoreState;

struct DeUpkeep
{
	DeDatabase *db;
	int64		stored;			/* progress as stored */
	int64		store_at;		/* not before */
	int64		rotated;		/* progress when rotation last had nothing to do */
	int64		rotated_at;
	bool		emptied;		/* then another one may be due */
	ChoreState	chores[DE_CHORES];
};

/* What a transaction is given and gives back. */
typedef struct UpkeepWork
{
	DeUpkeep   *upkeep;
	Oid			extension;
	int64		acked;
	bool		same;			/* the extension is the one that it was */
	bool		emptied;
} UpkeepWork;

static void upkeep_report(DeUpkeep *upkeep);
static void upkeep_store_work(void *arg);
static void upkeep_rotate_work(void *arg);

DeUpkeep *
de_upkeep_create(MemoryContext parent, DeDatabase *db)
{
	DeUpkeep   *upkeep = MemoryContextAllocZero(parent, sizeof(DeUpkeep));

	upkeep->db = db;
	de_relay_report_outbox(upkeep->db, NULL);
	/* not a former relay's word */
	de_outbox_room(upkeep->db, false);
	return upkeep;
}

void
de_upkeep_begin(DeUpkeep *upkeep, int64 stored)
{
	upkeep->stored = stored;
	upkeep->rotated = -1;
	pg_atomic_write_u64(&upkeep->db->stored_id, (uint64) stored);
}

/*
 * Notes a failure.
 */
void
de_upkeep_failed(DeUpkeep *upkeep, DeChore chore, const char *reason)
{
	ChoreState *state = &upkeep->chores[chore];
	int64		now = de_monotonic_ms();
	bool		told = state->told;

	if (state->attempts++ == 0)
		state->since = now;
	if (chore == DE_CHORE_STORE || chore == DE_CHORE_ROTATE)
		de_outbox_room(upkeep->db, false);
	state->retry_at = now;
	state->retry_at += chores[chore].retry_min_ms == chores[chore].retry_max_ms ?
		chores[chore].retry_min_ms :
		de_backoff_ms(state->attempts, chores[chore].retry_min_ms, chores[chore].retry_max_ms,
					  pg_prng_double(&pg_global_prng_state));
	if (now - state->since < chores[chore].patience_ms)
		return;
	state->told = true;
	strlcpy(state->reason, reason, sizeof(state->reason));
	upkeep_report(upkeep);
	if (told)
		return;
	ereport(LOG,
			(errmsg("durable_event relay could not %s, trying again until it succeeds",
					chores[chore].purpose),
			 errdetail("%s", reason)));
}

/*
 * Notes a success.
 */
void
de_upkeep_done(DeUpkeep *upkeep, DeChore chore)
{
	ChoreState *state = &upkeep->chores[chore];
	bool		told = state->told;

	if (state->attempts == 0)
		return;
	if (told)
		ereport(LOG,
				(errmsg("durable_event relay could %s again after %lld seconds",
						chores[chore].purpose,
						(long long) ((de_monotonic_ms() - state->since + 500) / 1000))));
	memset(state, 0, sizeof(ChoreState));
	if (told)
		upkeep_report(upkeep);
}

/*
 * Shows all chores that fail, each with its share of the room.
 */
static void
upkeep_report(DeUpkeep *upkeep)
{
	char		text[DE_ERROR_SIZE] = "";
	char		part[DE_ERROR_SIZE];
	int			n = 0;

	for (int i = 0; i < DE_CHORES; i++)
		n += upkeep->chores[i].told ? 1 : 0;
	for (int i = 0; i < DE_CHORES; i++)
	{
		if (!upkeep->chores[i].told)
			continue;
		snprintf(part, sizeof(part), "%s could not %s: %s", text[0] == '\0' ? "The relay" : "; it",
				 chores[i].purpose, upkeep->chores[i].reason);
		part[pg_mbcliplen(part, strlen(part), (sizeof(text) - 1) / n)] = '\0';
		strlcat(text, part, sizeof(text));
	}
	de_relay_report_outbox(upkeep->db, n > 0 ? text : NULL);
}

bool
de_upkeep_is_due(const DeUpkeep *upkeep, DeChore chore)
{
	return upkeep->chores[chore].attempts == 0 ||
		de_monotonic_ms() >= upkeep->chores[chore].retry_at;
}

/*
 * Stores progress; see upkeep.h.
 */
bool
de_upkeep_store(DeUpkeep *upkeep, Oid extension, int64 acked, bool now)
{
	UpkeepWork	work = {.upkeep = upkeep, .extension = extension, .acked = acked};
	DeFailure	failure;

	if (acked <= upkeep->stored)
		return true;
	if (!now && (de_monotonic_ms() < upkeep->store_at || !de_upkeep_is_due(upkeep, DE_CHORE_STORE)))
		return true;
	DE_KILL_POINT("relay-after-acknowledgement");
	if (!de_worker_attempt("storing progress", true, upkeep_store_work, &work, &failure))
	{
		de_upkeep_failed(upkeep, DE_CHORE_STORE, failure.message);
		return true;
	}
	DE_KILL_POINT("relay-after-store");
	de_upkeep_done(upkeep, DE_CHORE_STORE);
	if (work.same)
		upkeep->stored = acked;
	pg_atomic_write_u64(&upkeep->db->stored_id, (uint64) upkeep->stored);
	upkeep->store_at = de_monotonic_ms() + PROGRESS_INTERVAL_MS;
	return work.same;
}

static void
upkeep_store_work(void *arg)
{
	UpkeepWork *work = arg;

	work->same = de_extension_lock() == work->extension;
	if (!work->same)
		return;
	de_progress_store(work->acked);
	DE_KILL_POINT("relay-after-setval");
}

/*
 * Moves segments on; see upkeep.h.
 */
bool
de_upkeep_rotate(DeUpkeep *upkeep, Oid extension)
{
	UpkeepWork	work = {.upkeep = upkeep, .extension = extension};
	int64		now = de_monotonic_ms();
	DeFailure	failure;
	int64		interval = ROTATE_IDLE_INTERVAL_MS;

	upkeep->emptied = false;
	if (de_outbox_is_pressed(upkeep->db))
		interval = PROGRESS_INTERVAL_MS;
	if ((upkeep->rotated == upkeep->stored && now - upkeep->rotated_at < interval) ||
		!de_upkeep_is_due(upkeep, DE_CHORE_ROTATE))
		return true;
	/* without a snapshot: emptying a table under one is refused */
	if (!de_worker_attempt("rotating outbox segments", false, upkeep_rotate_work, &work,
						   &failure))
	{
		de_upkeep_failed(upkeep, DE_CHORE_ROTATE, failure.message);
		return true;
	}
	DE_KILL_POINT("relay-after-rotation");
	de_upkeep_done(upkeep, DE_CHORE_ROTATE);
	if (work.same && upkeep->chores[DE_CHORE_STORE].attempts == 0)
		de_outbox_room(upkeep->db, true);

	/* another one may be due */
	upkeep->emptied = work.emptied;
	if (!work.emptied)
		upkeep->rotated = upkeep->stored;
	upkeep->rotated_at = now;
	return work.same;
}

static void
upkeep_rotate_work(void *arg)
{
	UpkeepWork *work = arg;

	work->same = de_extension_lock() == work->extension;
	if (work->same)
		work->emptied = de_outbox_rotate(work->upkeep->db, work->upkeep->stored);
}

/*
 * When to come back.
 */
long
de_upkeep_timeout(const DeUpkeep *upkeep, int64 acked)
{
	int64		due = upkeep->store_at;

	if (upkeep->emptied)
		return 0;
	if (acked <= upkeep->stored)
		return de_outbox_is_pressed(upkeep->db) ? PROGRESS_INTERVAL_MS : DE_MAX_WAIT_MS;
	if (upkeep->chores[DE_CHORE_STORE].attempts > 0)
		due = Max(due, upkeep->chores[DE_CHORE_STORE].retry_at);
	return (long) Min(Max(due - de_monotonic_ms(), 0), DE_MAX_WAIT_MS);
}
