/*-------------------------------------------------------------------------
 *
 * kafka_secret.c
 *		Secrets of the Kafka client that stand in files.
 *
 * A setting's value is shown to superusers, and the server logs it whenever a
 * reload changes it.  librdkafka reads keys and certificates from files, but no
 * password: so "sasl.password.file=/path" in kafka_config is ours.
 *
 * Pure: no state, no library; linked into the unit tests as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "worker/kafka/kafka_secret.h"

/* properties that are secrets by themselves; none has a .file of the library's own */
static const char *const secret_properties[] = {
	"sasl.oauthbearer.client.secret",
	"sasl.password",
	"ssl.key.password",
	"ssl.key.pem",
	"ssl.keystore.password"
};

/*
 * The property whose value stands in a file.
 */
const char *
de_kafka_secret_property(const char *name)
{
	for (int i = 0; i < (int) lengthof(secret_properties); i++)
	{
		int			len = strlen(secret_properties[i]);

		if (strncmp(name, secret_properties[i], len) == 0 && strcmp(name + len, ".file") == 0)
			return secret_properties[i];
	}
	return NULL;
}

/*
 * Reads such a file.
 */
bool
de_kafka_secret_read(const char *property, const char *path, char *value, int size,
					 char *error, int error_size)
{
	int			fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int			len = 0;
	ssize_t		n = -1;

	while (fd >= 0 && len < size && (n = read(fd, value + len, size - len)) > 0)
		len += n;
	if (fd < 0 || n < 0)
	{
		snprintf(error, error_size, "could not read the file of \"%s\" in durable_event.kafka_config: %s",
				 property, strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	close(fd);
	if (len == size || memchr(value, '\0', len) != NULL)
	{
		explicit_bzero(value, size);
		snprintf(error, error_size, "the file of \"%s\" in durable_event.kafka_config is no text of less than %d bytes",
				 property, size);
		return false;
	}

	/* editors end the last line */
	if (len > 0 && value[len - 1] == '\n')
		len--;
	if (len > 0 && value[len - 1] == '\r')
		len--;
	value[len] = '\0';
	return true;
}
