"""Measures the rows of test/bench/run, which starts this in its scratch directory.

Each comparison runs its sides in turn, in the opposite order every other round, and takes the
ratio of each round: what else the machine does then meets both.  Shown are medians, with the
smallest and the largest.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time

PAYLOAD = '{"pad": "' + "x" * 189 + '"}'    # 200 bytes, as jsonb prints it
SETTLE_SECONDS = 0.5

parser = argparse.ArgumentParser()
parser.add_argument("--broker", required=True)
parser.add_argument("--handler", required=True)
parser.add_argument("--rounds", type=int, required=True)
parser.add_argument("--seconds", type=int, required=True)
parser.add_argument("--events", type=int, required=True)
parser.add_argument("rows", nargs="*")
options = parser.parse_args()
rows = options.rows or ["small", "bulk", "commit", "drain", "latency"]


def psql(*commands):
    """Runs the commands in one session, each in its own transaction; the lines of output."""
    arguments = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
    for command in commands:
        arguments += ["-c", command]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"psql: {done.stderr}")
    return done.stdout.split("\n")[:-1]


def timed(command):
    """Seconds of a statement, with its commit."""
    clock = "SELECT extract(epoch FROM clock_timestamp())"
    lines = psql(clock, command, clock)
    return float(lines[-1]) - float(lines[0])


def await_true(seconds, query):
    deadline = time.monotonic() + seconds
    while psql(query) != ["t"]:
        if time.monotonic() > deadline:
            sys.exit(f"not in time: {query}\n" + "\n".join(psql(
                "SELECT state, last_error FROM durable_event.stat_relay",
                "SELECT group_name, state, last_error FROM durable_event.stat_group")))
        time.sleep(0.1)


def pause():
    psql("SELECT durable_event.pause_relay()")
    await_true(10, "SELECT state = 'paused' FROM durable_event.stat_relay")


def drain():
    """Lets the relay go on until all is in Kafka; seconds."""
    lines = psql("SELECT extract(epoch FROM clock_timestamp())",
                 "SELECT durable_event.resume_relay()",
                 "SELECT durable_event.flush('5 min')",
                 "SELECT extract(epoch FROM clock_timestamp())")
    if lines[2] != "t":
        sys.exit("the relay did not drain its backlog within 5 minutes")
    return float(lines[3]) - float(lines[0])


def median(values):
    return statistics.median(values)


def spread(values, digits=2):
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def report(what, goal, result):
    print(f"{what.ljust(66)}  {goal.ljust(7)}  {result}", flush=True)


def in_turn(number, sides):
    return sides if number % 2 == 0 else list(reversed(sides))


# ---- publishing in small transactions

STATEMENTS = {
    "publish": "SELECT durable_event.publish_event('bench_small', 'entity-' || :id, "
               f"'{PAYLOAD}');",
    "plain": f"INSERT INTO plain (payload) VALUES ('{PAYLOAD}');",
    "notify": f"INSERT INTO plain_notify (payload) VALUES ('{PAYLOAD}');",
}


def pgbench(side, clients):
    """Transactions per second."""
    script = f"{side}.pgbench"
    with open(script, "w", encoding="ascii") as f:
        f.write("\\set id random(1, 100000)\nBEGIN;\n"
                "UPDATE item SET version = version + 1 WHERE id = :id;\n"
                f"{STATEMENTS[side]}\nCOMMIT;\n")
    done = subprocess.run(["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "2",
                           "-T", str(options.seconds), "-f", script],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    match = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or not match:
        sys.exit(f"pgbench: {done.stdout}{done.stderr}")
    return float(match.group(1))


def measure_small():
    for clients in (8, 64):
        tps = {side: [] for side in ("publish", "plain", "notify", "streaming")}
        for number in range(options.rounds):
            for side in in_turn(number, ["publish", "plain", "notify", "streaming"]):
                psql("VACUUM item", "TRUNCATE plain, plain_notify", "CHECKPOINT")
                if side == "streaming":
                    drain()
                    tps[side].append(pgbench("publish", clients))
                else:
                    pause()
                    tps[side].append(pgbench(side, clients))
                drain()
        ratios = {side: [p / t for p, t in zip(tps["publish"], tps[side])]
                  for side in ("plain", "notify")}
        streaming = [s / p for s, p in zip(tps["streaming"], tps["plain"])]
        absolute = ", ".join(f"{side} {median(values):.0f}" for side, values in tps.items())
        report(f"{clients} clients: tps of publish / plain INSERT", ">= 0.98",
               spread(ratios["plain"]))
        report(f"{clients} clients: tps of publish / INSERT + NOTIFY", ">= 2",
               spread(ratios["notify"]))
        report("  publish with relay and Kafka at work here / plain INSERT", "", spread(streaming))
        report("  transactions per second", "", absolute)


# ---- many events in one transaction, and the backlog

PUBLISH_BULK = ("SELECT count(durable_event.publish_event('bench_bulk', "
                "'entity-' || lpad((i % 10000)::text, 8, '0'), '{payload}')) "
                "FROM generate_series(1, {events}) AS i")
INSERT_FULL = ("INSERT INTO plain_full (event_type, key, payload) SELECT 'bench_bulk', "
               "'entity-' || lpad((i % 10000)::text, 8, '0'), '{payload}' "
               "FROM generate_series(1, {events}) AS i")
INSERT_PLAIN = ("INSERT INTO plain (payload) SELECT '{payload}' "
                "FROM generate_series(1, {events}) AS i")


def bulk(statement):
    psql("TRUNCATE plain, plain_full", "CHECKPOINT")
    time.sleep(SETTLE_SECONDS)
    return timed(statement.format(payload=PAYLOAD, events=options.events))


def measure_bulk():
    seconds = {statement: [] for statement in (PUBLISH_BULK, INSERT_FULL, INSERT_PLAIN)}
    for number in range(options.rounds):
        for statement in in_turn(number, list(seconds)):
            pause()
            seconds[statement].append(bulk(statement))
        drain()
    for name, statement, goal in (("of the same columns", INSERT_FULL, "<= 1.0"),
                                  ("of (id, jsonb)", INSERT_PLAIN, "")):
        ratios = [p / i for p, i in zip(seconds[PUBLISH_BULK], seconds[statement])]
        report(f"{options.events} events in a transaction: time / INSERT {name}",
               goal, spread(ratios))
    report("  seconds", "", ", ".join(
        f"{name} {median(seconds[statement]):.2f}" for name, statement in (
            ("publish", PUBLISH_BULK), ("same columns", INSERT_FULL),
            ("(id, jsonb)", INSERT_PLAIN))))


# ---- large events: what others wait for while a commit inserts them

PUBLISH_DOCUMENTS = ("SELECT count(durable_event.publish_event('bench_commit', id::text, payload)) "
                     "FROM document")
INSERT_DOCUMENTS = ("INSERT INTO plain_full (event_type, key, payload) "
                    "SELECT 'bench_commit', id::text, payload FROM document")


def measure_commit():
    clock = "SELECT extract(epoch FROM clock_timestamp())"
    seconds = {"publish": [], "insert": []}
    for number in range(options.rounds):
        pause()
        for side in in_turn(number, list(seconds)):
            psql("TRUNCATE plain_full", "CHECKPOINT")
            time.sleep(SETTLE_SECONDS)
            if side == "publish":
                lines = psql("BEGIN", PUBLISH_DOCUMENTS, clock, "COMMIT", clock)
                seconds[side].append(float(lines[-1]) - float(lines[-2]))
            else:
                seconds[side].append(timed(INSERT_DOCUMENTS))
        drain()
    ratios = [p / i for p, i in zip(seconds["publish"], seconds["insert"])]
    report("2000 events of 10 kB: time of the COMMIT / INSERT of the same", "<= 1.5",
           spread(ratios))
    report("  milliseconds", "", ", ".join(
        f"{side} {1000 * median(values):.0f}" for side, values in seconds.items()))


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_drain():
    linger, queue = psql("SELECT setting FROM pg_settings WHERE name IN "
                         "('durable_event.relay_linger', 'durable_event.relay_buffer_size') "
                         "ORDER BY name DESC")
    pid = int(psql("SELECT pid FROM durable_event.stat_relay")[0])
    # the relay makes both topics, so they have the same number of partitions
    drain()
    psql("SELECT durable_event.publish_event('bench_bare', NULL, NULL)",
         "SELECT durable_event.publish_event('bench_bulk', NULL, NULL)",
         "SELECT durable_event.flush('30 s')")
    relay, bare = [], []
    for number in range(options.rounds):
        for side in in_turn(number, ["relay", "bare"]):
            if side == "relay":
                pause()
                bulk(PUBLISH_BULK)
                psql("CHECKPOINT")
                time.sleep(SETTLE_SECONDS)
                backlog = int(psql("SELECT lag FROM durable_event.stat_relay")[0])
                if backlog < options.events:
                    sys.exit(f"the backlog is {backlog} events")
                before = cpu_seconds(pid)
                seconds = drain()
                relay.append((seconds, cpu_seconds(pid) - before))
            else:
                time.sleep(SETTLE_SECONDS)
                done = subprocess.run(["./producer", options.broker, "durable_event.bench_bare",
                                       str(options.events), linger, queue],
                                      stdout=subprocess.PIPE, text=True, check=True)
                bare.append(tuple(float(value) for value in done.stdout.split()))
    ratios = [b[0] / r[0] for r, b in zip(relay, bare)]
    million = 1e6 / options.events
    report("relay's drain: events per second / bare producer's", ">= 2",
           spread(ratios))
    report("  events per second", "",
           f"relay {options.events / median([r[0] for r in relay]):.0f}, "
           f"bare {options.events / median([b[0] for b in bare]):.0f}; CPU seconds per million: "
           f"relay {median([r[1] for r in relay]) * million:.1f}, "
           f"bare {median([b[1] for b in bare]) * million:.1f}")


# ---- latency

def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def publish_slowly():
    """100 events per second for a while; event id -> time of its commit in microseconds."""
    with open("slow.pgbench", "w", encoding="ascii") as f:
        f.write("\\set id random(1, 100000)\nBEGIN;\n"
                "UPDATE item SET version = version + 1 WHERE id = :id;\n"
                "SELECT durable_event.publish_event('bench_latency', 'entity-' || :id, "
                f"'{PAYLOAD}');\nCOMMIT;\n")
    begin = psql("SELECT clock_timestamp()")[0]
    done = subprocess.run(["pgbench", "-n", "-M", "prepared", "-c", "4", "-R", "100",
                           "-T", str(2 * options.seconds), "-f", "slow.pgbench"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"pgbench: {done.stderr}")
    psql("SELECT durable_event.flush('10 s')")
    union = " UNION ALL ".join(f"SELECT xmin AS transaction, * FROM durable_event.outbox_{i}"
                               for i in range(8))
    lines = psql("SELECT event_id, (extract(epoch FROM pg_xact_commit_timestamp(transaction)) "
                 f"* 1000000)::bigint FROM ({union}) AS segments WHERE created_at >= '{begin}' "
                 "AND event_type = 'bench_latency'")
    return {event: int(at) for event, at in (line.split("|") for line in lines)}


def report_latency(what, goals, commits, receipts):
    """Both are event id -> microseconds, one of each round."""
    p50, p99 = [], []
    for committed, received in zip(commits, receipts):
        missing = [event for event in committed if event not in received]
        if missing:
            sys.exit(f"{what}: {len(missing)} of {len(committed)} events did not arrive")
        values = [(received[event] - at) / 1000 for event, at in committed.items()]
        p50.append(percentile(values, 0.5))
        p99.append(percentile(values, 0.99))
    report(f"{what}, p50 ms", goals[0], spread(p50, 1))
    report(f"{what}, p99 ms", goals[1], spread(p99, 1))


def consumer_receipts(lines):
    return {fields[0]: int(fields[1]) for fields in (line.split() for line in lines)}


def handler_receipts(lines):
    received = {}
    for line in lines:
        request = json.loads(line)
        body = request["body"]
        for event in body if isinstance(body, list) else [body]:
            received.setdefault(event["id"], request["time"])
    return received


def measure_latency():
    drain()
    psql("SELECT durable_event.publish_event('bench_latency', NULL, NULL)",
         "SELECT durable_event.flush('30 s')",
         "ALTER SYSTEM SET durable_event.retention = '1h'", "SELECT pg_reload_conf()")

    commits, receipts = [], []
    for _ in range(options.rounds):
        with open("consumer.out", "w+", encoding="ascii") as out:
            consumer = subprocess.Popen(["./consumer", options.broker,
                                         "durable_event.bench_latency"], stdout=out)
            while not open("consumer.out", encoding="ascii").readline().startswith("READY"):
                if consumer.poll() is not None:
                    sys.exit("the consumer did not start")
                time.sleep(0.05)
            commits.append(publish_slowly())
            time.sleep(SETTLE_SECONDS)
            consumer.send_signal(signal.SIGTERM)
            consumer.wait()
            out.seek(0)
            receipts.append(consumer_receipts(out.read().splitlines()[1:]))
    report_latency("commit to Kafka consumer at 100 events/s", ("<= 2", "<= 5"), commits, receipts)

    for mode, linger in (("single", "0"), ("batch", "5 ms")):
        psql("INSERT INTO durable_event.consumer_group (name, event_types, mode, linger, "
             f"handler_url, start_from) VALUES ('{mode}', '{{bench_latency}}', '{mode}', "
             f"'{linger}', '{options.handler}', 'latest')")
        await_true(30, "SELECT count(*) = 1 FROM durable_event.stat_group "
                   f"WHERE group_name = '{mode}' AND state = 'running' AND partitions > 0")
        time.sleep(2)           # until its position is known: it begins at the end
        commits, receipts = [], []
        for _ in range(options.rounds):
            with open("handler.log", "rb") as log:
                log.seek(0, os.SEEK_END)
                commits.append(publish_slowly())
                time.sleep(SETTLE_SECONDS)
                receipts.append(handler_receipts(log.readlines()))
        psql(f"DELETE FROM durable_event.consumer_group WHERE name = '{mode}'")
        await_true(30, "SELECT count(*) = 0 FROM durable_event.stat_group")
        report_latency(f"commit to handler at 100 events/s, {mode} mode, linger {linger}",
                       ("<= 2.5", "<= 8"), commits, receipts)


# ---- all of it

def load_average():
    with open("/proc/loadavg", encoding="ascii") as f:
        return f.read().split()[0]


MEASURES = {"small": measure_small, "bulk": measure_bulk, "commit": measure_commit,
            "drain": measure_drain,
            "latency": measure_latency}

for row in rows:
    if row not in MEASURES:
        sys.exit(f"no row \"{row}\"; there are {', '.join(MEASURES)}")
print(f"{options.rounds} rounds, {os.cpu_count()} processors, load at the beginning "
      f"{load_average()}", flush=True)
await_true(30, "SELECT state = 'running' FROM durable_event.stat_relay")
print()
report("what", "goal", "median (smallest-largest)")
for row in rows:
    MEASURES[row]()

print("Latencies begin at the commit record, before it is flushed to disk.")
