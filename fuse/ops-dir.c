/*
 * Directories. A listing is read at the directory's home in portions that fit
 * the kernel's buffer; where to go on is the cookie of the last entry, which
 * means the same to every mount and after every restart.
 *
 * Names whose hashes are equal share a cookie. Of such a group the kernel must
 * get all or none in one portion, since it would go on behind all of them.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/internal.h"

/* What an entry with attributes takes in the kernel's buffer and on the wire,
 * with a name of average length. */
#define PLUS_KERNEL 176
#define PLUS_WIRE 128
/* What is fetched at once of a listing that is kept. */
#define PORTION (128u << 10)

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	Mount *m = mount_of(req);

	/* The kernel needs no opens of directories: its ENOSYS mode, which also lets
	 * it keep listings. Alone it drops them at each change that it makes itself,
	 * and nobody else makes any; with others see listings.h. */
	if (m->agreed & FUSE_NO_OPENDIR_SUPPORT) {
		ops_reply(req, -ENOSYS);
		return;
	}
	fi->cache_readdir = m->opts.alone;
	fi->keep_cache = m->opts.alone;
	fuse_reply_open(req, fi);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	ops_reply(req, 0);
}

/* An entry of READDIR's bulk, checked. */
typedef struct Entry {
	WireDirent d;
	WireAttr attr;
	char name[WIRE_NAME_MAX + 1];
	size_t wire_len;
} Entry;

static int take_entry(const uint8_t *at, size_t left, Entry *ret_entry)
{
	size_t head = sizeof(WireDirent);

	if (left < head)
		return -EIO;
	memcpy(&ret_entry->d, at, head);
	if (ret_entry->d.have_attr)
		head += sizeof(WireAttr);
	size_t len = ret_entry->d.name_len;
	if (len == 0 || len > WIRE_NAME_MAX || left < head + len)
		return -EIO;
	ret_entry->attr = (WireAttr) { .ino = ret_entry->d.ino, .mode = ret_entry->d.mode };
	if (ret_entry->d.have_attr)
		memcpy(&ret_entry->attr, at + sizeof(WireDirent), sizeof(WireAttr));
	memcpy(ret_entry->name, at + head, len);
	ret_entry->name[len] = '\0';
	ret_entry->wire_len = MIN((head + len + 7) & ~(size_t)7, left);
	return 0;
}

static bool is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* Adds to the kernel's buffer; returns what it takes or would take. */
static size_t put_entry(fuse_req_t req, char *buf, size_t room, const Entry *e, bool plus)
{
	Mount *m = mount_of(req);
	struct fuse_entry_param entry;

	ops_fill_entry(m, &e->attr, &entry);
	if (!plus)
		return fuse_add_direntry(req, buf, room, e->name, &entry.attr, (off_t)e->d.cookie);
	/* Node id 0: no attributes, look it up when they are wanted. */
	if (!e->d.have_attr || is_dot(e->name))
		entry.ino = 0;
	else
		ops_note_attr(m, &e->attr);
	if (entry.ino && m->places && S_ISDIR(e->attr.mode))
		places_put(m->places, e->attr.ino, request_current()->in->nodeid, reactor_now_ns(m->reactor));
	return fuse_add_direntry_plus(req, buf, room, e->name, &entry, (off_t)e->d.cookie);
}

typedef struct Listing {
	char *buf;
	size_t size, used;
	size_t group;         /* where the entries with the last cookie begin */
	uint64_t last_cookie;
} Listing;

/* 0: added; 1: full, and what is there ends with a whole group. */
static int add_entry(fuse_req_t req, Listing *l, const Entry *e, bool plus)
{
	bool new_group = !l->used || e->d.cookie != l->last_cookie;
	size_t n = put_entry(req, l->buf + l->used, l->size - l->used, e, plus);

	if (n > l->size - l->used) {
		if (!new_group)
			l->used = l->group;
		return 1;
	}
	if (new_group)
		l->group = l->used;
	l->last_cookie = e->d.cookie;
	l->used += n;
	return 0;
}

static int fill_listing(fuse_req_t req, Listing *l, const uint8_t *wire, size_t len, uint32_t count, bool plus)
{
	Entry e;

	for (uint32_t i = 0; i < count; i++) {
		if (take_entry(wire, len, &e) < 0)
			return -EIO;
		if (add_entry(req, l, &e, plus))
			/* Not even one group: the kernel would take it for the end. */
			return l->used ? 0 : -EIO;
		wire += e.wire_len;
		len -= e.wire_len;
	}
	return 0;
}

/* ---- listings that are kept ---- */

/* From kept names, which the kernel gets without attributes unless it asks for
 * them, as when a home tells none. */
static void fill_kept(fuse_req_t req, Listing *l, HeldName *const *names, uint32_t n, bool plus)
{
	Entry e = { .d.have_attr = 0 };

	for (uint32_t i = 0; i < n; i++) {
		const HeldName *name = names[i];

		e.d.ino = name->ino;
		e.d.cookie = name->cookie;
		e.attr = (WireAttr) { .ino = name->ino, .mode = name->mode };
		memcpy(e.name, name->text, (size_t)name->len + 1);
		if (add_entry(req, l, &e, plus))
			return;
	}
}

