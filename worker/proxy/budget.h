/*-------------------------------------------------------------------------
 *
 * budget.h
 *		Memory that the partitions of all groups share for request bodies.
 *		Pure: it counts, the memory itself is its users'.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_BUDGET_H
#define DE_BUDGET_H

#include "lib/ilist.h"

typedef struct DeBudget
{
	Size		limit;			/* bytes */
	Size		used;
	int			nshares;		/* among whom the reserved half is divided */
	bool		freed;			/* since those that wait were served */
	dlist_head	waiting;		/* of DeBudgetClaim, longest first */
} DeBudget;

/* A group's part of it. */
typedef struct DeBudgetShare
{
	Size		used;			/* bytes */
} DeBudgetShare;

/* A partition's. */
typedef struct DeBudgetClaim
{
	DeBudget   *budget;
	DeBudgetShare *share;
	Size		charged;		/* bytes */
	bool		waiting;
	dlist_node	node;			/* while it waits */
	void (*granted)(void *owner);
	void	   *owner;
} DeBudgetClaim;

extern void de_budget_init(DeBudget *budget);

/* A changed limit, or other shares: those that wait are looked at again. */
extern void de_budget_resize(DeBudget *budget, Size limit, int nshares);

/* "granted" is called by de_budget_serve(), once for each de_budget_wait(). */
extern void de_budget_claim_init(DeBudgetClaim *claim, DeBudget *budget, DeBudgetShare *share,
								 void (*granted)(void *owner), void *owner);

/*
 * May what the claim is for begin or grow?  Half of the budget is free for
 * all, the other is divided among the shares; a share that has nothing may
 * always begin.  So one may go over the limit, by what it adds at once.
 */
extern bool de_budget_may_grow(const DeBudgetClaim *claim);

/* Makes "bytes" what the claim has. */
extern void de_budget_charge(DeBudgetClaim *claim, Size bytes);

/* Waits until it may grow, or no longer. */
extern void de_budget_wait(DeBudgetClaim *claim);
extern void de_budget_cancel_wait(DeBudgetClaim *claim);

/*
 * Serves those that wait, each at most once, the longest first.  "granted" may
 * charge, and end its own claim, but no other's.
 */
extern void de_budget_serve(DeBudget *budget);

#endif							/* DE_BUDGET_H */
