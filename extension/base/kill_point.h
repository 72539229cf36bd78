/*-------------------------------------------------------------------------
 *
 * kill_point.h
 *		Places with a name at which a test makes a process fail or wait.
 *
 * Only a build with -DDE_KILL_POINTS has them (test/run makes one); in any
 * other they are no code at all.  test/README.md says how a test arms one.
 * A name stands at one place: the process, then the step that was just taken.
 *
 *		DE_KILL_POINT("relay-after-read");
 *			The process may die here, throw, or wait to be released.
 *
 *		if (DE_FAULT_POINT("pending-write") || FileWrite(...) != size)
 *			The same, or it is true, with errno ENOSPC: the call is to fail
 *			without being made.
 *
 * Not in a loop over rows: each pass of a test build asks the file system.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_KILL_POINT_H
#define DE_KILL_POINT_H

#if defined(DE_KILL_POINTS) && !defined(FRONTEND)
extern bool de_kill_point(const char *name);
#define DE_KILL_POINT(name) ((void) de_kill_point(name))
#define DE_FAULT_POINT(name) de_kill_point(name)
#else
#define DE_KILL_POINT(name) ((void) 0)
#define DE_FAULT_POINT(name) false
#endif

#endif							/* DE_KILL_POINT_H */
