/*-------------------------------------------------------------------------
 *
 * http_transfer.c
 *		One request of the HTTP client: the options of its handle, the
 *		callbacks that take its answer, and what its end means.
 *
 * What libcurl 7.88 must not be asked to do: HTTP/2 without TLS (the second
 * request on such a connection fails), waiting for its resolver thread (see
 * CURLOPT_QUICK_EXIT), and to be believed that an answer is complete (see
 * de_http_transfer_finish).
 *
 * The callbacks run inside libcurl: they write to malloc'd memory of bounded
 * size and return a code; no palloc, no ereport, no interrupts (pitfall 2).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <time.h>

#include "common/pg_prng.h"

#include "worker/http/http_internal.h"

/* Headers of an answer: libcurl 7.88 would store any amount of them */
#define HTTP_MAX_ANSWER_HEADERS (64 * 1024)

/*
 * A connection idle for longer is not used again: balancers close theirs after
 * 60 s, and a request that meets the close has an unknown outcome.
 */
#define HTTP_MAX_IDLE_S 50L

/*
 * No connection is used for longer, so that handlers added behind a balancer
 * get their share; drawn for each handle, so that connections opened together
 * do not end together.
 */
#define HTTP_MIN_LIFETIME_S 60
#define HTTP_MAX_LIFETIME_S 300

#define HTTP_MAX_RETRY_AFTER_MS (INT64CONST(24) * 3600 * 1000)

static bool http_set_options(DeHttpRequest *request);
static bool http_body_is_complete(DeHttpRequest *request, long status);
static bool http_ends_in_chunked(const char *value, size_t len);
static bool http_is_before_sending(CURLcode code);
static bool http_is_tls_failure(CURLcode code);
static const char *http_phase(DeHttpRequest *request, CURLcode code);
static size_t http_body_callback(char *data, size_t size, size_t nmemb, void *arg);
static size_t http_header_callback(char *data, size_t size, size_t nmemb, void *arg);
static curl_socket_t http_open_callback(void *arg, curlsocktype purpose,
										struct curl_sockaddr *address);
static int64 http_parse_retry_after(const char *value, size_t len);

/* ---- before ---- */

/* See http_internal.h. */
DeHttpRequest *
de_http_transfer_create(HttpEngine *engine)
{
	DeHttpRequest *request = calloc(1, sizeof(DeHttpRequest));

	if (request == NULL)
		return NULL;
	request->engine = engine;
	request->easy = curl_easy_init();
	if (request->easy != NULL && !http_set_options(request))
	{
		/* good for a refusal only */
		curl_easy_cleanup(request->easy);
		request->easy = NULL;
	}
	return request;
}

/* Frees a request that is in no list and not with libcurl. */
void
de_http_transfer_free(DeHttpRequest *request)
{
	if (request->easy != NULL)
		curl_easy_cleanup(request->easy);
	free(request->headers);
	free(request->body);
	free(request->url);
	free(request);
}

