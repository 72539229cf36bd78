# server.sh: what test/demo/run and test/bench/run share (bash, to be sourced).
#
# A scratch directory, a temporary server in it, programs beside it, and their end.
#
# The extension is installed (make install, with DESTDIR) into a private copy of PostgreSQL's
# directories, mostly symbolic links, in the scratch directory: it needs no root, and an
# installed durable_event of yours stays as it is.  A server finds its directories relative to
# its own program, so the copy works.
#
# As root, everything but the compiler runs as the user postgres or nobody, which need not be
# able to read where this source tree is; that is why programs are copied to the scratch
# directory before they are started.
#
# Needs $repository, the absolute path of the source tree.  Everything is ended, by pid, in
# clean_up(), which the caller makes a trap.

scratch=
user_command=(env)
program_pids=()				# of programs that stay
running_pid=				# of what we wait for
server_started=no

say()
{
	printf '%s\n' "$*"
}

fail()
{
	printf '\n%s\n' "$*" >&2
	exit 1
}

# Fails with the end of a log.
fail_with_log()
{
	printf '\n%s\n' "$1" >&2
	[ ! -s "$2" ] || tail -n 15 "$2" >&2
	exit 1
}

# make_scratch NAME: the directory, and whom the server runs as
make_scratch()
{
	local user=${USER:-}

	scratch=$(mktemp -d "${TMPDIR:-/tmp}/durable_event_$1.XXXXXX")
	# a socket's path must not be longer than about 100 bytes
	[ ${#scratch} -lt 80 ] ||
		fail "The path $scratch is too long for a socket; set TMPDIR to a shorter one."
	if [ "$(id -u)" -eq 0 ]
	then
		user=postgres
		id "$user" >/dev/null 2>&1 || user=nobody
		user_command=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups
			env "HOME=$scratch" "USER=$user" "LOGNAME=$user")
		chown "$user" "$scratch"
	fi
	chmod 755 "$scratch"
	"${user_command[@]}" test -w "$scratch" ||
		fail "The user $user cannot reach $scratch; set TMPDIR to a directory that all may enter."
	cd "$scratch"
	# another server of the caller's is not meant
	unset "${!PG@}"
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
# standard output and leaves the value in $answer
start_program()
{
	local name=$1 word=$2 pid tries=0

	shift 2
	# there before the child opens it
	: >"$scratch/$name.out"
	"${user_command[@]}" "$@" >"$scratch/$name.out" 2>"$scratch/$name.err" <&- &
	pid=$!
	program_pids+=("$pid")
	until answer=$(sed -n "s/^$word //p" "$scratch/$name.out") && [ -n "$answer" ]
	do
		kill -0 "$pid" 2>/dev/null || fail_with_log "The $name did not start." "$scratch/$name.err"
		tries=$((tries + 1))
		[ "$tries" -lt 200 ] || fail_with_log "The $name did not answer within 10 s." "$scratch/$name.err"
		sleep 0.05
	done
}

# build: the extension, out of a copy of its sources, and "make install" into the private copy
# of PostgreSQL.  (Not out of tree: make would find what was built in the tree for another
# PostgreSQL.)
build()
{
	local pg_config directory program

	pg_config=$("$repository/test/pg-config")
	bindir=$("$pg_config" --bindir)
	mkdir "$scratch/build" "$scratch/root"
	(cd "$repository" && find Makefile *.control extension worker test/broker/*.c test/kafka/*.c \
		-name '*.[ch]' -o -name '*.sql' -o -name '*.control' -o -name Makefile |
		tar -cf - -T -) | tar -xf - -C "$scratch/build"
	# the options of a make that called us may forbid to build, and its jobserver is not ours
	unset MAKEFLAGS MFLAGS MAKELEVEL
	run make -C "$scratch/build" -j "$(nproc)" PG_CONFIG="$pg_config" with_llvm=no all broker \
		>"$scratch/build.log" 2>&1 ||
		fail_with_log "The extension could not be built:" "$scratch/build.log"

	for directory in "$bindir" "$("$pg_config" --sharedir)" "$("$pg_config" --pkglibdir)"
	do
		mkdir -p "$scratch/root$directory"
		cp -as "$directory/." "$scratch/root$directory/"
	done
	# programs look where they are, through symbolic links
	for program in postgres initdb pg_ctl
	do
		rm -f "$scratch/root$bindir/$program"
		cp "$(readlink -f "$bindir/$program")" "$scratch/root$bindir/$program"
	done
	find "$scratch/root" -name 'durable_event*' -delete
	run make -C "$scratch/build" PG_CONFIG="$pg_config" with_llvm=no DESTDIR="$scratch/root" \
		install >>"$scratch/build.log" 2>&1 ||
		fail_with_log "The extension could not be installed:" "$scratch/build.log"
	server_bin=$scratch/root$bindir
	PATH=$bindir:$PATH
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
	server_started=yes
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

# Ends all that was started and removes the scratch directory.
clean_up()
{
	local pid

	trap '' INT TERM HUP
	set +e
	[ -z "$running_pid" ] || end_child "$running_pid"
	if [ "$server_started" = yes ] && [ -f "$scratch/data/postmaster.pid" ]
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
	for pid in "${program_pids[@]}"
	do
		end_child "$pid"
	done
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
