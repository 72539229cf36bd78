/*-------------------------------------------------------------------------
 *
 * kill_point.c
 *		What happens at a kill point that a test has armed.
 *
 * A point is armed by a file of its name in the folder DE_KILL_POINT_DIR of
 * the data directory, which is where every process of a server is.  A setting
 * or shared memory would not do: the one would kill each successor at the same
 * point too, the other is gone with the crash that it has caused.  The file's
 * text is
 *
 *		ACTION [after=N] [pid=P]
 *
 *		kill	SIGKILL to the process itself
 *		error	ERROR
 *		hold	waits until the file NAME.held, which it makes, is gone; every
 *				10 ms it looks, and serves interrupts if they may be served
 *		fail	true, for DE_FAULT_POINT
 *
 * after=N lets N passes go by, pid=P lets pass all processes but that one.
 * Whoever comes upon it removes the file before it acts: one process, once,
 * and the test sees by the file's absence that the point was reached.
 *
 * Everything but "error" may also be armed at points that a library's thread
 * reaches: nothing else calls into the server, and memory is the stack's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#ifdef DE_KILL_POINTS

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"

#include "extension/base/kill_point.h"

#define DE_KILL_POINT_DIR "durable_event_kill_points"

static bool kill_point_take(const char *path, char *action);
static void kill_point_hold(const char *path);

/*
 * Does what the test has armed this point for, if it has; true if the call at
 * this point is to fail.
 */
bool
de_kill_point(const char *name)
{
	char		path[MAXPGPATH];
	char		action[16];

	snprintf(path, sizeof(path), DE_KILL_POINT_DIR "/%s", name);
	if (!kill_point_take(path, action))
		return false;
	if (strcmp(action, "kill") == 0)
		kill(getpid(), SIGKILL);
	else if (strcmp(action, "error") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("kill point \"%s\"", name)));
	else if (strcmp(action, "hold") == 0)
		kill_point_hold(path);
	else if (strcmp(action, "fail") == 0)
	{
		errno = ENOSPC;
		return true;
	}
	return false;
}

/*
 * Is the point armed for this process, and this the pass that counts?  Then
 * its file is removed, by whoever comes first.
 */
static bool
kill_point_take(const char *path, char *action)
{
	char		text[64];
	char		rest[MAXPGPATH];
	const char *option;
	int			after = 0;
	int			pid = 0;
	int			fd = open(path, O_RDONLY);
	ssize_t		len;

	if (fd < 0)
		return false;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len <= 0)
		return false;
	text[len] = '\0';
	if (sscanf(text, "%15s", action) != 1)
		return false;
	if ((option = strstr(text, "pid=")) != NULL)
		pid = atoi(option + strlen("pid="));
	if ((option = strstr(text, "after=")) != NULL)
		after = atoi(option + strlen("after="));
	if (pid != 0 && pid != (int) getpid())
		return false;
	if (after == 0)
		return unlink(path) == 0;

	/* one pass less, in one step: others read it meanwhile */
	snprintf(rest, sizeof(rest), "%s.%d", path, (int) getpid());
	len = snprintf(text, sizeof(text), "%s after=%d", action, after - 1);
	if (pid != 0)
		len += snprintf(text + len, sizeof(text) - len, " pid=%d", pid);
	fd = open(rest, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd >= 0)
	{
		if (write(fd, text, len) != len || rename(rest, path) != 0)
			unlink(rest);
		close(fd);
	}
	return false;
}

/*
 * Waits until the test has removed the file that says that we wait.
 */
static void
kill_point_hold(const char *path)
{
	char		held[MAXPGPATH];
	int			fd;

	snprintf(held, sizeof(held), "%s.held", path);
	fd = open(held, O_WRONLY | O_CREAT, 0600);
	if (fd < 0)
		return;
	close(fd);
	while (access(held, F_OK) == 0)
	{
		pg_usleep(10000);
		CHECK_FOR_INTERRUPTS();
	}
}

#endif							/* DE_KILL_POINTS */
