/*
 * Which hosts and addresses handlers may live on.
 *
 * links: worker/http/http_hosts.c
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "libpq/ifaddr.h"

#include "tap.h"
#include "worker/http/http_hosts.h"

static char invalid[64];

/*
 * Stand-ins for two functions of the server that none of its static libraries
 * has; what is tested is how they are used.
 */
int
pg_sockaddr_cidr_mask(struct sockaddr_storage *mask, char *numbits, int family)
{
	int			max = (family == AF_INET) ? 32 : 128;
	char	   *end;
	long		bits = (numbits == NULL) ? max : strtol(numbits, &end, 10);
	uint8	   *bytes = (family == AF_INET) ?
		(uint8 *) &((struct sockaddr_in *) mask)->sin_addr :
		(uint8 *) &((struct sockaddr_in6 *) mask)->sin6_addr;

	if (bits < 0 || bits > max || (numbits != NULL && (*numbits == '\0' || *end != '\0')))
		return -1;
	memset(mask, 0, sizeof(*mask));
	mask->ss_family = family;
	for (int i = 0; i < bits; i++)
		bytes[i / 8] |= 0x80 >> (i % 8);
	return 0;
}

int
pg_range_sockaddr(const struct sockaddr_storage *addr, const struct sockaddr_storage *netaddr,
				  const struct sockaddr_storage *netmask)
{
	size_t		at = (addr->ss_family == AF_INET) ? offsetof(struct sockaddr_in, sin_addr) :
											   offsetof(struct sockaddr_in6, sin6_addr);
	size_t		len = (addr->ss_family == AF_INET) ? 4 : 16;

	for (size_t i = at; i < at + len; i++)
	{
		uint8		differ = ((const uint8 *) addr)[i] ^ ((const uint8 *) netaddr)[i];

		if (differ & ((const uint8 *) netmask)[i])
			return 0;
	}
	return 1;
}

static bool
name_allowed(const char *list, const char *host)
{
	DeHttpHosts *hosts = de_http_hosts_parse(list, invalid, sizeof(invalid));
	bool		allowed = de_http_hosts_allow_name(hosts, host);

	de_http_hosts_free(hosts);
	return allowed;
}

static DeHttpAddressVerdict
check(const char *list, const char *address, bool by_name)
{
	DeHttpHosts *hosts = de_http_hosts_parse(list, invalid, sizeof(invalid));
	struct sockaddr_in6 v6 = {0};
	struct sockaddr_in v4 = {0};
	struct sockaddr *sa = (struct sockaddr *) &v6;
	DeHttpAddressVerdict verdict;

	v4.sin_family = AF_INET;
	v6.sin6_family = AF_INET6;
	if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
		sa = (struct sockaddr *) &v4;
	else if (inet_pton(AF_INET6, address, &v6.sin6_addr) != 1)
		abort();
	verdict = de_http_hosts_check_address(hosts, sa, by_name);
	de_http_hosts_free(hosts);
	return verdict;
}

