/*
 * Memory that partitions share for request bodies: who may have more of it,
 * who waits, in which order those that wait are served.
 *
 * links: worker/proxy/budget.c
 */
#include "postgres.h"

#include "tap.h"
#include "worker/proxy/budget.h"

static DeBudget budget;
static DeBudgetShare shares[3];
static DeBudgetClaim claims[4];
static char order[16];

static void
granted(void *owner)
{
	DeBudgetClaim *claim = owner;

	order[strlen(order)] = (char) ('0' + (claim - claims));
	de_budget_charge(claim, 30);
}

int
main(void)
{
	/* claims 0 and 3 are of share 0 */
	const int	share_of[] = {0, 1, 2, 0};

	de_budget_init(&budget);
	de_budget_resize(&budget, 120, 3);
	for (int i = 0; i < 4; i++)
		de_budget_claim_init(&claims[i], &budget, &shares[share_of[i]], granted, &claims[i]);

	ok(de_budget_may_grow(&claims[0]), "anybody may begin");
	de_budget_charge(&claims[0], 50);
	ok(de_budget_may_grow(&claims[3]), "half of it is free for all");
	de_budget_charge(&claims[0], 60);
	ok(!de_budget_may_grow(&claims[0]) && !de_budget_may_grow(&claims[3]),
	   "but not more, to one that has its share");
	ok(de_budget_may_grow(&claims[1]), "another may begin");
	de_budget_charge(&claims[1], 19);
	ok(de_budget_may_grow(&claims[1]), "and have its share of the other half");
	de_budget_charge(&claims[1], 20);
	ok(!de_budget_may_grow(&claims[1]), "and no more");
	ok(budget.used == 80 && shares[0].used == 60 && shares[1].used == 20, "all is counted");

	de_budget_wait(&claims[3]);
	de_budget_wait(&claims[1]);
	de_budget_wait(&claims[1]);
	budget.freed = false;
	de_budget_serve(&budget);
	ok(strcmp(order, "") == 0, "nobody is looked at while nothing is freed");
	de_budget_charge(&claims[1], 0);
	de_budget_serve(&budget);
	ok(strcmp(order, "1") == 0, "who may not grow is passed over");
	de_budget_charge(&claims[0], 0);
	de_budget_serve(&budget);
	ok(strcmp(order, "13") == 0, "and served when he may");
	de_budget_charge(&claims[3], 0);
	de_budget_serve(&budget);
	ok(strcmp(order, "13") == 0, "once for each wait");

	de_budget_wait(&claims[2]);
	de_budget_cancel_wait(&claims[2]);
	de_budget_cancel_wait(&claims[2]);
	de_budget_resize(&budget, 1000, 1);
	de_budget_serve(&budget);
	ok(strcmp(order, "13") == 0, "who waits no longer is not served");

	de_budget_resize(&budget, 40, 1);
	ok(!de_budget_may_grow(&claims[1]) && de_budget_may_grow(&claims[2]),
	   "a lower limit counts at once");
	return tap_done();
}
