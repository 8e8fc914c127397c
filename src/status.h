#pragma once
/*
 * What `benchfs status` shows. A node writes it as text, one "key value" line
 * each, which is also the benchfs.status extended attribute of the root;
 * the command reads that back and prints a table or JSON.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"

typedef struct StatusPeer {
	uint16_t id;
	char *address;
	char *state;  /* self, up, down */
	char *reason; /* why it is down, or NULL */
	uint32_t slots;
	WirePeerInfoRep info; /* zero when down */
} StatusPeer;

typedef struct Status {
	char *version, *mount, *channel, *cluster;
	uint64_t pid, uptime_s, epoch;
	char *self;       /* the peer id in decimal, or "client" */
	GPtrArray *peers; /* of StatusPeer */
} Status;

Status *status_new(void);
void status_free(Status *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Status, status_free)
StatusPeer *status_add_peer(Status *s);

/* All three: to be freed. */
char *status_to_text(const Status *s);
char *status_to_json(const Status *s);
char *status_to_table(const Status *s);
/* NULL when it is not the text of a status. */
Status *status_from_text(const char *text);
/* Does every peer answer? */
bool status_is_healthy(const Status *s);
