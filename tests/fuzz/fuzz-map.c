/* Peer lists: a map that holds together, or an error with a sentence. */
#include <glib.h>
#include <string.h>

#include "common/ino.h"
#include "common/map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	g_autofree char *list = g_strndup((const char *)data, len);
	g_autoptr(GError) error = NULL;
	ClusterMap *map = map_new_from_list(list, &error);
	uint8_t digest[32];
	uint32_t slots = 0;

	g_assert(!map == !!error);
	if (!map)
		return 0;
	for (uint16_t id = 0; id < map_peer_count(map); id++) {
		const MapPeer *p = map_peer(map, id);

		g_assert(p->id == id && p->port != 0 && strlen(p->host) > 0);
		slots += map_slots_of_peer(map, id);
		g_assert(map_slot_peer(map, map_slot_of_peer(map, id, len)) == id);
	}
	g_assert(slots == SLOT_COUNT);
	map_digest(map, digest);
	map_free(map);
	return 0;
}
