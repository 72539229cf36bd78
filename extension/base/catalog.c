/*-------------------------------------------------------------------------
 *
 * catalog.c
 *		The extension's own objects: found by name, trusted by membership.
 *
 * Workers act as the bootstrap superuser, and publishers write tables that
 * they have no right to write.  So that a name alone cannot lead either to a
 * table of somebody else's making, with triggers of his, a relation is
 * taken for ours only if
 *
 *		the schema is a member of the extension (as it is from CREATE
 *		EXTENSION on, which fails if the schema exists already), and
 *		the relation is one, and is of the kind it was made as, and
 *		both belong to the owner of the extension or to a superuser.
 *
 * An extension's members change by ALTER EXTENSION only, which is its
 * owner's to do, and only a superuser can create this one.  Should REASSIGN
 * OWNED have given it to somebody less, queries of the workers run with no more
 * than his rights: de_spi_connect().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_namespace.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "extension/base/catalog.h"

/* Why a name is not to be trusted. */
typedef struct CatalogProblem
{
	int			sqlerrcode;
	char	   *message;
	char	   *detail;			/* NULL = none */
	char	   *hint;
} CatalogProblem;

/* the extension whose schema was seen to be right, and that schema; InvalidOid = look again */
static Oid	seen_extension = InvalidOid;
static Oid	seen_schema = InvalidOid;
static uint64 seen_changes = 0;	/* of schemas, so far */

static void catalog_invalidate(Datum arg, int cacheid, uint32 hashvalue);
static bool catalog_find_schema(Oid extension, Oid *schema, CatalogProblem *problem);
static char *catalog_member_schema(Oid extension);
static bool catalog_find_relation(const char *name, char relkind, Oid *relid,
								  CatalogProblem *problem);
static Oid	catalog_extension_owner(Oid extension);
static bool catalog_owner_is_trusted(Oid extension, Oid owner);

/*
 * Syscache callback: some schema was renamed, dropped or given away.
 */
static void
catalog_invalidate(Datum arg, int cacheid, uint32 hashvalue)
{
	seen_extension = InvalidOid;
	seen_changes++;
}

/*
 * Locks the extension; see catalog.h.  Does not wait: a DROP EXTENSION in a
 * long transaction must not hold a worker.
 */
Oid
de_extension_lock(void)
{
	Oid			oid = get_extension_oid(DE_SCHEMA, true);
	Oid			schema;
	LOCKTAG		tag;
	CatalogProblem problem;

	if (!OidIsValid(oid))
		return InvalidOid;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, oid, 0);
	if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return InvalidOid;
	/* it may have been dropped, or made again, until the lock was ours */
	AcceptInvalidationMessages();
	if (get_extension_oid(DE_SCHEMA, true) != oid || !catalog_find_schema(oid, &schema, &problem))
		return InvalidOid;
	return oid;
}

/*
 * What keeps the extension from working; see catalog.h.
 */
const char *
de_extension_problem(const char **hint)
{
	Oid			oid = get_extension_oid(DE_SCHEMA, true);
	Oid			schema;
	CatalogProblem problem;

	if (!OidIsValid(oid))
	{
		*hint = "Create it with CREATE EXTENSION durable_event.";
		return "The extension is not there.";
	}
	if (catalog_find_schema(oid, &schema, &problem))
		return NULL;
	*hint = problem.hint;
	problem.message[0] = pg_toupper((unsigned char) problem.message[0]);
	return psprintf("%s.", problem.message);
}

/*
 * The schema of the extension.  False and the reason if the schema of that name
 * is not its own.
 */
static bool
catalog_find_schema(Oid extension, Oid *schema, CatalogProblem *problem)
{
	static bool registered = false;
	Oid			oid;
	Oid			owner = InvalidOid;
	HeapTuple	tuple;
	uint64		changes;
	char	   *member;

	if (!registered)
	{
		CacheRegisterSyscacheCallback(NAMESPACEOID, catalog_invalidate, (Datum) 0);
		registered = true;
	}
	if (OidIsValid(extension) && seen_extension == extension)
	{
		*schema = seen_schema;
		return true;
	}

	changes = seen_changes;
	memset(problem, 0, sizeof(*problem));
	oid = get_namespace_oid(DE_SCHEMA, true);
	if (!OidIsValid(oid) || getExtensionOfObject(NamespaceRelationId, oid) != extension)
	{
		problem->sqlerrcode = ERRCODE_UNDEFINED_SCHEMA;
		member = catalog_member_schema(extension);
		if (member != NULL)
		{
			problem->message = psprintf("schema \"%s\" of extension %s was renamed to \"%s\"",
										DE_SCHEMA, DE_SCHEMA, member);
			problem->hint = psprintf("Give it back its name: ALTER SCHEMA %s RENAME TO %s.",
									 quote_identifier(member), DE_SCHEMA);
		}
		else
		{
			problem->message = psprintf("schema \"%s\" does not belong to extension %s",
										DE_SCHEMA, DE_SCHEMA);
			problem->hint = psprintf("If it is the one that CREATE EXTENSION made, use ALTER EXTENSION %s ADD SCHEMA %s.",
									 DE_SCHEMA, DE_SCHEMA);
		}
		return false;
	}

	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(oid));
	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
		ReleaseSysCache(tuple);
	}
	if (!catalog_owner_is_trusted(extension, owner))
	{
		problem->sqlerrcode = ERRCODE_INSUFFICIENT_PRIVILEGE;
		problem->message = psprintf("schema \"%s\" belongs to role \"%s\", who is neither a superuser nor the owner of the extension",
									DE_SCHEMA, GetUserNameFromId(owner, true));
		problem->hint = psprintf("Use ALTER SCHEMA %s OWNER TO a superuser.", DE_SCHEMA);
		return false;
	}
	*schema = oid;
	/* not if it has changed while we looked */
	if (changes == seen_changes)
	{
		seen_schema = oid;
		seen_extension = extension;
	}
	return true;
}

