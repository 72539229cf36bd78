/*-------------------------------------------------------------------------
 *
 * http_hosts.c
 *		Which hosts and addresses the HTTP client may call.
 *
 * URLs of handlers come from a table that need not be written by whoever runs
 * the server, and this process sits inside its network: without a check it
 * would fetch instance credentials for anybody who may register a group.
 *
 * Names are compared with the host of the URL, networks with the address that
 * the connection is really made to.  Checking an address resolved beforehand
 * would not do: the name may resolve to another one a moment later.
 *
 * The list is parsed beforehand, into socket addresses, because the check runs
 * inside libcurl, where nothing may be allocated by palloc or raised; for the
 * same reason the SQL functions on type inet are of no use.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <netinet/in.h>
#include <netdb.h>

#include "common/ip.h"
#include "libpq/ifaddr.h"

#include "worker/http/http_hosts.h"

/*
 * Never called, whatever the list says: link-local networks, and the addresses
 * outside of them where clouds serve an instance's metadata and credentials.
 * Teredo, whose addresses lead through a relay of anybody's choosing to IPv4,
 * has never had a handler behind it.
 */
static const char *const hosts_forbidden[] = {
	"169.254.0.0/16", "fe80::/10",	/* link-local; most metadata services */
	"fd00:ec2::254",			/* AWS */
	"fd20:ce::254",				/* Google Cloud */
	"100.100.100.200",			/* Alibaba Cloud */
	"168.63.129.16",			/* Azure */
	"192.0.0.192",				/* Oracle Cloud */
	"2001::/32"					/* Teredo */
};

typedef struct HostsNetwork
{
	struct sockaddr_storage address;
	struct sockaddr_storage mask;
} HostsNetwork;

/* An IPv4 address inside of IPv6 ones: where, and in which. */
typedef struct HostsEmbedding
{
	uint8		prefix[12];
	uint8		first;			/* of the bytes compared with it, */
	uint8		last;			/* last one excluded */
	uint8		at[4];			/* bytes of the address inside */
} HostsEmbedding;

/*
 * A gateway or a tunnel takes a packet for such an address to the one inside.
 * Prefixes that a network gives out itself for the purpose (6rd, NAT64) cannot
 * be known here.
 */
static const HostsEmbedding hosts_embeddings[] = {
	/* mapped ::ffff:0:0/96: must be the first */
	{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 0, 12, {12, 13, 14, 15}},
	/* compatible ::/96 */
	{{0}, 0, 12, {12, 13, 14, 15}},
	/* translated ::ffff:0:0:0/96 */
	{{0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0}, 0, 12, {12, 13, 14, 15}},
	/* NAT64 64:ff9b::/96 */
	{{0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 12, {12, 13, 14, 15}},
	/* local NAT64 64:ff9b:1::/48, any length of prefix below it (byte 8 is left out) */
	{{0, 0x64, 0xff, 0x9b, 0, 1}, 0, 6, {6, 7, 9, 10}},
	{{0, 0x64, 0xff, 0x9b, 0, 1}, 0, 6, {7, 9, 10, 11}},
	{{0, 0x64, 0xff, 0x9b, 0, 1}, 0, 6, {9, 10, 11, 12}},
	{{0, 0x64, 0xff, 0x9b, 0, 1}, 0, 6, {12, 13, 14, 15}},
	/* 6to4 2002::/16 */
	{{0x20, 0x02}, 0, 2, {2, 3, 4, 5}},
	/* ISATAP, an interface of any network: global, and not */
	{{0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0x5e, 0xfe}, 8, 12, {12, 13, 14, 15}},
	{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x5e, 0xfe}, 8, 12, {12, 13, 14, 15}}
};

struct DeHttpHosts
{
	bool		any;			/* the list is empty */
	int			npatterns;
	int			nnetworks;
	char	  **patterns;		/* into "text" */
	HostsNetwork *networks;
	HostsNetwork forbidden[lengthof(hosts_forbidden)];
	char	   *text;			/* copy of the list, cut up */
};

static bool hosts_parse_network(char *entry, HostsNetwork *network);
static bool hosts_is_pattern(const char *entry);
static bool hosts_match_pattern(const char *pattern, const char *host, int len);
static bool hosts_in_network(const struct sockaddr *address, const HostsNetwork *network);
static bool hosts_leads_into(const struct sockaddr *address, const HostsNetwork *network);
static bool hosts_mapped_v4(const struct sockaddr *address, struct sockaddr_in *v4);
static bool hosts_has_prefix(const uint8 *bytes, const HostsEmbedding *embedding);

