/*-------------------------------------------------------------------------
 *
 * admin.c
 *		What tests need to see and do in Kafka besides reading records: Kafka's
 *		own tools start a Java machine each time, this takes milliseconds.
 *
 *		admin BOOTSTRAP topics                            topic partitions
 *		admin BOOTSTRAP ends TOPIC                        partition low high
 *		admin BOOTSTRAP config TOPIC                      name=value, those set on the topic
 *		admin BOOTSTRAP offsets GROUP                     topic partition committed
 *		admin BOOTSTRAP groups                            group state members
 *		admin BOOTSTRAP create TOPIC N [NAME=VALUE]...
 *		admin BOOTSTRAP alter TOPIC [NAME=VALUE]...       these replace what is set on the topic
 *		admin BOOTSTRAP delete TOPIC
 *		admin BOOTSTRAP partitions TOPIC N                grow to N
 *		admin BOOTSTRAP large TOPIC PARTITION N [M]       a key of N bytes, and M headers
 *
 * Prints lines of the fields named; errors go to standard error, exit code 1.
 *
 *-------------------------------------------------------------------------
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#define TIMEOUT_MS 15000
#define ATTEMPTS 100

static rd_kafka_t *rk;

/*
 * Ends the process at once: tearing the handle down could wait for a broker, and
 * exit() runs handlers that take away what the library's threads still use, which
 * was a crash now and then.
 */
static void
end(int code)
{
	if (fflush(stdout) != 0)
		code = 1;
	_exit(code);
}

static void
die(const char *what, const char *reason)
{
	fprintf(stderr, "admin: %s: %s\n", what, reason);
	end(1);
}

static void
check(const char *what, rd_kafka_resp_err_t err)
{
	if (err)
		die(what, rd_kafka_err2str(err));
}

/* "topic" alone, or every topic when it is NULL. */
static const struct rd_kafka_metadata *
metadata(const char *topic)
{
	const struct rd_kafka_metadata *result;

	check("metadata", rd_kafka_metadata(rk, 1, NULL, &result, TIMEOUT_MS));
	if (topic != NULL)
	{
		for (int i = 0; i < result->topic_cnt; i++)
		{
			if (strcmp(result->topics[i].topic, topic) == 0)
				return result;
		}
		die(topic, "no such topic");
	}
	return result;
}

static void
list_topics(void)
{
	const struct rd_kafka_metadata *all = metadata(NULL);

	for (int i = 0; i < all->topic_cnt; i++)
		printf("%s %d\n", all->topics[i].topic, all->topics[i].partition_cnt);
}

static void
list_ends(const char *topic)
{
	const struct rd_kafka_metadata *all = metadata(topic);

	for (int i = 0; i < all->topic_cnt; i++)
	{
		if (strcmp(all->topics[i].topic, topic) != 0)
			continue;
		for (int partition = 0; partition < all->topics[i].partition_cnt; partition++)
		{
			int64_t		low;
			int64_t		high;

			check("watermarks",
				  rd_kafka_query_watermark_offsets(rk, topic, partition, &low, &high, TIMEOUT_MS));
			printf("%d %lld %lld\n", partition, (long long) low, (long long) high);
		}
	}
}

static void
list_groups(void)
{
	const struct rd_kafka_group_list *groups;

	check("groups", rd_kafka_list_groups(rk, NULL, &groups, TIMEOUT_MS));
	for (int i = 0; i < groups->group_cnt; i++)
		printf("%s %s %d\n", groups->groups[i].group, groups->groups[i].state,
			   groups->groups[i].member_cnt);
}

/* The answer to the request that was just sent to this queue. */
static rd_kafka_event_t *
await(rd_kafka_queue_t *queue, const char *what)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, TIMEOUT_MS);

	if (event == NULL)
		die(what, "no answer in time");
	if (rd_kafka_event_error(event))
		die(what, rd_kafka_event_error_string(event));
	return event;
}

static void
check_topic_result(const char *what, const rd_kafka_topic_result_t **results)
{
	if (rd_kafka_topic_result_error(results[0]))
	{
		const char *text = rd_kafka_topic_result_error_string(results[0]);

		die(what, text ? text : rd_kafka_err2str(rd_kafka_topic_result_error(results[0])));
	}
}

