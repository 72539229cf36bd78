# server.sh: what demo, playground and bench share (bash, to be sourced).
#
# A scratch directory (scratch.sh), a temporary server in it, programs beside it, and their end.
# The server is a private copy of PostgreSQL with the extension (private-install): it needs no
# root, and an installed durable_event of yours stays as it is.
#
# Needs $repository, the absolute path of the source tree.  Everything is ended, by pid, in
# clean_up(), for which set_traps() is called first and start_guard() after build().

# shellcheck source=test/scratch.sh
. "$repository/test/scratch.sh"

running_pid=				# of what we wait for
guard_pid=

# Fails with the end of a log.
fail_with_log()
{
	printf '\n%s\n' "$1" >&2
	[ ! -s "$2" ] || tail -n 15 "$2" >&2
	exit 1
}

# run COMMAND...: in the background and waited for, so that a signal is acted upon at once
run()
{
	local status=0

	"$@" &
	running_pid=$!
	wait "$running_pid" || status=$?
	running_pid=
	return "$status"
}

# start_program NAME WORD COMMAND...: as the server's user; waits for a line "WORD value" on its
# standard output and leaves the value in $answer.  In a session of its own: a Ctrl-C is for us.
start_program()
{
	local name=$1 word=$2 pid tries=0

	shift 2
	# there before the child opens it
	: >"$scratch/$name.out"
	setsid "${user_command[@]}" "$@" >"$scratch/$name.out" 2>"$scratch/$name.err" <&- &
	pid=$!
	echo "$pid" >>"$scratch/pids"
	until answer=$(sed -n "s/^$word //p" "$scratch/$name.out") && [ -n "$answer" ]
	do
		kill -0 "$pid" 2>/dev/null || fail_with_log "The $name did not start." "$scratch/$name.err"
		tries=$((tries + 1))
		[ "$tries" -lt 200 ] || fail_with_log "The $name did not answer within 10 s." "$scratch/$name.err"
		sleep 0.05
	done
}

# build: the extension, out of a copy of its sources, into a private copy of PostgreSQL.  (Not out
# of tree: make would find what was built in the tree for another PostgreSQL.)
build()
{
	local pg_config

	pg_config=$("$repository/test/pg-config")
	mkdir "$scratch/build"
	(cd "$repository" && find Makefile *.control extension worker test/broker/*.c test/clock/*.c test/kafka/*.c \
		test/private-install test/pg-config \
		-name '*.[ch]' -o -name '*.sql' -o -name '*.control' -o -name Makefile -o -path 'test/p*' |
		tar -cf - -T -) | tar -xf - -C "$scratch/build"
	run make -C "$scratch/build" -j "$(nproc)" PG_CONFIG="$pg_config" with_llvm=no all \
		test-programs >"$scratch/build.log" 2>&1 ||
		fail_with_log "The extension could not be built:" "$scratch/build.log"
	cd "$scratch/build"
	PG_CONFIG=$pg_config run test/private-install "$scratch/root" \
		>"$scratch/install.out" 2>"$scratch/build.log" ||
		fail_with_log "The extension could not be installed:" "$scratch/build.log"
	cd "$scratch"
	server_bin=$(dirname "$(cat "$scratch/install.out")")
	PATH=$server_bin:$PATH
}

# start_server DATABASE: settings come on standard input
start_server()
{
	run "${user_command[@]}" "$server_bin/initdb" -D "$scratch/data" --no-sync -A trust -U postgres \
		-E UTF8 --locale=C >"$scratch/initdb.log" 2>&1 ||
		fail_with_log "initdb failed:" "$scratch/initdb.log"
	{
		# a socket in the scratch directory only: no port of this machine is taken
		printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$scratch'" \
			"shared_preload_libraries = 'durable_event'"
		cat
	} >>"$scratch/data/postgresql.conf"
	run "${user_command[@]}" "$server_bin/pg_ctl" -D "$scratch/data" -l "$scratch/server.log" \
		-w -t 30 start >"$scratch/pg_ctl.log" 2>&1 </dev/null ||
		fail_with_log "The server did not start:" "$scratch/server.log"
	export PGHOST=$scratch PGUSER=postgres PGDATABASE=$1
	run "${user_command[@]}" psql -X -q -d postgres -c "CREATE DATABASE $1"
}

# psql_do ARGUMENT...: psql that stops at the first error and prints bare values
psql_do()
{
	"${user_command[@]}" psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

# await SECONDS QUERY: until the query answers t; fails when it does not in time
await()
{
	local deadline=$((SECONDS + $1))

	until [ "$(psql_do -c "$2")" = t ]
	do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep 0.1
	done
}

# Ends a child: politely, after 5 s not.
end_child()
{
	local tries=0

	kill "$1" 2>/dev/null
	while kill -0 "$1" 2>/dev/null && [ "$tries" -lt 50 ]
	do
		tries=$((tries + 1))
		sleep 0.1
	done
	kill -9 "$1" 2>/dev/null
	wait "$1" 2>/dev/null
}

# Ends all that was started and removes the scratch directory.  What there is stands in files: the
# guard does this too.
clean_up()
{
	local pid

	trap '' INT TERM HUP
	set +e
	[ -z "$guard_pid" ] || kill "$guard_pid" 2>/dev/null
	[ -z "$running_pid" ] || end_child "$running_pid"
	if [ -n "$scratch" ] && [ -f "$scratch/data/postmaster.pid" ]
	then
		for mode in fast immediate
		do
			"${user_command[@]}" "$server_bin/pg_ctl" -D "$scratch/data" -m "$mode" -w -t 15 stop \
				>/dev/null 2>&1 && break
		done
	fi
	if declare -F extra_clean_up >/dev/null
	then
		extra_clean_up
	fi
	if [ -n "$scratch" ] && [ -f "$scratch/pids" ]
	then
		while read -r pid
		do
			end_child "$pid"
		done <"$scratch/pids"
	fi
	cd /
	[ -z "$scratch" ] || rm -rf "$scratch"
}

# The traps; as early as possible.
set_traps()
{
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap 'exit 129' HUP
}

# From here on somebody cleans up even if this script is killed with -9.
start_guard()
{
	(
		trap '' INT HUP
		trap - TERM EXIT
		exec >/dev/null 2>&1 </dev/null
		while kill -0 "$$"
		do
			sleep 0.5
		done
		guard_pid=
		clean_up
	) &
	guard_pid=$!
}
