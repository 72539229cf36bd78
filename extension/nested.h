/*-------------------------------------------------------------------------
 *
 * nested.h
 *		Rows that are changed while another statement on their table is in
 *		progress: their events come behind that statement's.
 *
 * Streams belong to the top transaction, as the one they go into.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_NESTED_H
#define DE_NESTED_H

#include "commands/trigger.h"

#include "extension/pending.h"

/*
 * Installs the hooks; from _PG_init only.  "ended" is called when a statement
 * has ended, of any kind, with its triggers: with what names it here, or NULL.
 */
typedef void (*DeStatementEnded)(const void *statement);
extern void de_nested_init(DeStatementEnded ended);

/*
 * Where the event of the row trigger that fires now goes: a stream that
 * lasts until the statement that it waits for has ended, or NULL, the
 * transaction's own.
 */
extern DePending *de_nested_stream(TriggerData *data);

/* Events that wait, and their bytes. */
extern uint64 de_nested_count(void);
extern uint64 de_nested_bytes(void);

/*
 * The statement has ended (a QueryDesc, say): gives what waited for it to the
 * stream, or lets it wait for a statement further out.  Throws when an event
 * cannot be stored, and then the statement has failed.
 */
extern void de_nested_end(const void *statement, DePending *pending);

/*
 * Gives all that waits to the stream: the transaction ends.  Throws when one
 * cannot be stored.
 */
extern void de_nested_end_all(DePending *pending);

/* A subtransaction of that level aborts, or commits.  Never throws. */
extern void de_nested_abort_level(int nest_level);
extern void de_nested_commit_level(int nest_level);

/* Forgets all; memory and files go with the transaction. */
extern void de_nested_forget(void);

/* Closes the files, before the resource owner finds them open and warns of a leak. */
extern void de_nested_close(void);

#endif							/* DE_NESTED_H */