static void
list_config(rd_kafka_queue_t *queue, const char *topic)
{
	rd_kafka_ConfigResource_t *resource;
	rd_kafka_event_t *event;
	const rd_kafka_DescribeConfigs_result_t *result;
	const rd_kafka_ConfigResource_t **resources;
	const rd_kafka_ConfigEntry_t **entries;
	size_t		n;

	resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
	rd_kafka_DescribeConfigs(rk, &resource, 1, NULL, queue);
	event = await(queue, "config");
	result = rd_kafka_event_DescribeConfigs_result(event);
	resources = rd_kafka_DescribeConfigs_result_resources(result, &n);
	check("config", rd_kafka_ConfigResource_error(resources[0]));
	entries = rd_kafka_ConfigResource_configs(resources[0], &n);
	for (size_t i = 0; i < n; i++)
	{
		const char *value = rd_kafka_ConfigEntry_value(entries[i]);

		if (rd_kafka_ConfigEntry_source(entries[i]) == RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG)
			printf("%s=%s\n", rd_kafka_ConfigEntry_name(entries[i]), value ? value : "");
	}
}

/* Is a broker not yet, or no more, the coordinator of a group? */
static bool
coordinator_moves(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS ||
		err == RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE ||
		err == RD_KAFKA_RESP_ERR_NOT_COORDINATOR;
}

/*
 * The handle is a consumer's: at such an error the library looks for the
 * coordinator on behalf of the handle's group, and crashes if it has none.
 */
static void
list_offsets(rd_kafka_queue_t *queue, const char *group)
{
	for (int attempt = 1;; attempt++)
	{
		rd_kafka_ListConsumerGroupOffsets_t *request;
		rd_kafka_event_t *event;
		const rd_kafka_group_result_t **groups;
		const rd_kafka_topic_partition_list_t *offsets;
		rd_kafka_resp_err_t err;
		size_t		n;

		/* NULL = all partitions with an offset */
		request = rd_kafka_ListConsumerGroupOffsets_new(group, NULL);
		rd_kafka_ListConsumerGroupOffsets(rk, &request, 1, NULL, queue);
		event = rd_kafka_queue_poll(queue, TIMEOUT_MS);
		if (event == NULL)
			die("offsets", "no answer");
		err = rd_kafka_event_error(event);
		groups = err ? NULL :
					   rd_kafka_ListConsumerGroupOffsets_result_groups(
						   rd_kafka_event_ListConsumerGroupOffsets_result(event), &n);
		if (groups != NULL && rd_kafka_group_result_error(groups[0]) != NULL)
			err = rd_kafka_error_code(rd_kafka_group_result_error(groups[0]));
		if (coordinator_moves(err) && attempt < ATTEMPTS)
		{
			rd_kafka_event_destroy(event);
			usleep(100 * 1000);
			continue;
		}
		check(group, err);
		offsets = rd_kafka_group_result_partitions(groups[0]);
		for (int i = 0; i < offsets->cnt; i++)
			printf("%s %d %lld\n", offsets->elems[i].topic, offsets->elems[i].partition,
				   (long long) offsets->elems[i].offset);
		return;
	}
}

static void
create_topic(rd_kafka_queue_t *queue, const char *topic, int partitions, char **config, int nconfig)
{
	rd_kafka_NewTopic_t *request;
	const rd_kafka_CreateTopics_result_t *result;
	char		error[512];
	size_t		n;

	request = rd_kafka_NewTopic_new(topic, partitions, -1, error, sizeof(error));
	if (request == NULL)
		die(topic, error);
	for (int i = 0; i < nconfig; i++)
	{
		char	   *value = strchr(config[i], '=');

		if (value == NULL)
			die(config[i], "not NAME=VALUE");
		*value++ = '\0';
		check(config[i], rd_kafka_NewTopic_set_config(request, config[i], value));
	}
	rd_kafka_CreateTopics(rk, &request, 1, NULL, queue);
	result = rd_kafka_event_CreateTopics_result(await(queue, "create"));
	check_topic_result(topic, rd_kafka_CreateTopics_result_topics(result, &n));
}

static void
alter_topic(rd_kafka_queue_t *queue, const char *topic, char **config, int nconfig)
{
	rd_kafka_ConfigResource_t *resource;
	const rd_kafka_AlterConfigs_result_t *result;
	const rd_kafka_ConfigResource_t **resources;
	size_t		n;

	resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
	for (int i = 0; i < nconfig; i++)
	{
		char	   *value = strchr(config[i], '=');

		if (value == NULL)
			die(config[i], "not NAME=VALUE");
		*value++ = '\0';
		check(config[i], rd_kafka_ConfigResource_set_config(resource, config[i], value));
	}
	rd_kafka_AlterConfigs(rk, &resource, 1, NULL, queue);
	result = rd_kafka_event_AlterConfigs_result(await(queue, "alter"));
	resources = rd_kafka_AlterConfigs_result_resources(result, &n);
	if (rd_kafka_ConfigResource_error(resources[0]))
	{
		const char *text = rd_kafka_ConfigResource_error_string(resources[0]);

		die(topic, text ? text : rd_kafka_err2str(rd_kafka_ConfigResource_error(resources[0])));
	}
}