/* Returns the lease that it is under; 0: none. */
static uint64_t keep_portion(Mount *m, const HeldAsk *ask, const WireReaddirReq *req, const WireReaddirRep *rep, const uint8_t *wire, size_t len)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	Entry e;

	for (uint32_t i = 0; i < rep->count; i++) {
		if (take_entry(wire, len, &e) < 0)
			return 0;
		if (e.d.lease & WIRE_LEASE_INODE && e.d.have_attr)
			held_grant(m->held, ask, &e.attr);
		g_ptr_array_add(names, held_name_new(e.name, e.d.name_len, e.d.ino, e.d.mode & S_IFMT, e.d.cookie));
		wire += e.wire_len;
		len -= e.wire_len;
	}
	if (!(rep->lease & WIRE_LEASE_INODE) || !held_grant_bare(m->held, ask, req->dir))
		return 0;
	held_put_listing(m->held, req->dir, req->cookie, names, rep->eof);
	return held_lease(m->held, req->dir);
}

/* ---- listings that the kernel keeps ---- */

static Listings *kept_by_kernel(Mount *m)
{
	return m->agreed & FUSE_NO_OPENDIR_SUPPORT ? m->listings : NULL;
}

/* Each reading is to be seen where each moves atime. */
static bool may_keep(Mount *m, uint64_t dir, uint64_t lease)
{
	return !atimes_always(m->atimes) && listings_may_keep(kept_by_kernel(m), dir, lease);
}

/* A portion, or the end. At offset 0 it is never empty: each directory has two
 * names. Were it, the kernel would need no page for what it keeps. */
static void send_listing(fuse_req_t req, fuse_ino_t ino, uint64_t lease, const Listing *l)
{
	static const char too_short[8];
	Mount *m = mount_of(req);
	Listings *kept = kept_by_kernel(m);
	bool keep = l->used || !kept || may_keep(m, ino, lease);

	if (kept)
		listings_reply(kept, ino, lease, request_thread());
	if (kept && lease)
		held_tell_listing(m->held, ino);
	fuse_reply_buf(req, keep ? l->buf : too_short, keep ? l->used : sizeof(too_short));
}

static void reply_listing(fuse_req_t req, fuse_ino_t ino, off_t off, uint64_t lease, const Listing *l, int r)
{
	Mount *m = mount_of(req);

	if (r < 0) {
		ops_reply(req, r);
		return;
	}
	send_listing(req, ino, lease, l);
	if (!off)
		ops_note_read(m, ino, true, 0);
}

/* Of a listing that is to be kept a large portion is fetched, with attributes,
 * since the kernel will ask for the rest, and often for those of each. */
static void coroutine_fn list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	Mount *m = mount_of(req);
	WireReaddirReq ask = { .dir = ino, .cookie = (uint64_t)off, .plus = plus || m->held, .lease = m->held != NULL };
	WireReaddirRep rep;
	size_t room = m->held ? PORTION : plus ? MAX(size / PLUS_KERNEL * PLUS_WIRE, 2048) : MAX(size, 2048);
	g_autofree uint8_t *wire = g_malloc(room);
	RpcCall call = {
		.req = &ask, .req_len = sizeof(ask), .rep = &rep,
		.out = wire, .out_cap = room,
	};
	HeldAsk held = m->held ? held_ask(m->held, map_home(m->map, ino)) : (HeldAsk) { 0 };
	int r = mount_co_call(m, ino, WIRE_READDIR, &call);

	if (r < 0) {
		ops_reply(req, r);
		return;
	}
	uint64_t lease = m->held ? keep_portion(m, &held, &ask, &rep, wire, call.out_len) : 0;
	Listing l = { .buf = request_reply_buffer(request_current(), size), .size = size };
	r = fill_listing(req, &l, wire, call.out_len, rep.count, plus);
	reply_listing(req, ino, off, lease, &l, r);
}

static void coroutine_fn list_kept_or_ask(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	Mount *m = mount_of(req);
	uint32_t n = 0;

	if (!off && kept_by_kernel(m))
		listings_co_begin(m->listings, ino, held_lease(m->held, ino));
	HeldName *const *names = m->held ? held_listing(m->held, ino, (uint64_t)off, &n) : NULL;

	if (!names) {
		list(req, ino, size, off, plus);
		return;
	}
	Listing l = { .buf = request_reply_buffer(request_current(), size), .size = size };
	fill_kept(req, &l, names, n, plus);
	/* Not even one group: the kernel would take it for the end. */
	reply_listing(req, ino, off, held_lease(m->held, ino), &l, n && !l.used ? -EIO : 0);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	list_kept_or_ask(req, ino, size, off, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	list_kept_or_ask(req, ino, size, off, true);
}
