/*-------------------------------------------------------------------------
 *
 * segment.c
 *		The ring of segment tables: where they are, their edges and sizes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "extension/base/compat.h"
#include "extension/outbox/segment.h"

/* where the tables are; InvalidOid = look again */
static Oid	segment_oids[DE_SEGMENTS];
static Oid	segment_index_oids[DE_SEGMENTS];
static bool segment_callback_registered = false;

static void segments_invalidate(Datum arg, Oid relid);
static bool segments_lookup(bool missing_ok);

/*
 * Locks the extension against being dropped until the end of the transaction
 * and returns its OID; InvalidOid if it is not there or is being dropped.
 * Does not wait: a DROP EXTENSION in a long transaction must not hold a worker.
 */
Oid
de_extension_lock(void)
{
	Oid			oid = get_extension_oid("durable_event", true);
	LOCKTAG		tag;

	if (!OidIsValid(oid))
		return InvalidOid;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, oid, 0);
	if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return InvalidOid;
	/* it may have been dropped, or made again, until the lock was ours */
	AcceptInvalidationMessages();
	if (get_extension_oid("durable_event", true) != oid || !segments_lookup(true))
		return InvalidOid;
	return oid;
}

/*
 * Relcache callback: forgets the segments' OIDs, which may have been dropped.
 * Emptying a segment comes here too: the next use looks them up again.
 */
static void
segments_invalidate(Datum arg, Oid relid)
{
	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		if (relid == InvalidOid || relid == segment_oids[i] || relid == segment_index_oids[i])
			segment_oids[i] = InvalidOid;
	}
}

/*
 * Makes sure that the OIDs of all segments are known.  Returns false, or
 * throws undefined_table, if the extension is not there.
 */
static bool
segments_lookup(bool missing_ok)
{
	Oid			schema = InvalidOid;

	if (!segment_callback_registered)
	{
		CacheRegisterRelcacheCallback(segments_invalidate, (Datum) 0);
		segment_callback_registered = true;
	}
	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		char		name[NAMEDATALEN];
		Oid			relid;
		Oid			indexid;

		if (OidIsValid(segment_oids[i]))
			continue;
		if (!OidIsValid(schema))
			schema = get_namespace_oid("durable_event", true);
		snprintf(name, sizeof(name), "outbox_%d", i);
		relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
		snprintf(name, sizeof(name), "outbox_%d_id_idx", i);
		indexid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
		if (!OidIsValid(relid) || !OidIsValid(indexid))
		{
			if (missing_ok)
				return false;
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("outbox of durable_event does not exist in database \"%s\"",
							get_database_name(MyDatabaseId)),
					 errhint("The extension was dropped; create it with CREATE EXTENSION durable_event.")));
		}
		segment_index_oids[i] = indexid;
		segment_oids[i] = relid;
	}
	return true;
}

/*
 * Opens a segment with a lock; throws undefined_table if it was dropped.
 */
Relation
de_segment_open(int segment, LOCKMODE lockmode)
{
	Relation	rel = NULL;

	/* taking the lock may tell us that the OID is no longer right: look again */
	while (rel == NULL)
	{
		segments_lookup(false);
		if (OidIsValid(segment_oids[segment]))
			rel = try_table_open(segment_oids[segment], lockmode);
		/* invalidated while we waited: its index may be another one by now */
		if (rel != NULL && segment_oids[segment] != RelationGetRelid(rel))
		{
			table_close(rel, lockmode);
			rel = NULL;
		}
	}
	return rel;
}

/*
 * OID of a segment's index on id; see segment.h.
 */
Oid
de_segment_index(int segment)
{
	return segment_index_oids[segment];
}

/*
 * The first or last id of a segment and when its event was made, counting
 * rows dead or alive (a dead one's id was drawn too); 0 if it has none.
 */
int64
de_segment_edge(Relation rel, Relation index, ScanDirection direction, TimestampTz *created_at)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = de_compat_index_beginscan(rel, index, SnapshotAny, 0);
	int64		id = 0;

	index_rescan(scan, NULL, 0, NULL, 0);
	if (index_getnext_slot(scan, direction, slot))
	{
		bool		isnull;

		id = DatumGetInt64(slot_getattr(slot, ATTR_ID, &isnull));
		*created_at = DatumGetTimestampTz(slot_getattr(slot, ATTR_CREATED_AT, &isnull));
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return id;
}

/*
 * The largest id in any segment and the segment that has it; 0 and segment 0
 * if all are empty.
 */
int64
de_outbox_largest_id(int *segment)
{
	int64		largest = 0;

	*segment = 0;
	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		Relation	rel = de_segment_open(i, AccessShareLock);
		Relation	index = index_open(de_segment_index(i), AccessShareLock);
		TimestampTz created_at;
		int64		id = de_segment_edge(rel, index, BackwardScanDirection, &created_at);

		if (id > largest)
		{
			largest = id;
			*segment = i;
		}
		index_close(index, AccessShareLock);
		table_close(rel, AccessShareLock);
	}
	return largest;
}

/*
 * Bytes on disk of a segment; see segment.h.
 */
int64
de_segment_bytes(Relation rel)
{
	int64		blocks = RelationGetNumberOfBlocks(rel);

	if (OidIsValid(rel->rd_rel->reltoastrelid))
	{
		Relation	toast = table_open(rel->rd_rel->reltoastrelid, AccessShareLock);

		blocks += RelationGetNumberOfBlocks(toast);
		table_close(toast, AccessShareLock);
	}
	return blocks * BLCKSZ;
}

/*
 * Bytes on disk of all segments with their TOAST tables, without their indexes.
 */
int64
de_outbox_size(void)
{
	int64		size = 0;

	for (int i = 0; i < DE_SEGMENTS; i++)
	{
		Relation	rel = de_segment_open(i, AccessShareLock);

		size += de_segment_bytes(rel);
		table_close(rel, AccessShareLock);
	}
	return size;
}