int
main(void)
{
	static const char *const forbidden[] = {
		"169.254.169.254", "169.254.0.1", "fe80::1", "febf::1", "fd00:ec2::254", "fd20:ce::254",
		"100.100.100.200", "168.63.129.16", "192.0.0.192", "::ffff:169.254.169.254",
		"::169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1",
		"::ffff:0:169.254.169.254", "64:ff9b:1::169.254.169.254",
		"64:ff9b:1:aaaa::100.100.100.200", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:12a9:fe:a9fe::",
		"64:ff9b:1:1234:a9:fea9:fe00:0", "64:ff9b:1:a83f:81:1000::",
		"2001:db8::5efe:169.254.169.254", "2001:db8:1:2:200:5efe:169.254.169.254",
		"fd00::5efe:192.0.0.192", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"
	};
	static const char *const open[] = {
		"127.0.0.1", "10.0.0.1", "169.253.255.255", "169.255.0.0", "::1", "fec0::1",
		"fd00:ec2::253", "::ffff:10.0.0.1", "2002:a00:1::1", "93.184.216.34",
		"64:ff9b::10.0.0.1", "64:ff9b:1::10.0.0.1", "64:ff9b:2::169.254.169.254",
		"64:ff9b:1:a00:1::", "2001:1::1", "2001:db8::169.254.169.254", "2003:a9fe:a9fe::1",
		"2001:db8::5efe:10.0.0.1", "::ffff:0:10.0.0.1", "::1:0:169.254.169.254"
	};
	static const char *const lists[] = {"", "*", "169.254.0.0/16, fe80::/10, 0.0.0.0/0, ::/0"};
	bool		refused = true;
	bool		allowed = true;
	struct sockaddr local = {.sa_family = AF_UNIX};
	DeHttpHosts *hosts;

	for (int i = 0; i < lengthof(lists); i++)
	{
		for (int j = 0; j < lengthof(forbidden); j++)
			refused = refused &&
				check(lists[i], forbidden[j], true) == DE_HTTP_ADDRESS_FORBIDDEN &&
				check(lists[i], forbidden[j], false) == DE_HTTP_ADDRESS_FORBIDDEN;
		for (int j = 0; j < lengthof(open); j++)
			allowed = allowed && check(lists[i], open[j], true) == DE_HTTP_ADDRESS_ALLOWED;
	}
	ok(refused, "link-local and metadata addresses are refused, whatever the list says");
	ok(allowed, "their neighbours are not");
	hosts = de_http_hosts_parse("", invalid, sizeof(invalid));
	ok(de_http_hosts_check_address(hosts, &local, true) == DE_HTTP_ADDRESS_FORBIDDEN,
	   "nothing but IP");
	de_http_hosts_free(hosts);

	ok(name_allowed("", "any.example") && name_allowed(" , ", "any.example"), "empty means any");
	ok(name_allowed("a.example", "a.example") && name_allowed("b.example,A.Example", "a.EXAMPLE"),
	   "names, in any case");
	ok(name_allowed("a.example", "a.example.") && name_allowed("a.example.", "a.example"),
	   "with the root's dot or without");
	ok(!name_allowed("a.example", "b.a.example") && !name_allowed("a.example", "a.example.evil") &&
		   !name_allowed("a.example", "aa.example"),
	   "whole names only");
	ok(name_allowed("*.example.com", "a.example.com") &&
		   name_allowed("*.example.com", "b.a.example.com"),
	   "a pattern, any depth");
	ok(!name_allowed("*.example.com", "example.com") &&
		   !name_allowed("*.example.com", "evilexample.com") &&
		   !name_allowed("*.example.com", ".example.com") &&
		   !name_allowed("*.example.com", "a.example.com.evil"),
	   "and nothing that looks like it");
	ok(name_allowed("*", "any.example"), "a star alone is any");
	ok(!name_allowed("10.0.0.1", "10.0.0.1"), "an address is a network, not a name");

	ok(check("10.0.0.0/8", "10.1.2.3", false) == DE_HTTP_ADDRESS_ALLOWED &&
		   check("10.0.0.0/8", "11.1.2.3", false) == DE_HTTP_ADDRESS_NOT_LISTED,
	   "networks");
	ok(check("10.0.0.1", "10.0.0.1", false) == DE_HTTP_ADDRESS_ALLOWED &&
		   check("10.0.0.1", "10.0.0.2", false) == DE_HTTP_ADDRESS_NOT_LISTED,
	   "single addresses");
	ok(check("fd12::/16", "fd12:1::1", false) == DE_HTTP_ADDRESS_ALLOWED &&
		   check("fd12::/16", "fd13::1", false) == DE_HTTP_ADDRESS_NOT_LISTED,
	   "networks of IPv6");
	ok(check("10.0.0.0/8", "::ffff:10.1.2.3", false) == DE_HTTP_ADDRESS_ALLOWED,
	   "a mapped address is the one inside");
	ok(check("10.0.0.0/8", "2002:a01:203::1", false) == DE_HTTP_ADDRESS_NOT_LISTED &&
		   check("10.0.0.0/8", "64:ff9b::a01:203", false) == DE_HTTP_ADDRESS_NOT_LISTED,
	   "one that only leads there is not");
	ok(check("a.example", "10.1.2.3", true) == DE_HTTP_ADDRESS_ALLOWED &&
		   check("a.example", "10.1.2.3", false) == DE_HTTP_ADDRESS_NOT_LISTED,
	   "an allowed name may resolve to any other address");

	ok(!name_allowed("a b, /8, http://x", "a") && strcmp(invalid, "a b") == 0,
	   "what is no entry allows nothing and is named");
	ok(check("10.0.0.0/33", "10.0.0.1", false) == DE_HTTP_ADDRESS_NOT_LISTED &&
		   strcmp(invalid, "10.0.0.0/33") == 0,
	   "nor does a network with too many bits");
	ok(!name_allowed("a.*.com", "a.b.com") && strcmp(invalid, "a.*.com") == 0,
	   "a star stands for whole leading labels only");

	return tap_done();
}
