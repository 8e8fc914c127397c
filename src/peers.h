#pragma once
/* Who the peers are, which of them this process is, and their secret. */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/map.h"
#include "src/options.h"

#define SECRET_MIN 16u  /* bytes */
#define SECRET_MAX 4096u

/* The map of --peers or --hostfile, or the embedded one. Blocks. */
ClusterMap *peers_map(const Options *o, GError **error);
/* Which entry is this machine: the one --listen names, else the only one whose
 * address belongs to a local interface. Asks the resolver, so it blocks. */
bool peers_find_self(const ClusterMap *map, const char *listen, uint16_t *ret_self, GError **error);
/* "host:port", IPv6 in brackets. */
char *peers_format(const MapPeer *p);

/* Where the secret is when nobody says. To be freed. */
char *secret_default_path(void);
/* Without the newline behind it. Refuses a file that others may read. */
GBytes *secret_load(const char *path, GError **error);
/* Makes a new one in a new file of mode 0600. */
bool secret_create(const char *path, GError **error);
