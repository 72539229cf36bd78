/*-------------------------------------------------------------------------
 *
 * progress.c
 *		Stored progress: where a restarted relay begins.
 *
 * A sequence because setval changes it in place: written a few times a second
 * for years under a pinned xmin, a table's row would leave a dead version each
 * time.  It is WAL-logged, so it comes along at a failover, and a pg_dump does
 * not take it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"

#include "extension/base/catalog.h"
#include "extension/outbox/progress.h"

/*
 * Reads the sequence's tuple as it stands: without a snapshot, which a
 * sequence does not heed, and without asking for rights, since publishers come
 * here when they derive the id counter.
 */
int64
de_progress_load(void)
{
	Oid			relid = de_relation_oid("relay_progress", RELKIND_SEQUENCE, false);
	Relation	rel = relation_open(relid, AccessShareLock);
	Buffer		buffer = ReadBuffer(rel, 0);
	Page		page;
	HeapTupleHeader tuple;
	int64		id;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	tuple = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	id = ((Form_pg_sequence_data) ((char *) tuple + tuple->t_hoff))->last_value;
	UnlockReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
	return id;
}

/*
 * Stores progress; see progress.h.
 */
void
de_progress_store(int64 id)
{
	Oid			relid = de_relation_oid("relay_progress", RELKIND_SEQUENCE, false);

	/* setval() would wait for it */
	if (!ConditionalLockRelationOid(relid, RowExclusiveLock))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("a lock is held on sequence \"%s.relay_progress\"", DE_SCHEMA)));
	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(relid), Int64GetDatum(id));
}