static void
delete_topic(rd_kafka_queue_t *queue, const char *topic)
{
	rd_kafka_DeleteTopic_t *request = rd_kafka_DeleteTopic_new(topic);
	const rd_kafka_DeleteTopics_result_t *result;
	size_t		n;

	rd_kafka_DeleteTopics(rk, &request, 1, NULL, queue);
	result = rd_kafka_event_DeleteTopics_result(await(queue, "delete"));
	check_topic_result(topic, rd_kafka_DeleteTopics_result_topics(result, &n));
}

static void
grow_topic(rd_kafka_queue_t *queue, const char *topic, int partitions)
{
	rd_kafka_NewPartitions_t *request;
	const rd_kafka_CreatePartitions_result_t *result;
	char		error[512];
	size_t		n;

	request = rd_kafka_NewPartitions_new(topic, partitions, error, sizeof(error));
	if (request == NULL)
		die(topic, error);
	rd_kafka_CreatePartitions(rk, &request, 1, NULL, queue);
	result = rd_kafka_event_CreatePartitions_result(await(queue, "partitions"));
	check_topic_result(topic, rd_kafka_CreatePartitions_result_topics(result, &n));
}

/* kcat would look for the end of such a line for minutes. */
static void
produce_large(const char *topic, int partition, size_t bytes, int nheaders)
{
	char	   *key = malloc(bytes);
	rd_kafka_headers_t *headers = rd_kafka_headers_new(nheaders);

	if (key == NULL)
		die("large", "out of memory");
	memset(key, 1, bytes);
	for (int i = 0; i < nheaders; i++)
		check("header", rd_kafka_header_add(headers, "h", 1, NULL, 0));
	check("produce",
		  rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
							RD_KAFKA_V_KEY(key, bytes), RD_KAFKA_V_VALUE("v", 1),
							RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END));
	check("flush", rd_kafka_flush(rk, 4 * TIMEOUT_MS));
}

int
main(int argc, char **argv)
{
	const char *command = argc > 2 ? argv[2] : "";
	char		error[512];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_queue_t *queue;
	bool		of_group = argc == 4 && strcmp(command, "offsets") == 0;

	if (argc < 3)
		die("usage", "admin BOOTSTRAP COMMAND ARGUMENT..., see the top of admin.c");
	if (rd_kafka_conf_set(conf, "bootstrap.servers", argv[1], error, sizeof(error)) ||
		rd_kafka_conf_set(conf, "log_level", "2", error, sizeof(error)) ||
		rd_kafka_conf_set(conf, "compression.codec", "gzip", error, sizeof(error)) ||
		rd_kafka_conf_set(conf, "message.max.bytes", "1000000000", error, sizeof(error)))
		die("configuration", error);
	if (of_group && rd_kafka_conf_set(conf, "group.id", argv[3], error, sizeof(error)))
		die("configuration", error);
	rk = rd_kafka_new(of_group ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (rk == NULL)
		die("client", error);
	queue = rd_kafka_queue_new(rk);

	if (argc == 3 && strcmp(command, "topics") == 0)
		list_topics();
	else if (argc == 3 && strcmp(command, "groups") == 0)
		list_groups();
	else if (argc == 4 && strcmp(command, "ends") == 0)
		list_ends(argv[3]);
	else if (argc == 4 && strcmp(command, "config") == 0)
		list_config(queue, argv[3]);
	else if (of_group)
		list_offsets(queue, argv[3]);
	else if (argc >= 5 && strcmp(command, "create") == 0)
		create_topic(queue, argv[3], atoi(argv[4]), argv + 5, argc - 5);
	else if (argc >= 4 && strcmp(command, "alter") == 0)
		alter_topic(queue, argv[3], argv + 4, argc - 4);
	else if (argc == 4 && strcmp(command, "delete") == 0)
		delete_topic(queue, argv[3]);
	else if (argc == 5 && strcmp(command, "partitions") == 0)
		grow_topic(queue, argv[3], atoi(argv[4]));
	else if ((argc == 6 || argc == 7) && strcmp(command, "large") == 0)
		produce_large(argv[3], atoi(argv[4]), strtoul(argv[5], NULL, 10),
					  argc > 6 ? atoi(argv[6]) : 0);
	else
		die(command, "no such command, or another number of arguments");

	end(0);
}
