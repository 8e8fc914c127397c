#define G_LOG_DOMAIN "rpc"

#include "common/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/autoclose.h"

#define LISTEN_BACKLOG 128
#define KEEPALIVE_S 2
#define UNACKED_MS 4000 /* a connection whose data nobody acknowledges ends */

typedef struct addrinfo AddrInfo;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AddrInfo, freeaddrinfo)

static int net_resolve(const char *host, uint16_t port, int socktype, int flags, AddrInfo **ret_list)
{
	AddrInfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = socktype, .ai_flags = flags | AI_NUMERICSERV };
	char service[8];

	g_snprintf(service, sizeof(service), "%u", port);
	return getaddrinfo(host, service, &hints, ret_list);
}

/* ---- listening ---- */

static int net_listen_on(const AddrInfo *a)
{
	autoclose int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
	int one = 1;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		return -errno;
	return g_steal_fd(&fd);
}

int net_listen(const char *host, uint16_t port, GError **error)
{
	g_autoptr(AddrInfo) list = NULL;
	int r = net_resolve(host, port, SOCK_STREAM, AI_PASSIVE, &list);

	if (r != 0) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "can't listen on '%s': %s", host, gai_strerror(r));
		return -EADDRNOTAVAIL;
	}
	for (const AddrInfo *a = list; a; a = a->ai_next) {
		r = net_listen_on(a);
		if (r >= 0)
			return r;
	}
	g_set_error(error, G_FILE_ERROR, (gint)g_file_error_from_errno(-r), "can't listen on %s port %u: %s%s", host, port,
	            g_strerror(-r), r == -EADDRNOTAVAIL ? " (it is no address of this machine)" : "");
	return r;
}

/* ---- devices ---- */

static bool net_same_address(const struct sockaddr *a, const struct sockaddr *b)
{
	if (!a || !b || a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	if (a->sa_family == AF_INET6)
		return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
		              &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr)) == 0;
	return false;
}

/* All of 127.0.0.0/8 is the loopback device's, though it shows one address. */
static bool net_is_loopback(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
	return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

char *net_device_of(int fd)
{
	struct sockaddr_storage own = { .ss_family = AF_UNSPEC };
	struct sockaddr *addr = (struct sockaddr *)&own;
	socklen_t len = sizeof(own);
	struct ifaddrs *list;
	char *name = NULL;

	if (getsockname(fd, addr, &len) < 0)
		return NULL;
	if (net_is_loopback(addr))
		return g_strdup("lo");
	if (getifaddrs(&list) < 0)
		return NULL;
	for (const struct ifaddrs *i = list; i && !name; i = i->ifa_next)
		if (net_same_address(i->ifa_addr, addr))
			name = g_strdup(i->ifa_name);
	freeifaddrs(list);
	return name;
}

/* Connecting a datagram socket sends nothing, it only picks the route. */
char *net_device_towards(const char *host, uint16_t port)
{
	g_autoptr(AddrInfo) list = NULL;
	char *name = NULL;

	if (net_resolve(host, port, SOCK_DGRAM, 0, &list) != 0)
		return NULL;
	for (const AddrInfo *a = list; a && !name; a = a->ai_next) {
		autoclose int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);

		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
			name = net_device_of(fd);
	}
	return name;
}

char *net_remote_name(int fd)
{
	struct sockaddr_storage other;
	socklen_t len = sizeof(other);
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (getpeername(fd, (struct sockaddr *)&other, &len) < 0 ||
	    getnameinfo((struct sockaddr *)&other, len, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return g_strdup("an unknown address");
	return g_strdup_printf(strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

void net_tune(int fd)
{
	const struct { int level, name, value; } rows[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKED_MS },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_S },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
		setsockopt(fd, rows[i].level, rows[i].name, &rows[i].value, sizeof(rows[i].value));
}

/* ---- connecting ---- */

typedef struct Resolve {
	const char *host;
	uint16_t port;
	AddrInfo *list;
} Resolve;

static int net_resolve_work(void *arg)
{
	Resolve *q = arg;
	int r = net_resolve(q->host, q->port, SOCK_STREAM, AI_ADDRCONFIG, &q->list);

	/* AI_ADDRCONFIG finds nothing on a machine that has only loopback. */
	if (r != 0)
		r = net_resolve(q->host, q->port, SOCK_STREAM, 0, &q->list);
	return r == 0 ? 0 : r == EAI_SYSTEM ? -EIO : r == EAI_AGAIN ? -EAGAIN : -ENXIO;
}

static int coroutine_fn net_co_connect_to(Reactor *r, const AddrInfo *a, int64_t until_ns, int *ret_fd)
{
	int64_t left_ns = until_ns - reactor_now_ns(r);
	int fd, res;

	if (left_ns <= 0)
		return -ETIME;
	fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	res = uring_co_connect_timeout(reactor_uring(r), fd, a->ai_addr, a->ai_addrlen, left_ns);
	if (res < 0) {
		*ret_fd = -1;
		close(fd);
		return res;
	}
	net_tune(fd);
	return 0;
}

int coroutine_fn net_co_connect(Reactor *r, const char *host, uint16_t port, int64_t until_ns, int *ret_fd)
{
	Resolve q = { .host = host, .port = port };
	int res;

	*ret_fd = -1;
	res = reactor_co_work(r, net_resolve_work, &q);
	if (res < 0)
		return res;
	res = -ENXIO;
	for (const AddrInfo *a = q.list; a; a = a->ai_next) {
		res = net_co_connect_to(r, a, until_ns, ret_fd);
		if (res == 0)
			break;
	}
	freeaddrinfo(q.list);
	return res;
}

int coroutine_fn net_co_recv_all(Reactor *r, int fd, void *buf, size_t len, int64_t until_ns)
{
	size_t got = 0;

	while (got < len) {
		int64_t left_ns = until_ns - reactor_now_ns(r);
		ssize_t n;

		if (left_ns <= 0)
			return -ETIME;
		n = uring_co_recv_timeout(reactor_uring(r), fd, (char *)buf + got, len - got, left_ns);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0)
			return (int)n;
		got += (size_t)n;
	}
	return 0;
}

int coroutine_fn net_co_send_all(Reactor *r, int fd, const void *buf, size_t len)
{
	ssize_t n = uring_co_send(reactor_uring(r), fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -EAGAIN;
}