DeHttpHosts *
de_http_hosts_parse(const char *list, char *invalid, int invalid_size)
{
	DeHttpHosts *hosts = calloc(1, sizeof(DeHttpHosts));
	int			max = 1;
	char	   *next;

	invalid[0] = '\0';
	if (hosts == NULL)
		return NULL;
	for (const char *p = list; *p != '\0'; p++)
		max += (*p == ',');
	hosts->text = strdup(list);
	hosts->patterns = calloc(max, sizeof(char *));
	hosts->networks = calloc(max, sizeof(HostsNetwork));
	if (hosts->text == NULL || hosts->patterns == NULL || hosts->networks == NULL)
	{
		de_http_hosts_free(hosts);
		return NULL;
	}

	for (int i = 0; i < lengthof(hosts_forbidden); i++)
	{
		char		entry[64];

		strlcpy(entry, hosts_forbidden[i], sizeof(entry));
		if (!hosts_parse_network(entry, &hosts->forbidden[i]))
		{
			/* without IPv6 in the system nothing can connect to these either */
			hosts->forbidden[i].address.ss_family = AF_UNSPEC;
		}
	}

	hosts->any = list[strspn(list, " \t\n\r,")] == '\0';
	for (char *entry = hosts->text; entry != NULL; entry = next)
	{
		int			len;

		next = strchr(entry, ',');
		if (next != NULL)
			*next++ = '\0';
		entry += strspn(entry, " \t\n\r");
		len = strcspn(entry, " \t\n\r");
		if (len == 0)
			continue;
		if (entry[len + strspn(entry + len, " \t\n\r")] != '\0')
		{
			/* two words: refuse the entry, do not take one of them */
			if (invalid[0] == '\0')
				strlcpy(invalid, entry, invalid_size);
			continue;
		}
		entry[len] = '\0';

		if (hosts_parse_network(entry, &hosts->networks[hosts->nnetworks]))
			hosts->nnetworks++;
		else if (hosts_is_pattern(entry))
			hosts->patterns[hosts->npatterns++] = entry;
		else if (invalid[0] == '\0')
			strlcpy(invalid, entry, invalid_size);
	}
	return hosts;
}

void
de_http_hosts_free(DeHttpHosts *hosts)
{
	if (hosts == NULL)
		return;
	free(hosts->text);
	free(hosts->patterns);
	free(hosts->networks);
	free(hosts);
}

bool
de_http_hosts_allow_name(const DeHttpHosts *hosts, const char *host)
{
	int			len = strlen(host);

	if (hosts->any)
		return true;
	/* the root's dot makes no other host of it */
	if (len > 1 && host[len - 1] == '.')
		len--;
	for (int i = 0; i < hosts->npatterns; i++)
	{
		if (hosts_match_pattern(hosts->patterns[i], host, len))
			return true;
	}
	return false;
}

bool
de_http_hosts_have_networks(const DeHttpHosts *hosts)
{
	return hosts->nnetworks > 0;
}

/*
 * Checks an address.  What an IPv6 address carries inside is checked as well:
 * ::ffff:169.254.169.254 is the metadata service, and through a translating
 * gateway 64:ff9b::a9fe:a9fe is too.
 */
DeHttpAddressVerdict
de_http_hosts_check_address(const DeHttpHosts *hosts, const struct sockaddr *address,
							bool name_allowed)
{
	struct sockaddr_in v4;
	bool		mapped;

	if (address->sa_family != AF_INET && address->sa_family != AF_INET6)
		return DE_HTTP_ADDRESS_FORBIDDEN;

	for (int i = 0; i < lengthof(hosts_forbidden); i++)
	{
		if (hosts_in_network(address, &hosts->forbidden[i]) ||
			hosts_leads_into(address, &hosts->forbidden[i]))
			return DE_HTTP_ADDRESS_FORBIDDEN;
	}

	if (hosts->any || name_allowed)
		return DE_HTTP_ADDRESS_ALLOWED;

	/* only a mapped address is the same host as the one inside */
	mapped = hosts_mapped_v4(address, &v4);
	for (int i = 0; i < hosts->nnetworks; i++)
	{
		if (hosts_in_network(address, &hosts->networks[i]) ||
			(mapped && hosts_in_network((struct sockaddr *) &v4, &hosts->networks[i])))
			return DE_HTTP_ADDRESS_ALLOWED;
	}
	return DE_HTTP_ADDRESS_NOT_LISTED;
}