/* Sets what is the same for all requests of an engine; false when out of memory. */
static bool
http_set_options(DeHttpRequest *request)
{
	CURL	   *easy = request->easy;
	HttpEngine *engine = request->engine;
	long		lifetime_s = (long) pg_prng_uint64_range(&pg_global_prng_state,
												  HTTP_MIN_LIFETIME_S, HTTP_MAX_LIFETIME_S);
	bool		ok = true;

#define HTTP_SET(option, value) \
	(ok = curl_easy_setopt(easy, (option), (value)) == CURLE_OK && ok)

	/* SIGALRM is the server's (pitfall 1) */
	HTTP_SET(CURLOPT_NOSIGNAL, 1L);

	/*
	 * A request that ends while its name is being resolved (timeout, cancel)
	 * leaves the resolver thread to itself, which then frees what it has.
	 * Without this, libcurl waits for the thread, with a name server that does
	 * not answer for half a minute.
	 */
	HTTP_SET(CURLOPT_QUICK_EXIT, 1L);

	/* no way to any place but the URL's host, by the one protocol */
	HTTP_SET(CURLOPT_PROTOCOLS_STR, "http,https");
	HTTP_SET(CURLOPT_FOLLOWLOCATION, 0L);
	HTTP_SET(CURLOPT_PROXY, "");
	HTTP_SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	HTTP_SET(CURLOPT_OPENSOCKETFUNCTION, http_open_callback);
	HTTP_SET(CURLOPT_OPENSOCKETDATA, request);

	HTTP_SET(CURLOPT_PRIVATE, request);
	HTTP_SET(CURLOPT_ERRORBUFFER, request->curl_error);
	HTTP_SET(CURLOPT_WRITEFUNCTION, http_body_callback);
	HTTP_SET(CURLOPT_WRITEDATA, request);
	HTTP_SET(CURLOPT_HEADERFUNCTION, http_header_callback);
	HTTP_SET(CURLOPT_HEADERDATA, request);
	HTTP_SET(CURLOPT_BUFFERSIZE, 4096L);	/* answers are small, requests under way are many */
	HTTP_SET(CURLOPT_POST, 1L);
	HTTP_SET(CURLOPT_USERAGENT, "durable_event");

	/*
	 * A request does not wait for a connection that another is just making,
	 * though HTTP/2 might share it: a handshake that hangs would hold up all
	 * requests for the host.
	 */
	HTTP_SET(CURLOPT_PIPEWAIT, 0L);

	HTTP_SET(CURLOPT_TCP_NODELAY, 1L);
	HTTP_SET(CURLOPT_MAXAGE_CONN, HTTP_MAX_IDLE_S);
	HTTP_SET(CURLOPT_MAXLIFETIME_CONN, lifetime_s);

	HTTP_SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (engine->ca_file[0] != '\0')
	{
		/* only these: the system's directory would be searched as well */
		HTTP_SET(CURLOPT_CAINFO, engine->ca_file);
		HTTP_SET(CURLOPT_CAPATH, NULL);
	}
	if (engine->cert_file[0] != '\0')
		HTTP_SET(CURLOPT_SSLCERT, engine->cert_file);
	if (engine->key_file[0] != '\0')
		HTTP_SET(CURLOPT_SSLKEY, engine->key_file);
	/* an encrypted key fails; OpenSSL would ask the terminal for its password */
	HTTP_SET(CURLOPT_KEYPASSWD, "");

#undef HTTP_SET

	/* a library built without HTTP/2 refuses this and uses HTTP/1.1 */
	(void) curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
	return ok;
}

/* Sets the URL; see http_internal.h. */
const char *
de_http_transfer_set_url(DeHttpRequest *request, const char *url)
{
	CURLU	   *parsed;
	char	   *scheme = NULL;
	char	   *host = NULL;
	CURLUcode	code;
	const char *reason = NULL;

	if (request->url != NULL && strcmp(request->url, url) == 0)
		return NULL;
	free(request->url);
	request->url = NULL;

	parsed = curl_url();
	code = (parsed == NULL) ? CURLUE_OUT_OF_MEMORY : curl_url_set(parsed, CURLUPART_URL, url, 0);
	if (code == CURLUE_OK)
		code = curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0);
	if (code == CURLUE_OK)
		code = curl_url_get(parsed, CURLUPART_HOST, &host, 0);

	if (code != CURLUE_OK)
		reason = curl_url_strerror(code);
	else if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
		reason = "URL is neither http nor https";
	else
	{
		request->url = strdup(url);
		if (request->url == NULL ||
			curl_easy_setopt(request->easy, CURLOPT_URL, url) != CURLE_OK)
		{
			reason = "out of memory";
			free(request->url);
			request->url = NULL;
		}
		request->name_allowed = de_http_hosts_allow_name(request->engine->hosts, host);
	}

	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(parsed);
	return reason;
}

