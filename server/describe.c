/* What `benchfs info` shows of a file's data. */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "server/data.h"

static void append_peer(GString *text, const ClusterMap *map, uint16_t id)
{
	const MapPeer *peer = map_peer(map, id);

	g_string_append_printf(text, "peer %u", id);
	if (!peer || !peer->host)
		return;
	bool v6 = strchr(peer->host, ':') != NULL;

	g_string_append_printf(text, v6 ? " ([%s]:%u)" : " (%s:%u)", peer->host, peer->port);
}

/* The last chunk matters little where it was only assigned ahead. */
static void append_run(GString *text, const ClusterMap *map, const WireRun *run)
{
	if (run->count == 1)
		g_string_append_printf(text, "chunk %" PRIu64 " on ", run->first);
	else
		g_string_append_printf(text, "chunks %" PRIu64 "-%" PRIu64 " on ", run->first, run_end(run) - 1);
	if (run->width > 1)
		g_string_append_printf(text, "peers 0-%u in turn, from ", run->width - 1u);
	append_peer(text, map, run->target);
	g_string_append_c(text, '\n');
}

void coroutine_fn data_co_describe(Server *s, Inode *inode, GString *text)
{
	g_autoptr(Runs) runs = NULL;

	if (!S_ISREG(inode->d.attr.mode))
		return;
	if (inode->d.flags & INODE_INLINE) {
		g_string_append(text, "inline on ");
		append_peer(text, s->map, s->self);
		g_string_append_c(text, '\n');
		return;
	}
	int r = filemap_co_get(s, &inode->d, &runs);
	if (r < 0) {
		g_string_append_printf(text, "data: the chunk map can't be read: %s\n", g_strerror(-r));
		return;
	}
	for (uint32_t i = 0; i < runs->n; i++)
		append_run(text, s->map, &runs->v[i]);
	for (uint32_t i = 0; i < inode->d.n_blocks; i++) {
		append_peer(text, s->map, inode->d.blocks[i].target);
		g_string_append_printf(text, " holds %" PRIu64 " bytes\n", inode->d.blocks[i].blocks * 512);
	}
}
