# durable_event.gdb: what is in shared memory, for gdb on a process of a server with a "make debug"
# library, or on its core.
#
#	gdb -x test/debug/durable_event.gdb -p PID		then: de_databases, de_groups, de_in_flight

set print pretty on
set pagination off
# the latch and the workers' signals are everyday life, no reason to stop
handle SIGURG SIGUSR1 SIGUSR2 SIGHUP SIGALRM nostop noprint pass

define de_databases
	set $de_i = 0
	while $de_i < de_shared->max_databases
		set $de_db = &de_shared->databases[$de_i]
		if $de_db->dboid != 0
			printf "database %u: relay pid %u, asleep %u, ids ready %u, segment %u\n", \
				$de_db->dboid, $de_db->relay.pid.value, $de_db->relay_asleep.value, \
				$de_db->ids_ready.value, $de_db->current_segment.value
			printf "  drawn %lu, read %lu, acknowledged %lu, stored %lu, commit LSN %lx\n", \
				$de_db->last_drawn.value, $de_db->read_id.value, $de_db->acked_id.value, \
				$de_db->stored_id.value, $de_db->commit_lsn.value
			printf "  last error: %s\n", $de_db->relay_error.text
		end
		set $de_i = $de_i + 1
	end
end
document de_databases
What is known of each database: its relay, ids and progress.
end

define de_groups
	set $de_i = 0
	while $de_i < de_shared->max_groups
		set $de_group = &de_shared->groups[$de_i]
		if $de_group->dboid != 0
			printf "group %s of database %u: pid %d, ", $de_group->name, $de_group->dboid, \
				$de_group->pid
			output $de_group->state
			printf ", partitions %d, position %ld, lag %ld, in flight %ld\n  last error: %s\n", \
				$de_group->partitions, $de_group->position, $de_group->lag, \
				$de_group->in_flight, $de_group->error.text
		end
		set $de_i = $de_i + 1
	end
end
document de_groups
What the proxies of this server report about each consumer group.
end

define de_in_flight
	set $de_i = 0
	while $de_i < MaxBackends
		set $de_cell = &de_shared->backends[$de_i].c
		if $de_cell->bound.value != (unsigned long) -1
			printf "backend %d: committing in database %u, its ids are above %lu\n", \
				$de_i, $de_cell->dboid.value, $de_cell->bound.value
		end
		if $de_cell->held_dboid.value != 0
			printf "backend %d: its DDL holds database %u\n", $de_i, $de_cell->held_dboid.value
		end
		set $de_i = $de_i + 1
	end
end
document de_in_flight
Marks that hold the horizon, and databases that DDL holds.
end
