/*
 * Secrets in files.
 *
 * links: worker/kafka/kafka_secret.c
 */
#include "postgres.h"

#include <unistd.h>

#include "server_stubs.h"
#include "tap.h"
#include "worker/kafka/kafka_secret.h"

static char value[16];
static char error[256];

/* What is read from a file with these bytes; NULL = refused. */
static const char *
read_file(const char *bytes, int len)
{
	char		path[] = "/tmp/durable_event_secret_XXXXXX";
	int			fd = mkstemp(path);
	bool		done;

	if (fd < 0 || write(fd, bytes, len) != len)
		exit(1);
	close(fd);
	memset(value, 'x', sizeof(value));
	done = de_kafka_secret_read("sasl.password", path, value, sizeof(value), error,
								sizeof(error));
	unlink(path);
	return done ? value : NULL;
}

int
main(void)
{
	is_string(de_kafka_secret_property("sasl.password.file"), "sasl.password", "a password");
	ok(de_kafka_secret_property("sasl.password") == NULL &&
		   de_kafka_secret_property("sasl.password.file.x") == NULL &&
		   de_kafka_secret_property("sasl.username.file") == NULL,
	   "other properties");

	is_string(read_file("secret", 6), "secret", "the file");
	is_string(read_file("secret\n", 7), "secret", "without the end of the line");
	is_string(read_file("secret\r\n", 8), "secret", "of any kind");
	is_string(read_file("a b \n\n", 6), "a b \n", "but nothing else");
	is_string(read_file("", 0), "", "nothing");
	is_string(read_file("123456789012345", 15), "123456789012345", "as much as there is room for");
	ok(read_file("1234567890123456", 16) == NULL && strstr(error, "less than 16") != NULL &&
		   strstr(error, "1234") == NULL,
	   "no more; nothing of it is shown");
	ok(read_file("a\0b", 3) == NULL, "no bytes");
	ok(!de_kafka_secret_read("sasl.password", "/nonexistent/file", value, sizeof(value), error,
							 sizeof(error)) &&
		   strstr(error, "\"sasl.password\"") != NULL && strstr(error, "No such file") != NULL,
	   "no file");
	ok(!de_kafka_secret_read("sasl.password", "/", value, sizeof(value), error, sizeof(error)),
	   "no folder");
	return tap_done();
}