/*
 * Copies header lines into one chunk, with the nodes that libcurl wants at its
 * beginning, instead of two allocations a line.  Adds "Expect:", which keeps
 * libcurl from asking before it sends a large body (a round trip, and a second
 * with servers that do not know it).  Control characters become spaces: a
 * line break in a value would begin another header, or another request.
 */
struct curl_slist *
de_http_transfer_build_headers(const char *const *headers, int nheaders)
{
	static const char expect[] = "Expect:";
	size_t		size = sizeof(struct curl_slist) * (nheaders + 1) + sizeof(expect);
	struct curl_slist *nodes;
	char	   *text;

	for (int i = 0; i < nheaders; i++)
		size += strlen(headers[i]) + 1;
	nodes = malloc(size);
	if (nodes == NULL)
		return NULL;

	text = (char *) &nodes[nheaders + 1];
	for (int i = 0; i <= nheaders; i++)
	{
		const char *line = (i < nheaders) ? headers[i] : expect;

		nodes[i].data = text;
		nodes[i].next = (i < nheaders) ? &nodes[i + 1] : NULL;
		for (; *line != '\0'; line++)
			*text++ = ((unsigned char) *line < 0x20 || *line == 0x7f) ? ' ' : *line;
		*text++ = '\0';
	}
	return nodes;
}

/* ---- after ---- */

/*
 * Turns libcurl's result into ours.
 *
 * "Nobody" (may be repeated without being a second attempt) needs both a
 * code that says so and that no byte was sent: libcurl sends a request again
 * by itself when a pooled connection was closed, and if that fails to connect,
 * the code is the second try's while the first may have arrived.
 */
void
de_http_transfer_finish(DeHttpRequest *request, CURLcode code)
{
	DeHttpResult *result = &request->result;
	CURL	   *easy = request->easy;
	long		status = 0;
	long		request_size = 0;
	curl_off_t	content_length = -1;
	char		detail[CURL_ERROR_SIZE];

	(void) curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	(void) curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &request_size);
	(void) curl_easy_getinfo(easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &content_length);

	/* over HTTP/2, 7.88 reports some streams that were cut off as complete */
	if (code == CURLE_OK && request->has_content_length && status != 204 && status != 304 &&
		content_length >= 0 && content_length != (curl_off_t) request->body_len)
		code = CURLE_PARTIAL_FILE;
	if (code == CURLE_OK && status < 200)
		code = CURLE_WEIRD_SERVER_REPLY;

	if (code == CURLE_OK)
	{
		result->outcome = DE_HTTP_ANSWERED;
		result->status = (int) status;
		result->body_complete = http_body_is_complete(request, status);
		result->retry_after_ms = request->retry_after_ms;
	}
	else
	{
		result->outcome = (request_size == 0 && http_is_before_sending(code)) ?
			DE_HTTP_NOBODY :
			DE_HTTP_UNKNOWN;
		result->timed_out = (code == CURLE_OPERATION_TIMEDOUT);
		if (request->too_large)
			snprintf(detail, sizeof(detail), "larger than %d kB", DE_HTTP_MAX_BODY / 1024);
		else if (request->out_of_memory)
			snprintf(detail, sizeof(detail), "out of memory");
		else if (request->refusal[0] != '\0' && code == CURLE_COULDNT_CONNECT)
			strlcpy(detail, request->refusal, sizeof(detail));
		else if (result->timed_out)
			snprintf(detail, sizeof(detail), "timed out (request timeout %d ms)",
					 request->timeout_ms);
		else
			strlcpy(detail,
					request->curl_error[0] != '\0' ? request->curl_error : curl_easy_strerror(code),
					sizeof(detail));
		de_http_transfer_set_error(request, http_phase(request, code), detail);
		request->body_len = 0;
	}

	result->body = request->body_len > 0 ? request->body : "";
	result->body_len = request->body_len;
}

/*
 * Does HTTP itself say that a whole answer is whole?  By its length, its last
 * chunk or the end of its stream (whose absence libcurl reports as an error),
 * or because there can be no body.  An answer that just ends with its
 * connection may come from a handler that died.
 */
