/*-------------------------------------------------------------------------
 *
 * broker.c
 *		Development broker: librdkafka's mock cluster as a program.
 *
 *		broker [-n brokers] [-p partitions] [-t topic[:partitions]]...
 *
 * Prints "BOOTSTRAP host:port,..." on standard output when it listens, and
 * runs until SIGTERM, SIGINT or the end of standard input, so it dies with
 * whoever holds the other end of that pipe.  Topics given with -t exist from
 * the start, with -p partitions (default 4) unless they name a number; those
 * that come to be by use always have 4, which the library does not let change.
 *
 * Tests write lines to its standard input:
 *		rtt N			it answers everything N milliseconds late
 *		refuse N CODE	it refuses the next N produce requests with an error code
 *		leader T P B	partition P of topic T is led by broker B; -1 = by none, but the
 *						library's newer versions crash if a producer did not know
 *		down B, up B	broker B is gone, with all connections; is back
 *
 * No Kafka: it keeps at most 5 MiB per partition and drops the oldest beyond,
 * forgets everything at exit, knows no topic configuration, and answers no
 * CreateTopics request.  It speaks the producer's, the consumer's and the
 * group protocol, which is what a demonstration needs.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#define MAX_TOPICS 64

typedef struct
{
	char	   *name;
	int			partitions;
} Topic;

/* written by the signal handler: poll() below notices its other end */
static int	stop_pipe[2];

static void
stop(int signo)
{
	int			saved_errno = errno;

	/* a full pipe has the news already */
	if (write(stop_pipe[1], "", 1) < 0)
		(void) signo;
	errno = saved_errno;
}

static void
usage(const char *program)
{
	fprintf(stderr, "usage: %s [-n brokers] [-p partitions] [-t topic[:partitions]]...\n",
			program);
	exit(2);
}

/* A number from 1 to max, or the end of the program. */
static int
parse_number(const char *program, const char *text, int max)
{
	char	   *end;
	long		number = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || number < 1 || number > max)
		usage(program);
	return (int) number;
}

/* Does what a line says. */
static void
obey(rd_kafka_mock_cluster_t *cluster, int brokers, const char *line)
{
	char		topic[256];
	int			n;
	int			id;
	int			code;

	if (sscanf(line, "rtt %d", &n) == 1)
	{
		for (id = 1; id <= brokers; id++)
			rd_kafka_mock_broker_set_rtt(cluster, id, n);
	}
	else if (sscanf(line, "refuse %d %d", &n, &code) == 2)
	{
		while (n-- > 0)
			rd_kafka_mock_push_request_errors(cluster, 0, 1, code);
	}
	else if (sscanf(line, "leader %255s %d %d", topic, &n, &id) == 3)
	{
		rd_kafka_mock_partition_set_leader(cluster, topic, n, id);
	}
	else if (sscanf(line, "down %d", &id) == 1)
		rd_kafka_mock_broker_set_down(cluster, id);
	else if (sscanf(line, "up %d", &id) == 1)
		rd_kafka_mock_broker_set_up(cluster, id);
	else
	{
		fprintf(stderr, "broker: no such command: %s\n", line);
		return;
	}
	printf("OK\n");
	fflush(stdout);
}

/* Takes the lines out of what was read; what is left of them comes with the next. */
static void
obey_all(rd_kafka_mock_cluster_t *cluster, int brokers, const char *bytes, size_t n)
{
	static char line[256];
	static size_t length = 0;

	for (size_t i = 0; i < n; i++)
	{
		if (bytes[i] == '\n')
		{
			line[length] = '\0';
			obey(cluster, brokers, line);
			length = 0;
		}
		else if (length < sizeof(line) - 1)
			line[length++] = bytes[i];
	}
}

/* Returns at SIGTERM, SIGINT or, if there is one, the end of standard input. */
static void
wait_for_end(rd_kafka_mock_cluster_t *cluster, int brokers, int watch_stdin)
{
	struct pollfd fds[2] = {
		{.fd = stop_pipe[0], .events = POLLIN},
		{.fd = STDIN_FILENO, .events = POLLIN},
	};

	for (;;)
	{
		char		bytes[256];
		ssize_t		n;

		if (poll(fds, watch_stdin ? 2 : 1, -1) < 0)
		{
			if (errno == EINTR)
				continue;
			return;
		}
		if (fds[0].revents != 0)
			return;
		if (!watch_stdin || fds[1].revents == 0)
			continue;
		n = read(STDIN_FILENO, bytes, sizeof(bytes));
		if (n <= 0)
			return;
		obey_all(cluster, brokers, bytes, (size_t) n);
	}
}

int
main(int argc, char **argv)
{
	int			brokers = 1;
	int			partitions = 4;
	int			ntopics = 0;
	int			option;
	int			watch_stdin;
	Topic		topics[MAX_TOPICS];
	char		error[512];
	struct sigaction action = {.sa_handler = stop};
	rd_kafka_conf_t *conf;
	rd_kafka_t *rk;
	rd_kafka_mock_cluster_t *cluster;

	while ((option = getopt(argc, argv, "n:p:t:")) != -1)
	{
		char	   *colon;

		switch (option)
		{
			case 'n':
				brokers = parse_number(argv[0], optarg, 16);
				break;
			case 'p':
				partitions = parse_number(argv[0], optarg, 1000);
				break;
			case 't':
				if (ntopics == MAX_TOPICS)
					usage(argv[0]);
				topics[ntopics].name = optarg;
				topics[ntopics].partitions = 0; /* -p may still come */
				if ((colon = strrchr(optarg, ':')) != NULL)
				{
					*colon = '\0';
					topics[ntopics].partitions = parse_number(argv[0], colon + 1, 1000);
				}
				ntopics++;
				break;
			default:
				usage(argv[0]);
		}
	}
	if (optind < argc)
		usage(argv[0]);

	/* before the pipe could get its number */
	watch_stdin = fcntl(STDIN_FILENO, F_GETFD) >= 0;

	/* the library's threads block all signals, so the handler runs here */
	if (pipe(stop_pipe) < 0)
	{
		perror("pipe");
		return 1;
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);

	/* the mock cluster lives on the threads of a client instance */
	conf = rd_kafka_conf_new();
	/* errors only: it would warn that it has no bootstrap.servers of its own */
	rd_kafka_conf_set(conf, "log_level", "3", NULL, 0);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (rk == NULL)
	{
		fprintf(stderr, "could not create a client instance: %s\n", error);
		return 1;
	}
	cluster = rd_kafka_mock_cluster_new(rk, brokers);
	if (cluster == NULL)
	{
		fprintf(stderr, "could not create the mock cluster\n");
		return 1;
	}
	for (int i = 0; i < ntopics; i++)
	{
		rd_kafka_resp_err_t err;

		if (topics[i].partitions == 0)
			topics[i].partitions = partitions;
		err = rd_kafka_mock_topic_create(cluster, topics[i].name, topics[i].partitions,
										 brokers < 3 ? brokers : 3);
		if (err)
		{
			fprintf(stderr, "could not create topic \"%s\": %s\n",
					topics[i].name, rd_kafka_err2str(err));
			return 1;
		}
	}

	printf("BOOTSTRAP %s\n", rd_kafka_mock_cluster_bootstraps(cluster));
	fflush(stdout);

	wait_for_end(cluster, brokers, watch_stdin);

	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(rk);
	return 0;
}
