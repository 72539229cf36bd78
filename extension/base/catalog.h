/*-------------------------------------------------------------------------
 *
 * catalog.h
 *		The extension's own objects: found by name, trusted by membership.
 *
 * All need a transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_CATALOG_H
#define DE_CATALOG_H

#include "access/attnum.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

#define DE_SCHEMA "durable_event"

/*
 * Locks the extension against being dropped until the end of the transaction;
 * its OID, or InvalidOid if it is absent, is being dropped, or has lost its
 * schema (de_extension_problem() says which).  Never waits for a lock.
 */
extern Oid	de_extension_lock(void);

/*
 * What keeps the extension from working in this database, as a sentence, and
 * what to do about it; NULL = nothing.
 */
extern const char *de_extension_problem(const char **hint);

/*
 * OID of our relation of that name and kind (RELKIND_...).  InvalidOid if it is
 * not there, or is not the extension's, and missing_ok; else throws
 * undefined_table, undefined_schema, wrong_object_type or insufficient_privilege.
 */
extern Oid	de_relation_oid(const char *name, char relkind, bool missing_ok);

/*
 * Throws datatype_mismatch unless the first n columns of our relation have
 * these types, so that they can be read and written by position.  More columns
 * do no harm.
 */
extern void de_relation_check_columns(Relation rel, int n, const Oid *types);

/*
 * OID of the index that finds rows of our relation by this one column: a valid
 * btree, ascending, of all rows.  InvalidOid if there is none.
 */
extern Oid	de_relation_index(Relation rel, AttrNumber attnum);

/*
 * Locks a relation, its TOAST table and the indexes of both until the end of
 * the transaction, without waiting.  False when somebody holds a lock on any of
 * them that conflicts, or it was dropped; what was locked until then stays so.
 */
extern bool de_relation_try_lock(Oid relid, LOCKMODE lockmode);

/*
 * The same for our table of that name, which may then be read by SQL without any
 * wait (or written, as the lock mode says).  If somebody's lock is in the way
 * false if locked_ok, else throws lock_not_available; and what de_relation_oid()
 * throws.
 */
extern bool de_table_lock_nowait(const char *name, LOCKMODE lockmode, bool locked_ok);

/* The user that de_spi_connect() has left. */
typedef struct DeSpiUser
{
	Oid			id;
	int			sec_context;
} DeSpiUser;

/*
 * SPI_connect() and SPI_finish() for queries on our tables, as the owner of
 * the extension, in a security-restricted operation.  An error in between is
 * undone by the abort of the (sub)transaction.
 */
extern void de_spi_connect(DeSpiUser *caller);
extern void de_spi_finish(const DeSpiUser *caller);

#endif							/* DE_CATALOG_H */