static bool
http_body_is_complete(DeHttpRequest *request, long status)
{
	long		version = CURL_HTTP_VERSION_NONE;

	if (status == 204 || status == 304 || request->has_content_length)
		return true;
	(void) curl_easy_getinfo(request->easy, CURLINFO_HTTP_VERSION, &version);
	return version >= CURL_HTTP_VERSION_2_0 ||
		(version == CURL_HTTP_VERSION_1_1 && request->is_chunked);
}

/* Is "chunked" the last of the codings in a Transfer-Encoding? */
static bool
http_ends_in_chunked(const char *value, size_t len)
{
	while (len > 0 && strchr(" \t\r\n", value[len - 1]) != NULL)
		len--;
	return len >= 7 && pg_strncasecmp(value + len - 7, "chunked", 7) == 0 &&
		(len == 7 || strchr(" \t,", value[len - 8]) != NULL);
}

/* Does a code belong to what happens before the request is sent? */
static bool
http_is_before_sending(CURLcode code)
{
	switch (code)
	{
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_FAILED_INIT:
		case CURLE_URL_MALFORMAT:
		case CURLE_COULDNT_RESOLVE_PROXY:
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_CONNECT:
		case CURLE_NO_CONNECTION_AVAILABLE:
		case CURLE_OUT_OF_MEMORY:
		case CURLE_OPERATION_TIMEDOUT:
			return true;
		default:
			return http_is_tls_failure(code);
	}
}

static bool
http_is_tls_failure(CURLcode code)
{
	switch (code)
	{
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_CRL_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_ENGINE_INITFAILED:
		case CURLE_SSL_ENGINE_NOTFOUND:
		case CURLE_SSL_ENGINE_SETFAILED:
		case CURLE_SSL_INVALIDCERTSTATUS:
		case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
		case CURLE_PEER_FAILED_VERIFICATION:
			return true;
		default:
			return false;
	}
}

/* Where a failed request was, for its error text. */
static const char *
http_phase(DeHttpRequest *request, CURLcode code)
{
	CURL	   *easy = request->easy;
	curl_off_t	resolved = 0;
	curl_off_t	connected = 0;
	curl_off_t	ready = 0;
	curl_off_t	uploaded = 0;
	bool		tls = pg_strncasecmp(request->url, "https:", 6) == 0;

	(void) curl_easy_getinfo(easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved);
	(void) curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connected);
	(void) curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
	(void) curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);

	if (http_is_tls_failure(code))
		return "TLS";
	if (code == CURLE_COULDNT_CONNECT)
		return "connect";
	/* zero in the earlier times also means "not needed": a pooled connection */
	if (ready > 0)
		return uploaded < (curl_off_t) request->sent_len ? "request" : "answer";
	if (code == CURLE_COULDNT_RESOLVE_HOST || resolved == 0)
		return "resolve";
	if (connected == 0)
		return "connect";
	return tls ? "TLS" : "connect";
}

/* Sets the error text; ASCII only, because it is shown in databases of any encoding. */
void
de_http_transfer_set_error(DeHttpRequest *request, const char *phase, const char *detail)
{
	char	   *error = request->result.error;

	snprintf(error, DE_HTTP_ERROR_SIZE, "%s: %s", phase, detail);
	for (; *error != '\0'; error++)
	{
		if ((unsigned char) *error < 0x20 || (unsigned char) *error >= 0x7f)
			*error = '?';
	}
}

/* ---- called by libcurl ---- */

/* Keeps a piece of the body; a short count makes libcurl end the transfer. */
static size_t
http_body_callback(char *data, size_t size, size_t nmemb, void *arg)
{
	DeHttpRequest *request = arg;
	size_t		len = size * nmemb;

	if (len > DE_HTTP_MAX_BODY - request->body_len)
	{
		request->too_large = true;
		return 0;
	}
	if (request->body_len + len > request->body_size)
	{
		size_t		wanted = Max(request->body_size * 2, 512);
		char	   *body;

		wanted = Max(wanted, request->body_len + len);
		body = realloc(request->body, wanted);
		if (body == NULL)
		{
			request->out_of_memory = true;
			return 0;
		}
		request->body = body;
		request->body_size = wanted;
	}
	memcpy(request->body + request->body_len, data, len);
	request->body_len += len;
	return len;
}