/*
 * Name of the schema that is a member of the extension; NULL if none is.
 */
static char *
catalog_member_schema(Oid extension)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	char	   *name = NULL;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, DependReferenceIndexId, true, NULL, 2, keys);
	while (name == NULL && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		if (depend->classid == NamespaceRelationId && depend->deptype == DEPENDENCY_EXTENSION)
			name = get_namespace_name(depend->objid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return name;
}

/*
 * OID of our relation; see catalog.h.
 */
Oid
de_relation_oid(const char *name, char relkind, bool missing_ok)
{
	CatalogProblem problem;
	Oid			relid;

	if (catalog_find_relation(name, relkind, &relid, &problem))
		return relid;
	if (missing_ok)
		return InvalidOid;
	ereport(ERROR,
			(errcode(problem.sqlerrcode),
			 errmsg("%s", problem.message),
			 problem.detail != NULL ? errdetail("%s", problem.detail) : 0,
			 errhint("%s", problem.hint)));
}

/*
 * Looks for a relation of ours; false and the reason if there is none to be trusted.
 */
static bool
catalog_find_relation(const char *name, char relkind, Oid *relid, CatalogProblem *problem)
{
	Oid			extension = get_extension_oid(DE_SCHEMA, true);
	Oid			schema;
	Oid			owner = InvalidOid;
	char		kind = '\0';
	HeapTuple	tuple;

	memset(problem, 0, sizeof(*problem));
	if (!OidIsValid(extension))
	{
		problem->sqlerrcode = ERRCODE_UNDEFINED_TABLE;
		problem->message = psprintf("outbox of %s does not exist in database \"%s\"", DE_SCHEMA,
									get_database_name(MyDatabaseId));
		problem->hint = "The extension was dropped; create it with CREATE EXTENSION durable_event.";
		return false;
	}
	if (!catalog_find_schema(extension, &schema, problem))
		return false;

	*relid = get_relname_relid(name, schema);
	if (!OidIsValid(*relid) || getExtensionOfObject(RelationRelationId, *relid) != extension)
	{
		problem->sqlerrcode = ERRCODE_UNDEFINED_TABLE;
		problem->message = psprintf("\"%s.%s\" of extension %s does not exist", DE_SCHEMA, name,
									DE_SCHEMA);
		problem->detail = "It was dropped, renamed, or taken out of the extension.";
		problem->hint = "Undo that, or make the extension anew by DROP EXTENSION and CREATE EXTENSION, which loses its events.";
		return false;
	}
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(*relid));
	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		kind = ((Form_pg_class) GETSTRUCT(tuple))->relkind;
		ReleaseSysCache(tuple);
	}
	if (kind != relkind)
	{
		problem->sqlerrcode = ERRCODE_WRONG_OBJECT_TYPE;
		problem->message = psprintf("\"%s.%s\" is not the kind of relation that it was made as",
									DE_SCHEMA, name);
		problem->hint = "Make the extension anew by DROP EXTENSION and CREATE EXTENSION, which loses its events.";
		return false;
	}
	if (!catalog_owner_is_trusted(extension, owner))
	{
		problem->sqlerrcode = ERRCODE_INSUFFICIENT_PRIVILEGE;
		problem->message = psprintf("\"%s.%s\" belongs to role \"%s\", who is neither a superuser nor the owner of the extension",
									DE_SCHEMA, name, GetUserNameFromId(owner, true));
		problem->hint = "Use ALTER TABLE ... OWNER TO the owner of the extension.";
		return false;
	}
	return true;
}

/*
 * Owner of the extension; InvalidOid if it is gone.
 */
static Oid
catalog_extension_owner(Oid extension)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	Oid			owner = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return owner;
}

/*
 * May what this role owns be taken for the extension's own?
 */
static bool
catalog_owner_is_trusted(Oid extension, Oid owner)
{
	return OidIsValid(owner) &&
		(superuser_arg(owner) || owner == catalog_extension_owner(extension));
}

/*
 * Throws unless the columns are as they were made; see catalog.h.
 */
