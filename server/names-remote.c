/*
 * Directories whose inode lives on another peer than their name. This peer has
 * the name and decides: the other prepares (durably), the batch that changes
 * the name is the decision, and the other is told. The lock of the parent is
 * held from before the question until after the decision, so whoever asks for
 * the decision (WIRE_LOOKUP_CHILD) under that lock gets the final answer. See
 * intents.h for the other side.
 */
#define G_LOG_DOMAIN "server"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "server/acls.h"
#include "server/intents.h"
#include "server/names.h"
#include "server/record.h"

typedef struct PrepareMessage {
	WireDirPrepareReq req;
	char name[WIRE_NAME_MAX];
} PrepareMessage;
static_assert(offsetof(PrepareMessage, name) == sizeof(WireDirPrepareReq), "the name follows the struct");

/* acl: what a new directory inherits, or NULL */
static int coroutine_fn prepare(Server *s, uint16_t peer, const Entry *e, PrepareMessage *m, const GByteArray *acl, WireAttrRep *ret_rep)
{
	m->req.parent = e->dir->d.attr.ino;
	m->req.name_len = (uint16_t)e->name.len;
	memcpy(m->name, e->name.text, e->name.len);
	RpcCall call = {
		.req = m, .req_len = (uint32_t)(sizeof(m->req) + e->name.len), .rep = ret_rep,
		.in = acl ? acl->data : NULL, .in_len = acl ? acl->len : 0,
	};
	return rpc_co_call(s->rpc, peer, WIRE_DIR_PREPARE, &call);
}

/* The name's batch, then word of how it ended. An abort is sent before the
 * lock is given back: it must not overtake the next attempt. */
static int coroutine_fn decide(Server *s, Change *c, uint64_t ino, uint32_t kind)
{
	int r = change_co_commit(c);

	if (r < 0)
		intents_co_tell(s, ino, kind, false);
	else
		intents_tell_behind(s, ino, kind);
	return r;
}

int coroutine_fn names_co_make_remote(Server *s, Entry *e, const RpcReq *caller, WireEntryRep *rep)
{
	const WireCreateReq *req = caller->req;
	g_auto(Change) c = { .caller = caller };
	g_autoptr(GByteArray) acl = NULL;
	InodeData d;
	WireAttrRep made;
	int r = acls_co_default(s, &e->dir->d, req->mode, &acl);

	if (r < 0)
		return r;
	names_new_inode(&e->dir->d, 0, req->mode, req->uid, req->gid, &d);
	PrepareMessage m = { .req = {
		.kind = WIRE_DIR_MAKE, .mode = d.attr.mode, .uid = d.attr.uid, .gid = d.attr.gid,
		.chunk_shift = d.attr.chunk_shift, .policy = d.attr.policy, .umask = (uint16_t)(req->umask & 0777),
	} };
	r = prepare(s, req->peer, e, &m, acl, &made);
	if (r < 0)
		return r;
	if (!S_ISDIR(made.attr.mode) || map_home(s->map, made.attr.ino) != req->peer)
		return -EPROTO;
	change_begin(&c, s);
	InodeData *dir = change_data(&c, e->dir);
	entry_count(dir, S_IFDIR, 1);
	inode_data_touch(dir, true);
	entry_put(c.b, e, made.attr.ino, S_IFDIR);
	r = decide(s, &c, made.attr.ino, WIRE_DIR_MAKE);
	if (r >= 0)
		*rep = (WireEntryRep) { .attr = made.attr, .have_attr = 1, .created = 1 };
	return r;
}

int coroutine_fn names_co_remove_remote(Server *s, Entry *e, const RpcReq *caller)
{
	g_auto(Change) c = { .caller = caller };
	PrepareMessage m = { .req = { .kind = WIRE_DIR_REMOVE, .ino = e->ino } };
	WireAttrRep unused;
	int r = prepare(s, map_home(s->map, e->ino), e, &m, NULL, &unused);

	if (r == -ENOENT)
		g_warning("directory %#" PRIx64 ": the inode of '%s' is lost, removing the name", e->dir->d.attr.ino, e->name.text);
	else if (r < 0)
		return r;
	change_begin(&c, s);
	InodeData *dir = change_data(&c, e->dir);
	entry_count(dir, S_IFDIR, -1);
	inode_data_touch(dir, true);
	entry_delete(c.b, e);
	return decide(s, &c, e->ino, WIRE_DIR_REMOVE);
}

/* By number, since the name may have been changed after the decision: a rename
 * within its directory does not tell the inode's home. */
static int coroutine_fn find_child(Server *s, Inode *dir, uint64_t ino, WireEntryRep *rep)
{
	Key prefix = key_ino(dir->d.attr.ino, RECORD_DIRENT);
	g_autoptr(MetaIter) it = meta_iter_new(s->meta, prefix.data, prefix.len, NULL, 0);
	const uint8_t *key, *value;
	size_t key_len, len;
	int r;

	while ((r = meta_iter_co_next(it, &key, &key_len, &value, &len)) > 0) {
		uint64_t found;
		uint32_t mode;

		if (!entry_decode(value, len, &found, &mode))
			return -EIO;
		if (found != ino)
			continue;
		rep->attr.ino = ino;
		rep->attr.mode = mode;
		return 0;
	}
	return r < 0 ? r : -ENOENT;
}

int coroutine_fn names_co_lookup_child(Server *s, Inode *dir, const Name *name, WireEntryRep *rep)
{
	guint64 ino;

	if (!g_ascii_string_to_unsigned(name->text, 10, 1, G_MAXUINT64, &ino, NULL))
		return -EINVAL;
	co_mutex_lock(&dir->lock);
	int r = find_child(s, dir, ino, rep);
	co_mutex_unlock(&dir->lock);
	return r;
}
