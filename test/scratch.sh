# scratch.sh: a directory of its own for a script, and whom it works for (bash, to be sourced).
#
# PostgreSQL refuses root.  As root everything but compilers runs as the user postgres or nobody,
# who need not be able to read where this source tree is: what he needs is copied to the directory.

scratch=				# the directory, once there is one
user_command=(env)		# runs a command as the user

say()
{
	printf '%s\n' "$*"
}

fail()
{
	printf '\n%s\n' "$*" >&2
	exit 1
}

as_user()
{
	"${user_command[@]}" "$@"
}

# make_scratch NAME: makes the directory and enters it
make_scratch()
{
	scratch=$(mktemp -d "${TMPDIR:-/tmp}/durable_event_$1.XXXXXX")
	# a socket's path must not be longer than about 100 bytes
	[ ${#scratch} -lt 80 ] ||
		fail "The path $scratch is too long for a socket; set TMPDIR to a shorter one."
	mkdir "$scratch/home"
	if [ "$(id -u)" -eq 0 ]
	then
		user=postgres
		id "$user" >/dev/null 2>&1 || user=nobody
		user_command=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups
			env "HOME=$scratch/home" "USER=$user" "LOGNAME=$user")
		give_scratch
	fi
	chmod 755 "$scratch"
	as_user test -w "$scratch" ||
		fail "The user ${user:-$(id -un)} cannot reach $scratch; set TMPDIR to a directory that all may enter."
	cd "$scratch"

	# Another server of the caller's is not meant (but which PostgreSQL to take: test/pg-config); the
	# options of a make that called us may forbid to build, and its jobserver is not ours.
	for variable in "${!PG@}"
	do
		case $variable in
			PG_CONFIG | PG_MAJOR) ;;
			*) unset "$variable" ;;
		esac
	done
	unset variable MAKEFLAGS MFLAGS MAKELEVEL CDPATH
}

# Gives the directory, with what root has put there, to the user.
give_scratch()
{
	[ "$(id -u)" -ne 0 ] || chown -R "$user" "$scratch"
}