/* Looks at one header line (or the status line) of the answer. */
static size_t
http_header_callback(char *data, size_t size, size_t nmemb, void *arg)
{
	DeHttpRequest *request = arg;
	size_t		len = size * nmemb;

	request->headers_len += len;
	if (request->headers_len > HTTP_MAX_ANSWER_HEADERS)
	{
		request->too_large = true;
		return 0;
	}

	if (len >= 5 && memcmp(data, "HTTP/", 5) == 0)
	{
		/* an interim answer (1xx) may have come before */
		request->has_content_length = false;
		request->is_chunked = false;
		request->retry_after_ms = -1;
	}
	else if (len >= 15 && pg_strncasecmp(data, "content-length:", 15) == 0)
		request->has_content_length = true;
	else if (len >= 18 && pg_strncasecmp(data, "transfer-encoding:", 18) == 0)
		request->is_chunked = http_ends_in_chunked(data + 18, len - 18);
	else if (len >= 12 && pg_strncasecmp(data, "retry-after:", 12) == 0)
		request->retry_after_ms = http_parse_retry_after(data + 12, len - 12);
	return len;
}

/*
 * Opens the socket of a new connection, if its address is allowed.  With
 * several addresses libcurl goes on with the next.
 */
static curl_socket_t
http_open_callback(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	DeHttpRequest *request = arg;
	DeHttpAddressVerdict verdict = de_http_hosts_check_address(request->engine->hosts,
															   &address->addr,
															   request->name_allowed);
	char		text[INET6_ADDRSTRLEN] = "";
	const void *bytes;

	if (purpose == CURLSOCKTYPE_IPCXN && verdict == DE_HTTP_ADDRESS_ALLOWED)
	{
		int			fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
						address->protocol);

		return fd < 0 ? CURL_SOCKET_BAD : fd;
	}

	bytes = (address->family == AF_INET6) ?
		(const void *) &((struct sockaddr_in6 *) &address->addr)->sin6_addr :
		(const void *) &((struct sockaddr_in *) &address->addr)->sin_addr;
	(void) inet_ntop(address->family, bytes, text, sizeof(text));
	if (verdict == DE_HTTP_ADDRESS_FORBIDDEN)
		snprintf(request->refusal, sizeof(request->refusal),
				 "address %s is link-local or a metadata service, or may lead to one", text);
	else
		snprintf(request->refusal, sizeof(request->refusal),
				 "address %s is not allowed by %s", text, request->engine->hosts_setting);
	return CURL_SOCKET_BAD;
}

/* Milliseconds of a Retry-After, seconds or a date; -1 when it is neither. */
static int64
http_parse_retry_after(const char *value, size_t len)
{
	char		text[64];
	int64		seconds = 0;
	size_t		digits = 0;

	while (len > 0 && (*value == ' ' || *value == '\t'))
	{
		value++;
		len--;
	}
	while (len > 0 && ((unsigned char) value[len - 1] <= ' '))
		len--;
	if (len == 0 || len >= sizeof(text))
		return -1;
	memcpy(text, value, len);
	text[len] = '\0';

	for (; digits < len && text[digits] >= '0' && text[digits] <= '9'; digits++)
		seconds = Min(seconds * 10 + (text[digits] - '0'), HTTP_MAX_RETRY_AFTER_MS / 1000);
	if (digits < len)
	{
		time_t		date = curl_getdate(text, NULL);

		if (date == (time_t) -1)
			return -1;
		seconds = (int64) date - (int64) time(NULL);
	}
	return Min(Max(seconds, 0) * 1000, HTTP_MAX_RETRY_AFTER_MS);
}
