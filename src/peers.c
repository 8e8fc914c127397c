#include "src/peers.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

char *peers_format(const MapPeer *p)
{
	if (!p->host)
		return g_strdup("local");
	return g_strdup_printf(strchr(p->host, ':') ? "[%s]:%u" : "%s:%u", p->host, p->port);
}

ClusterMap *peers_map(const Options *o, GError **error)
{
	g_autofree char *text = NULL;
	g_autoptr(GError) why = NULL;

	if (!o->peers && !o->hostfile)
		return map_new_embedded();
	if (o->hostfile && !g_file_get_contents(o->hostfile, &text, NULL, &why)) {
		options_set_error(error, "cannot read the list of peers: %s", why->message);
		return NULL;
	}
	ClusterMap *map = map_new_from_list(text ? text : o->peers, &why);
	if (!map)
		options_set_error(error, "%s: %s", o->hostfile ? o->hostfile : "--peers", why->message);
	return map;
}

/* ---- which one am I ---- */

typedef struct addrinfo AddrInfo;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AddrInfo, freeaddrinfo)
typedef struct ifaddrs IfAddrs;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(IfAddrs, freeifaddrs)

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
	if (a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	if (a->sa_family == AF_INET6)
		return !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr, 16);
	return false;
}

/* All of 127.0.0.0/8 is local, though the interface has but one of it. */
static bool is_loopback(const struct sockaddr *a)
{
	return a->sa_family == AF_INET && ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
}

/* NULL where the name is unknown: other machines may not be up yet. */
static AddrInfo *resolve(const char *host)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;

	return getaddrinfo(host, NULL, &hints, &list) ? NULL : list;
}

static bool is_local(const AddrInfo *list, const IfAddrs *interfaces)
{
	for (const AddrInfo *a = list; a; a = a->ai_next) {
		if (is_loopback(a->ai_addr))
			return true;
		for (const IfAddrs *i = interfaces; i; i = i->ifa_next)
			if (i->ifa_addr && same_address(i->ifa_addr, a->ai_addr))
				return true;
	}
	return false;
}

static bool is_same_host(const char *a, const char *b)
{
	if (!g_ascii_strcasecmp(a, b))
		return true;
	g_autoptr(AddrInfo) la = resolve(a);
	g_autoptr(AddrInfo) lb = resolve(b);
	for (const AddrInfo *x = la; x; x = x->ai_next)
		for (const AddrInfo *y = lb; y; y = y->ai_next)
			if (same_address(x->ai_addr, y->ai_addr))
				return true;
	return false;
}

static char *list_names(const ClusterMap *map, const GArray *ids)
{
	GString *s = g_string_new(NULL);

	for (uint32_t i = 0; i < ids->len; i++) {
		g_autofree char *name = peers_format(map_peer(map, g_array_index(ids, uint16_t, i)));
		g_string_append_printf(s, "%s%s", i ? ", " : "", name);
	}
	return g_string_free(s, false);
}

static bool matches_listen(const MapPeer *p, const char *host, uint16_t port)
{
	return (!port || port == p->port) && is_same_host(p->host, host);
}

bool peers_find_self(const ClusterMap *map, const char *listen, uint16_t *ret_self, GError **error)
{
	g_autoptr(GArray) found = g_array_new(false, false, sizeof(uint16_t));
	g_autofree char *host = NULL;
	uint16_t port = 0;
	struct ifaddrs *interfaces = NULL;

	if (listen && !map_parse_address(listen, &host, &port)) {
		options_set_error(error, "--listen takes host[:port], not '%s'", listen);
		return false;
	}
	if (!listen)
		(void)getifaddrs(&interfaces); /* none: only loopback is local */
	g_autoptr(IfAddrs) guard = interfaces;
	for (uint16_t id = 0; id < map_peer_count(map); id++) {
		const MapPeer *p = map_peer(map, id);
		g_autoptr(AddrInfo) addrs = listen ? NULL : resolve(p->host);
		if (listen ? matches_listen(p, host, port) : is_local(addrs, guard))
			g_array_append_val(found, id);
	}
	if (found->len == 1) {
		*ret_self = g_array_index(found, uint16_t, 0);
		return true;
	}
	g_autofree char *names = list_names(map, found);
	if (found->len)
		options_set_error(error, "%u entries of the peer list are this machine (%s): choose one with --listen ADDR:PORT", found->len, names);
	else if (listen)
		options_set_error(error, "--listen %s is not in the list of peers; a machine that is not in it can mount with --client", listen);
	else
		options_set_error(error, "no entry of the peer list is an address of this machine: add it, choose one with --listen, or mount without a store with --client");
	return false;
}
