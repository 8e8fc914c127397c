#include "common/map.h"

#include <string.h>

#include "common/ino.h"

struct ClusterMap {
	uint32_t epoch;
	GPtrArray *peers; /* of MapPeer, by id */
};

static void map_peer_free(void *data)
{
	MapPeer *p = data;

	g_free(p->host);
	g_free(p);
}

static void map_add(ClusterMap *map, char *host, uint16_t port)
{
	MapPeer *p = g_new0(MapPeer, 1);

	*p = (MapPeer) { .id = (uint16_t)map->peers->len, .host = host, .port = port };
	g_ptr_array_add(map->peers, p);
}

static ClusterMap *map_new(void)
{
	ClusterMap *map = g_new0(ClusterMap, 1);

	*map = (ClusterMap) { .epoch = 1, .peers = g_ptr_array_new_with_free_func(map_peer_free) };
	return map;
}

ClusterMap *map_new_embedded(void)
{
	ClusterMap *map = map_new();

	map_add(map, NULL, 0);
	return map;
}

void map_free(ClusterMap *map)
{
	if (!map)
		return;
	g_ptr_array_free(map->peers, TRUE);
	g_free(map);
}

static bool map_parse_port(const char *text, uint16_t *ret_port)
{
	guint64 port;

	if (!g_ascii_string_to_unsigned(text, 10, 1, UINT16_MAX, &port, NULL))
		return false;
	*ret_port = (uint16_t)port;
	return true;
}

/* What can stand in a host name, an IPv4 address, or (v6) inside brackets.
 * '%' names the interface of a link-local address. */
static bool map_host_ok(const char *host, size_t len, bool v6)
{
	if (len == 0 || len > 255 || host[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!g_ascii_isalnum(host[i]) && !strchr(v6 ? ":.%-_" : ".-_", host[i]))
			return false;
	return true;
}

bool map_parse_address(const char *text, char **ret_host, uint16_t *ret_port)
{
	bool v6 = text[0] == '[';
	const char *host = text + v6;
	size_t len = strcspn(host, v6 ? "]" : ":");
	const char *rest = host + len;
	uint16_t port = 0;

	if (v6 && *rest++ != ']')
		return false;
	if (!map_host_ok(host, len, v6))
		return false;
	if (*rest != '\0' && (*rest != ':' || !map_parse_port(rest + 1, &port)))
		return false;

	*ret_host = g_ascii_strdown(host, (gssize)len);
	*ret_port = port;
	return true;
}

static bool map_has(const ClusterMap *map, const char *host, uint16_t port)
{
	for (uint32_t i = 0; i < map->peers->len; i++) {
		const MapPeer *p = map->peers->pdata[i];

		if (p->port == port && strcmp(p->host, host) == 0)
			return true;
	}
	return false;
}

static bool map_add_item(ClusterMap *map, const char *item, GError **error)
{
	g_autofree char *host = NULL;
	uint16_t port;

	if (!map_parse_address(item, &host, &port)) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
		            "'%s' in the peer list is not an address: want HOST, HOST:PORT or [IPV6]:PORT", item);
		return false;
	}
	if (port == 0)
		port = BENCHFS_PORT;
	if (map_has(map, host, port)) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "'%s' is in the peer list twice", item);
		return false;
	}
	if (map->peers->len == PEER_MAX) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
		            "the peer list has more than %u peers, the first too many is '%s'", PEER_MAX, item);
		return false;
	}
	map_add(map, g_steal_pointer(&host), port);
	return true;
}

static bool map_add_line(ClusterMap *map, char *line, GError **error)
{
	g_auto(GStrv) items = NULL;

	line[strcspn(line, "#")] = '\0';
	items = g_strsplit_set(line, ", \t\r\f\v", -1);
	for (char **item = items; *item; item++)
		if (**item && !map_add_item(map, *item, error))
			return false;
	return true;
}

ClusterMap *map_new_from_list(const char *list, GError **error)
{
	ClusterMap *map = map_new();
	g_auto(GStrv) lines = g_strsplit(list, "\n", -1);

	for (char **line = lines; *line; line++)
		if (!map_add_line(map, *line, error))
			goto fail;
	if (map->peers->len == 0) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "the peer list is empty");
		goto fail;
	}
	return map;
fail:
	map_free(map);
	return NULL;
}

uint32_t map_epoch(const ClusterMap *map)
{
	return map->epoch;
}

uint32_t map_peer_count(const ClusterMap *map)
{
	return map->peers->len;
}

const MapPeer *map_peer(const ClusterMap *map, uint16_t id)
{
	return id < map->peers->len ? map->peers->pdata[id] : NULL;
}

uint16_t map_slot_peer(const ClusterMap *map, uint16_t slot)
{
	g_assert(slot < SLOT_COUNT);
	return (uint16_t)(slot % map->peers->len);
}

uint16_t map_home(const ClusterMap *map, uint64_t ino)
{
	return ino_valid(ino) ? map_slot_peer(map, ino_slot(ino)) : PEER_NONE;
}

uint32_t map_slots_of_peer(const ClusterMap *map, uint16_t peer)
{
	uint32_t n = map->peers->len;

	return peer < n ? (SLOT_COUNT - peer + n - 1) / n : 0;
}

uint16_t map_slot_of_peer(const ClusterMap *map, uint16_t peer, uint64_t salt)
{
	g_assert(peer < map->peers->len);
	return (uint16_t)(peer + salt % map_slots_of_peer(map, peer) * map->peers->len);
}

void map_digest(const ClusterMap *map, uint8_t ret_digest[32])
{
	g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
	gsize len = 32;

	for (uint32_t i = 0; i < map->peers->len; i++) {
		const MapPeer *p = map->peers->pdata[i];
		g_autofree char *line = g_strdup_printf("%s %u\n", p->host ? p->host : "-", p->port);

		g_checksum_update(sum, (const guchar *)line, -1);
	}
	g_checksum_get_digest(sum, ret_digest, &len);
}