void
de_relation_check_columns(Relation rel, int n, const Oid *types)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		fits = desc->natts >= n;

	for (int i = 0; i < n && fits; i++)
		fits = TupleDescAttr(desc, i)->atttypid == types[i] &&
			!TupleDescAttr(desc, i)->attisdropped;
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("\"%s.%s\" does not have the columns that it was made with",
						DE_SCHEMA, RelationGetRelationName(rel)),
				 errhint("Make the extension anew by DROP EXTENSION and CREATE EXTENSION, which loses its events.")));
}

/*
 * OID of an index by one column; see catalog.h.  Not by name: an index may
 * have been dropped, left invalid by REINDEX CONCURRENTLY, or made by somebody
 * on something else under that name.
 */
Oid
de_relation_index(Relation rel, AttrNumber attnum)
{
	Form_pg_attribute column = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
	Oid			collation = column->attcollation;
	Oid			opclass = GetDefaultOpClass(column->atttypid, BTREE_AM_OID);
	List	   *indexes = RelationGetIndexList(rel);
	Oid			result = InvalidOid;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index index;
		HeapTuple	class_tuple;
		bool		fits;

		if (!HeapTupleIsValid(tuple))
			continue;
		index = (Form_pg_index) GETSTRUCT(tuple);
		fits = index->indisvalid && index->indisready && index->indislive &&
			!index->indcheckxmin && index->indnkeyatts == 1 &&
			index->indkey.values[0] == attnum &&
			heap_attisnull(tuple, Anum_pg_index_indpred, NULL);
		class_tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(lfirst_oid(cell)));
		fits = fits && HeapTupleIsValid(class_tuple) &&
			((Form_pg_class) GETSTRUCT(class_tuple))->relam == BTREE_AM_OID;
		if (HeapTupleIsValid(class_tuple))
			ReleaseSysCache(class_tuple);
		if (fits)
		{
			Datum		value;
			bool		isnull;

			value = SysCacheGetAttr(INDEXRELID, tuple, Anum_pg_index_indoption, &isnull);
			fits = ((int2vector *) DatumGetPointer(value))->values[0] == 0;
			value = SysCacheGetAttr(INDEXRELID, tuple, Anum_pg_index_indclass, &isnull);
			fits = fits && ((oidvector *) DatumGetPointer(value))->values[0] == opclass;
			value = SysCacheGetAttr(INDEXRELID, tuple, Anum_pg_index_indcollation, &isnull);
			fits = fits && ((oidvector *) DatumGetPointer(value))->values[0] == collation;
		}
		ReleaseSysCache(tuple);
		if (fits)
		{
			result = lfirst_oid(cell);
			break;
		}
	}
	list_free(indexes);
	return result;
}

/*
 * Locks a relation and what belongs to it; see catalog.h.
 */
bool
de_relation_try_lock(Oid relid, LOCKMODE lockmode)
{
	Relation	rel;
	Oid			toastid;
	List	   *indexes;
	ListCell   *cell;

	if (!ConditionalLockRelationOid(relid, lockmode))
		return false;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		return false;
	toastid = rel->rd_rel->reltoastrelid;
	indexes = RelationGetIndexList(rel);
	relation_close(rel, NoLock);
	foreach(cell, indexes)
	{
		if (!ConditionalLockRelationOid(lfirst_oid(cell), lockmode))
			return false;
	}
	list_free(indexes);
	return !OidIsValid(toastid) || de_relation_try_lock(toastid, lockmode);
}

/*
 * Locks our table of that name; see catalog.h.
 */
bool
de_table_lock_nowait(const char *name, LOCKMODE lockmode, bool locked_ok)
{
	Oid			relid = de_relation_oid(name, RELKIND_RELATION, false);

	for (;;)
	{
		Oid			again;

		CHECK_FOR_INTERRUPTS();
		if (!de_relation_try_lock(relid, lockmode))
		{
			if (locked_ok)
				return false;
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("a lock is held on \"%s.%s\", its TOAST table or an index of theirs",
							DE_SCHEMA, name)));
		}
		/* taking a lock may tell us that the name means another one */
		again = de_relation_oid(name, RELKIND_RELATION, false);
		if (again == relid)
			return true;
		relid = again;
	}
}

/*
 * SPI_connect() as the owner of the extension; see catalog.h.
 */
void
de_spi_connect(DeSpiUser *caller)
{
	const int	restricted = SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION;
	Oid			extension = get_extension_oid(DE_SCHEMA, true);
	Oid			owner = OidIsValid(extension) ? catalog_extension_owner(extension) : InvalidOid;

	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"%s\" does not exist", DE_SCHEMA),
				 errhint("Create it with CREATE EXTENSION %s.", DE_SCHEMA)));
	GetUserIdAndSecContext(&caller->id, &caller->sec_context);
	SetUserIdAndSecContext(owner, caller->sec_context | restricted);
	SPI_connect();
}

/*
 * SPI_finish() and back to the caller's user.
 */
void
de_spi_finish(const DeSpiUser *caller)
{
	SPI_finish();
	SetUserIdAndSecContext(caller->id, caller->sec_context);
}
