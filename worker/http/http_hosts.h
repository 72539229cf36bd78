/*-------------------------------------------------------------------------
 *
 * http_hosts.h
 *		Which hosts and addresses the HTTP client may call: the setting
 *		durable_event.handler_hosts, and what is refused whatever it says.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_HTTP_HOSTS_H
#define DE_HTTP_HOSTS_H

#include <sys/socket.h>

typedef struct DeHttpHosts DeHttpHosts;

/*
 * Parses a list of host patterns (name, *.domain, *) and networks (address,
 * address/bits), separated by commas; empty = any.  An entry that is neither
 * allows nothing; the first such is copied to invalid (empty = none).  Main
 * thread only; never throws; NULL when out of memory.
 */
extern DeHttpHosts *de_http_hosts_parse(const char *list, char *invalid, int invalid_size);
extern void de_http_hosts_free(DeHttpHosts *hosts);

/* Does the host of a URL (IPv6 in brackets) match a pattern, or is any allowed? */
extern bool de_http_hosts_allow_name(const DeHttpHosts *hosts, const char *host);

/* Could an address be allowed whose name is not? */
extern bool de_http_hosts_have_networks(const DeHttpHosts *hosts);

typedef enum DeHttpAddressVerdict
{
	DE_HTTP_ADDRESS_ALLOWED,
	DE_HTTP_ADDRESS_NOT_LISTED,
	DE_HTTP_ADDRESS_FORBIDDEN	/* link-local or metadata, whatever the list says */
} DeHttpAddressVerdict;

/*
 * May this resolved address be connected to, for a URL whose host is allowed
 * by name or not?  Allocates nothing, never throws: called by libcurl.
 */
extern DeHttpAddressVerdict de_http_hosts_check_address(const DeHttpHosts *hosts,
														const struct sockaddr *address,
														bool name_allowed);

#endif							/* DE_HTTP_HOSTS_H */
