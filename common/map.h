#pragma once
/*
 * The cluster map: which peers there are, where each listens, and which peer
 * serves each of the 4096 slots. Numbered by an epoch. Today it is made once
 * from the static peer list: the i-th address of the list is peer i, and slot
 * s is served by peer s % n; a client that has no store is in no slot.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define PEER_NONE UINT16_C(0xffff)
#define PEER_MAX 1024u
#define BENCHFS_PORT 7460

typedef struct ClusterMap ClusterMap;

typedef struct MapPeer {
	uint16_t id;
	char *host; /* as written; NULL: this process alone, no network */
	uint16_t port;
} MapPeer;

/* The embedded map: one peer, id 0, no address. */
ClusterMap *map_new_embedded(void);
/* list: "host[:port]" items separated by commas, white space or newlines;
 * '#' starts a comment to the end of the line; IPv6 as [addr]:port.
 * Duplicate or malformed items: error with the item's text. */
ClusterMap *map_new_from_list(const char *list, GError **error);
void map_free(ClusterMap *map);

uint32_t map_epoch(const ClusterMap *map);
uint32_t map_peer_count(const ClusterMap *map);
/* NULL when there is no such peer. */
const MapPeer *map_peer(const ClusterMap *map, uint16_t id);
/* The peer that serves a slot; slot < SLOT_COUNT. */
uint16_t map_slot_peer(const ClusterMap *map, uint16_t slot);
/* The home of an inode. PEER_NONE when ino_valid() does not hold. */
uint16_t map_home(const ClusterMap *map, uint64_t ino);
/* A slot served by peer, spread by salt (any number). */
uint16_t map_slot_of_peer(const ClusterMap *map, uint16_t peer, uint64_t salt);
/* How many slots peer serves. */
uint32_t map_slots_of_peer(const ClusterMap *map, uint16_t peer);
/* SHA-256 over the normalised list, 32 bytes: peers compare it in the
 * handshake, a store remembers it. */
void map_digest(const ClusterMap *map, uint8_t ret_digest[32]);
/* Splits "host[:port]"; port 0 when absent. host is allocated. */
bool map_parse_address(const char *text, char **ret_host, uint16_t *ret_port);
