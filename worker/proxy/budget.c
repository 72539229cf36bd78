/*-------------------------------------------------------------------------
 *
 * budget.c
 *		Memory that the partitions of all groups share for request bodies.
 *
 * Half of it is free for all, the other half is divided among the groups, so
 * that the bodies of a group whose handler is down, which stay for as long as
 * it is down, cannot starve the others.
 *
 * Pure: no state of its own; linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/proxy/budget.h"

void
de_budget_init(DeBudget *budget)
{
	memset(budget, 0, sizeof(*budget));
	dlist_init(&budget->waiting);
}

void
de_budget_resize(DeBudget *budget, Size limit, int nshares)
{
	budget->limit = limit;
	budget->nshares = nshares;
	budget->freed = true;
}

void
de_budget_claim_init(DeBudgetClaim *claim, DeBudget *budget, DeBudgetShare *share,
					 void (*granted)(void *owner), void *owner)
{
	memset(claim, 0, sizeof(*claim));
	claim->budget = budget;
	claim->share = share;
	claim->granted = granted;
	claim->owner = owner;
}

bool
de_budget_may_grow(const DeBudgetClaim *claim)
{
	const DeBudget *budget = claim->budget;

	return budget->used < budget->limit / 2 ||
		claim->share->used < budget->limit / 2 / Max(budget->nshares, 1) ||
		claim->share->used == 0;
}

void
de_budget_charge(DeBudgetClaim *claim, Size bytes)
{
	DeBudget   *budget = claim->budget;

	if (bytes < claim->charged)
		budget->freed = true;
	budget->used = budget->used - claim->charged + bytes;
	claim->share->used = claim->share->used - claim->charged + bytes;
	claim->charged = bytes;
}

void
de_budget_wait(DeBudgetClaim *claim)
{
	if (claim->waiting)
		return;
	claim->waiting = true;
	dlist_push_tail(&claim->budget->waiting, &claim->node);
}

void
de_budget_cancel_wait(DeBudgetClaim *claim)
{
	if (claim->waiting)
		dlist_delete(&claim->node);
	claim->waiting = false;
}

void
de_budget_serve(DeBudget *budget)
{
	dlist_mutable_iter iter;

	/* without it hundreds that wait would be looked at in each turn of the loop */
	if (!budget->freed)
		return;
	budget->freed = false;
	dlist_foreach_modify(iter, &budget->waiting)
	{
		DeBudgetClaim *claim = dlist_container(DeBudgetClaim, node, iter.cur);

		if (!de_budget_may_grow(claim))
			continue;
		de_budget_cancel_wait(claim);
		claim->granted(claim->owner);
	}
}
