/*-------------------------------------------------------------------------
 *
 * answer.h
 *		The answer of the delivery protocol (docs/reference.md, "Delivery"): what
 *		a handler's words mean for the events it was sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_ANSWER_H
#define DE_ANSWER_H

#include "worker/http/result.h"

typedef enum DeVerdict
{
	DE_VERDICT_ACKNOWLEDGED,	/* all processed: advance */
	DE_VERDICT_RETRY			/* the whole batch again, after backoff */
} DeVerdict;

/*
 * Reads an answer; for RETRY the reason (for last_error; printable ASCII) goes
 * into reason.  Never throws, whatever the answer.
 */
extern DeVerdict de_answer_read(const DeHttpResult *result, char *reason, int reason_size);

#endif							/* DE_ANSWER_H */
