/*-------------------------------------------------------------------------
 *
 * batch.h
 *		The body that a partition fills and sends, and the offsets in it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_BATCH_H
#define DE_BATCH_H

#include "datatype/timestamp.h"
#include "worker/proxy/definition.h"
#include "worker/proxy/tracker.h"

/* An event that did not fit into a body any more: the first of the next. */
typedef struct DeBatchCarry
{
	bool		filled;
	StringInfoData json;		/* its bytes, encoded; data is NULL until there was one */
	DeCloudEvent event;
	int64		offset;
	TimestampTz timestamp;
} DeBatchCarry;

typedef struct DeBatch
{
	const char *topic;			/* borrowed, for as long as the batch lives */
	int32		partition;
	DeRequest	body;			/* begun with the first event */
	int			nevents;		/* 0 = there is no body */
	int64	   *offsets;		/* [nevents], ascending */
	int			max_offsets;
	TimestampTz oldest;			/* of its first record; 0 = unknown */
	DeBatchCarry carry;
} DeBatch;

extern void de_batch_init(DeBatch *batch, const char *topic, int32 partition);

/*
 * Adds a record, with memory of the current context, which must be the same
 * for each call.  False: it is carried, for a body of its own after this one,
 * because this one would exceed batch_max_bytes by it, or because its offset
 * does not ascend.  Not to be called for a full batch.  Throws out of memory
 * only; the record is no larger than de_record_limit().
 */
extern bool de_batch_append(DeBatch *batch, const DeGroupDefinition *definition,
							const DeRecord *record);

/* Begins a body with the carried event, in the same context; false if there is none. */
extern bool de_batch_take_carried(DeBatch *batch, const DeGroupDefinition *definition);

/* Is it as large as the group wants it, or as it can be? */
extern bool de_batch_full(const DeBatch *batch, const DeGroupDefinition *definition);

/* Memory of the body and of what is carried, in bytes. */
extern Size de_batch_memory(const DeBatch *batch);

/* The offset added last; there is one. */
extern int64 de_batch_last_offset(const DeBatch *batch);

/* All events are processed. */
extern void de_batch_acknowledge(const DeBatch *batch, DeTracker *tracker);

/* Frees the body, not what is carried: of that memory is left until it is taken. */
extern void de_batch_clear(DeBatch *batch);

#endif							/* DE_BATCH_H */