/* Reads "address" or "address/bits"; false when it is none. */
static bool
hosts_parse_network(char *entry, HostsNetwork *network)
{
	char	   *slash = strchr(entry, '/');
	struct addrinfo hints = {0};
	struct addrinfo *found = NULL;
	bool		ok = false;

	hints.ai_flags = AI_NUMERICHOST;
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;

	if (slash != NULL)
		*slash = '\0';
	if (pg_getaddrinfo_all(entry, NULL, &hints, &found) == 0 && found != NULL &&
		(found->ai_family == AF_INET || found->ai_family == AF_INET6))
	{
		memcpy(&network->address, found->ai_addr, found->ai_addrlen);
		ok = pg_sockaddr_cidr_mask(&network->mask, slash != NULL ? slash + 1 : NULL,
								   found->ai_family) == 0;
	}
	if (found != NULL)
		pg_freeaddrinfo_all(hints.ai_family, found);
	if (slash != NULL)
		*slash = '/';
	return ok;
}

/* May this be a host name, or one with "*" (alone or as first label)? */
static bool
hosts_is_pattern(const char *entry)
{
	if (strcmp(entry, "*") == 0)
		return true;
	if (strncmp(entry, "*.", 2) == 0)
		entry += 2;
	return entry[0] != '\0' && strpbrk(entry, "*/:[]@?#%") == NULL;
}

static bool
hosts_match_pattern(const char *pattern, const char *host, int len)
{
	int			pattern_len = strlen(pattern);

	if (strcmp(pattern, "*") == 0)
		return true;
	if (pattern_len > 1 && pattern[pattern_len - 1] == '.')
		pattern_len--;
	if (pattern[0] != '*')
		return pattern_len == len && pg_strncasecmp(pattern, host, len) == 0;

	/* ".example.com" at the end, something before it */
	pattern++;
	pattern_len--;
	return len > pattern_len &&
		pg_strncasecmp(pattern, host + len - pattern_len, pattern_len) == 0;
}

static bool
hosts_in_network(const struct sockaddr *address, const HostsNetwork *network)
{
	struct sockaddr_storage copy;

	if (address->sa_family != network->address.ss_family)
		return false;
	memset(&copy, 0, sizeof(copy));
	if (address->sa_family == AF_INET)
		memcpy(&copy, address, sizeof(struct sockaddr_in));
	else
		memcpy(&copy, address, sizeof(struct sockaddr_in6));
	return pg_range_sockaddr(&copy, &network->address, &network->mask) != 0;
}

/*
 * Does an IPv6 address carry one of an IPv4 network?
 */
static bool
hosts_leads_into(const struct sockaddr *address, const HostsNetwork *network)
{
	const uint8 *bytes;

	if (address->sa_family != AF_INET6 || network->address.ss_family != AF_INET)
		return false;
	bytes = ((const struct sockaddr_in6 *) address)->sin6_addr.s6_addr;
	for (int i = 0; i < lengthof(hosts_embeddings); i++)
	{
		const HostsEmbedding *embedding = &hosts_embeddings[i];
		struct sockaddr_in v4;
		uint8		inside[4];

		if (!hosts_has_prefix(bytes, embedding))
			continue;
		for (int j = 0; j < 4; j++)
			inside[j] = bytes[embedding->at[j]];
		memset(&v4, 0, sizeof(v4));
		v4.sin_family = AF_INET;
		memcpy(&v4.sin_addr, inside, 4);
		if (hosts_in_network((struct sockaddr *) &v4, network))
			return true;
	}
	return false;
}

/*
 * The IPv4 address that a mapped one is.
 */
static bool
hosts_mapped_v4(const struct sockaddr *address, struct sockaddr_in *v4)
{
	const uint8 *bytes = ((const struct sockaddr_in6 *) address)->sin6_addr.s6_addr;

	if (address->sa_family != AF_INET6 || !hosts_has_prefix(bytes, &hosts_embeddings[0]))
		return false;
	memset(v4, 0, sizeof(*v4));
	v4->sin_family = AF_INET;
	memcpy(&v4->sin_addr, bytes + 12, 4);
	return true;
}

static bool
hosts_has_prefix(const uint8 *bytes, const HostsEmbedding *embedding)
{
	return memcmp(bytes + embedding->first, embedding->prefix + embedding->first,
				  embedding->last - embedding->first) == 0;
}
