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

typedef struct DeBatch
{
	MemoryContext context;		/* of body and offsets */
	DeRequest	body;		/* begun with the first event */
	int			nevents;		/* 0 = there is no body */
	int64	   *offsets;		/* [nevents] */
	int			max_offsets;
	TimestampTz oldest;			/* of its first record; 0 = unknown */
} DeBatch;

extern void de_batch_init(DeBatch *batch, MemoryContext parent);

/* Adds a record.  Throws out of memory only. */
extern void de_batch_append(DeBatch *batch, const DeGroupDefinition *definition,
							const DeRecord *record);

/* Is it as large as the group wants it? */
extern bool de_batch_full(const DeBatch *batch, const DeGroupDefinition *definition);

/* Memory that it takes, in bytes. */
extern Size de_batch_memory(const DeBatch *batch);

/* All events are processed. */
extern void de_batch_acknowledge(const DeBatch *batch, DeTracker *tracker);

/* Frees the body. */
extern void de_batch_clear(DeBatch *batch);

#endif							/* DE_BATCH_H */
