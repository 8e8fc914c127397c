#include "fuse/held.h"

#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"

#define BUCKETS 65536u
#define HOT_NS INT64_C(1000000000)

typedef struct HeldInode {
	uint64_t ino, term, lease;
	uint64_t told; /* the count of Held.tells then; 0: not */
	uint16_t home;
	bool has_attr, listing_told, shown, is_exclusive;
	HeldExclusive exclusive;
	uint64_t names_told; /* == Held.names_epoch: the kernel may have some */
	int64_t shown_mtime_ns;
	WireAttr attr;
	GHashTable *names; /* HeldName by text, owned; NULL: none */
	GPtrArray *list;   /* of HeldName, borrowed from names; NULL: none */
	uint64_t listed;   /* cookie up to which list is complete */
	bool listed_all;
	GList lru;
} HeldInode;

struct Held {
	HeldOptions opts;
	GHashTable *inodes; /* number -> HeldInode */
	GQueue lru;         /* the latest first */
	uint64_t events, leases, tells;
	uint64_t names_epoch; /* from 1; ends when the kernel forgets all names */
	uint64_t *last_event; /* by bucket of the number */
	uint32_t *changing;   /* the same: changes of ours under way */
	int64_t *recalled_ns; /* the same: when the last recall came, CLOCK_MONOTONIC */
	HeldStats stats;
};

static uint32_t bucket(uint64_t ino)
{
	return (uint32_t)((ino * UINT64_C(0x9e3779b97f4a7c15)) >> 48) % BUCKETS;
}

/* ---- names ---- */

static guint name_hash(const void *p)
{
	const HeldName *n = p;
	guint hash = 5381;

	for (uint16_t i = 0; i < n->len; i++)
		hash = hash * 33 + (guint8)n->text[i];
	return hash;
}

static gboolean name_equal(const void *a, const void *b)
{
	const HeldName *x = a, *y = b;

	return x->len == y->len && !memcmp(x->text, y->text, x->len);
}

HeldName *held_name_new(const char *name, size_t len, uint64_t ino, uint32_t mode, uint64_t cookie)
{
	HeldName *n = g_malloc(sizeof(*n) + len + 1);

	*n = (HeldName) { .ino = ino, .cookie = cookie, .mode = mode, .len = (uint16_t)len };
	memcpy(n->text, name, len);
	n->text[len] = '\0';
	return n;
}

static void drop_names(Held *h, HeldInode *i)
{
	if (!i->names)
		return;
	h->stats.names -= g_hash_table_size(i->names);
	g_clear_pointer(&i->list, g_ptr_array_unref);
	g_clear_pointer(&i->names, g_hash_table_unref);
	i->listed = 0;
	i->listed_all = false;
}

/* ---- inodes ---- */

Held *held_new(const HeldOptions *opts)
{
	Held *h = g_new0(Held, 1);

	*h = (Held) {
		.opts = *opts,
		.names_epoch = 1,
		.inodes = g_hash_table_new(g_int64_hash, g_int64_equal),
		.last_event = g_new0(uint64_t, BUCKETS),
		.changing = g_new0(uint32_t, BUCKETS),
		.recalled_ns = g_new0(int64_t, BUCKETS),
	};
	return h;
}

static void forget(Held *h, HeldInode *i)
{
	drop_names(h, i);
	g_queue_unlink(&h->lru, &i->lru);
	g_hash_table_remove(h->inodes, &i->ino);
	h->stats.inodes--;
	g_free(i);
}

/* The kernel first: while it has attributes, we must know that it does. */
static void untell_and_forget(Held *h, HeldInode *i)
{
	if (i->told)
		h->opts.untold(h->opts.arg, i->ino);
	if (i->names_told == h->names_epoch) {
		h->names_epoch++;
		h->opts.untold_names(h->opts.arg);
	}
	if (i->listing_told)
		h->opts.untold_listing(h->opts.arg, i->ino);
	forget(h, i);
}

void held_free(Held *h)
{
	if (!h)
		return;
	while (h->lru.head)
		forget(h, h->lru.head->data);
	g_hash_table_destroy(h->inodes);
	g_free(h->last_event);
	g_free(h->changing);
	g_free(h->recalled_ns);
	g_free(h);
}

static void make_room(Held *h)
{
	while (h->stats.inodes > h->opts.max_inodes)
		untell_and_forget(h, h->lru.tail->data);
	/* Never those of the inode that was used last. */
	while (h->stats.names > h->opts.max_names && h->lru.length > 1)
		untell_and_forget(h, h->lru.tail->data);
}

static void touch(Held *h, HeldInode *i)
{
	g_queue_unlink(&h->lru, &i->lru);
	g_queue_push_head_link(&h->lru, &i->lru);
}

static int64_t until_ns(Held *h, const HeldInode *i)
{
	return h->opts.until_ns(h->opts.arg, i->home, i->term);
}

/* One whose lease is good. */
static HeldInode *find(Held *h, uint64_t ino)
{
	HeldInode *i = g_hash_table_lookup(h->inodes, &ino);

	if (!i)
		return NULL;
	if (!until_ns(h, i)) {
		untell_and_forget(h, i);
		return NULL;
	}
	touch(h, i);
	return i;
}

/* ---- grants ---- */

HeldAsk held_ask(Held *h, uint16_t home)
{
	return (HeldAsk) { .event = h->events, .term = h->opts.term(h->opts.arg, home), .home = home };
}

static bool counts(Held *h, const HeldAsk *ask, uint64_t ino)
{
	uint32_t b = bucket(ino);

	return h->last_event[b] <= ask->event && !h->changing[b] && h->opts.until_ns(h->opts.arg, ask->home, ask->term);
}

static HeldInode *grant(Held *h, const HeldAsk *ask, uint64_t ino)
{
	if (!counts(h, ask, ino)) {
		h->stats.refused++;
		return NULL;
	}
	HeldInode *i = find(h, ino);
	if (!i) {
		i = g_new0(HeldInode, 1);
		*i = (HeldInode) { .ino = ino, .term = ask->term, .lease = ++h->leases, .home = ask->home, .lru.data = i };
		g_hash_table_insert(h->inodes, &i->ino, i);
		g_queue_push_head_link(&h->lru, &i->lru);
		h->stats.inodes++;
		make_room(h);
	}
	return i;
}

bool held_grant(Held *h, const HeldAsk *ask, const WireAttr *attr)
{
	HeldInode *i = grant(h, ask, attr->ino);

	if (!i)
		return false;
	i->attr = *attr;
	i->has_attr = true;
	i->is_exclusive = false;
	return true;
}

bool held_grant_bare(Held *h, const HeldAsk *ask, uint64_t ino)
{
	return grant(h, ask, ino);
}

const WireAttr *held_attr(Held *h, uint64_t ino)
{
	HeldInode *i = find(h, ino);

	if (!i || !i->has_attr) {
		h->stats.misses++;
		return NULL;
	}
	h->stats.hits++;
	return &i->attr;
}

void held_set_atime(Held *h, const WireAttr *attr)
{
	HeldInode *i = g_hash_table_lookup(h->inodes, &attr->ino);

	if (i && i->has_attr && i->attr.ctime_ns == attr->ctime_ns)
		i->attr.atime_ns = attr->atime_ns;
}

void held_grant_exclusive(Held *h, const WireAttr *attr, const WireBlocks *blocks)
{
	HeldInode *i = find(h, attr->ino);

	if (!i || !i->has_attr || i->attr.mtime_ns != attr->mtime_ns || i->attr.ctime_ns != attr->ctime_ns)
		return;
	i->is_exclusive = true;
	i->exclusive = (HeldExclusive) { .base_ns = attr->mtime_ns, .blocks = *blocks };
}

HeldExclusive *held_exclusive(Held *h, uint64_t ino)
{
	HeldInode *i = find(h, ino);

	return i && i->is_exclusive ? &i->exclusive : NULL;
}

/* Whatever was asked before brings what the home had then. */
void held_set_written(Held *h, const WireAttr *attr)
{
	HeldInode *i = g_hash_table_lookup(h->inodes, &attr->ino);

	i->attr = *attr;
	h->last_event[bucket(attr->ino)] = ++h->events;
}

void held_end_exclusive(Held *h, uint64_t ino)
{
	HeldInode *i = g_hash_table_lookup(h->inodes, &ino);

	if (i)
		i->is_exclusive = false;
}

int64_t held_until_ns(Held *h, uint64_t ino)
{
	HeldInode *i = find(h, ino);

	return i ? until_ns(h, i) : 0;
}

/* ---- names in directories ---- */

/* Of a directory all of whose names are kept, others are known not to be. */
static const HeldName *find_name(HeldInode *i, const char *name, size_t len)
{
	static const HeldName nothing;
	_Alignas(HeldName) char room[sizeof(HeldName) + WIRE_NAME_MAX];
	HeldName *key = (HeldName *)room;

	if (!i || !i->names || len > WIRE_NAME_MAX)
		return NULL;
	key->len = (uint16_t)len;
	memcpy(key->text, name, len);
	const HeldName *n = g_hash_table_lookup(i->names, key);
	return n || !i->listed_all ? n : &nothing;
}

const HeldName *held_name(Held *h, uint64_t dir, const char *name, size_t len)
{
	const HeldName *n = find_name(find(h, dir), name, len);

	if (n)
		h->stats.hits++;
	else
		h->stats.misses++;
	return n;
}

static HeldInode *with_names(Held *h, uint64_t dir)
{
	HeldInode *i = find(h, dir);

	if (i && !i->names)
		i->names = g_hash_table_new_full(name_hash, name_equal, g_free, NULL);
	return i;
}

/* Takes n; returns the one that is kept. */
static HeldName *put(Held *h, HeldInode *i, HeldName *n)
{
	HeldName *old = g_hash_table_lookup(i->names, n);

	if (old) {
		old->ino = n->ino;
		old->mode = n->mode;
		old->cookie = n->cookie ? n->cookie : old->cookie;
		g_free(n);
		return old;
	}
	g_hash_table_add(i->names, n);
	h->stats.names++;
	return n;
}

void held_put_name(Held *h, uint64_t dir, const char *name, size_t len, uint64_t ino, uint32_t mode)
{
	HeldInode *i = with_names(h, dir);

	if (!i)
		return;
	put(h, i, held_name_new(name, len, ino, mode, 0));
	make_room(h);
}

void held_put_listing(Held *h, uint64_t dir, uint64_t from, GPtrArray *names, bool eof)
{
	HeldInode *i = with_names(h, dir);

	if (!i || i->listed != from || i->listed_all)
		return;
	if (!i->list)
		i->list = g_ptr_array_new();
	for (guint k = 0; k < names->len; k++) {
		HeldName *n = put(h, i, g_steal_pointer(&names->pdata[k]));

		i->listed = n->cookie;
		g_ptr_array_add(i->list, n);
	}
	i->listed_all = eof;
	make_room(h);
}

/* The index of the first name behind a cookie. */
static guint behind(const GPtrArray *list, uint64_t cookie)
{
	guint low = 0, high = list->len;

	while (low < high) {
		guint mid = low + (high - low) / 2;

		if (((HeldName *)list->pdata[mid])->cookie <= cookie)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

HeldName *const *held_listing(Held *h, uint64_t dir, uint64_t cookie, uint32_t *ret_n)
{
	static HeldName *const none[1];
	HeldInode *i = find(h, dir);

	*ret_n = 0;
	if (!i || !i->list)
		return NULL;
	guint at = behind(i->list, cookie);
	if (at == i->list->len && !i->listed_all)
		return NULL;
	*ret_n = i->list->len - at;
	return *ret_n ? (HeldName *const *)&i->list->pdata[at] : none;
}

/* ---- what happens ---- */

static void happens(Held *h, uint64_t ino)
{
	HeldInode *i = g_hash_table_lookup(h->inodes, &ino);

	h->last_event[bucket(ino)] = ++h->events;
	if (i)
		untell_and_forget(h, i);
}

void held_recall(Held *h, uint64_t ino)
{
	h->recalled_ns[bucket(ino)] = clock_monotonic_ns();
	happens(h, ino);
}

void held_begin(Held *h, uint16_t home, HeldChange *c)
{
	for (uint32_t k = 0; k < c->n; k++) {
		h->changing[bucket(c->inos[k])]++;
		happens(h, c->inos[k]);
	}
	for (uint32_t k = 0; k < c->n; k++)
		c->asks[k] = held_ask(h, home);
}

void held_end(Held *h, HeldChange *c)
{
	bool undisturbed[2] = { false, false };

	for (uint32_t k = 0; k < c->n; k++) {
		uint32_t b = bucket(c->inos[k]);

		g_assert(h->changing[b] > 0);
		undisturbed[k] = --h->changing[b] == 0 && h->last_event[b] <= c->asks[k].event;
	}
	for (uint32_t k = 0; k < c->n; k++)
		happens(h, c->inos[k]);
	for (uint32_t k = 0; k < c->n; k++)
		c->asks[k].event = undisturbed[k] ? h->events : 0;
}

/* ---- the kernel ---- */

void held_tell(Held *h, uint64_t ino)
{
	HeldInode *i = g_hash_table_lookup(h->inodes, &ino);

	if (i)
		i->told = ++h->tells;
}

uint64_t held_told(Held *h, uint64_t ino)
{
	const HeldInode *i = g_hash_table_lookup(h->inodes, &ino);

	return i ? i->told : 0;
}

bool held_is_hot(const Held *h, uint64_t ino)
{
	int64_t recalled_ns = h->recalled_ns[bucket(ino)];

	return recalled_ns && clock_monotonic_ns() - recalled_ns < HOT_NS;
}

bool held_tell_attr(Held *h, const WireAttr *attr)
{
	HeldInode *i = find(h, attr->ino);

	if (!i || !i->has_attr || i->attr.ctime_ns != attr->ctime_ns || i->attr.size != attr->size)
		return false;
	if (S_ISREG(attr->mode) && held_is_hot(h, attr->ino))
		return false;
	held_tell(h, attr->ino);
	return true;
}

bool held_tell_name(Held *h, uint64_t dir, const char *name, size_t len, uint64_t ino)
{
	HeldInode *i = find(h, dir);
	const HeldName *n = find_name(i, name, len);

	if (!n || n->ino != ino)
		return false;
	i->names_told = h->names_epoch;
	return true;
}

uint64_t held_lease(Held *h, uint64_t ino)
{
	HeldInode *i = find(h, ino);

	return i ? i->lease : 0;
}

void held_tell_listing(Held *h, uint64_t dir)
{
	HeldInode *i = g_hash_table_lookup(h->inodes, &dir);

	if (i)
		i->listing_told = true;
}

void held_show(Held *h, const WireAttr *attr)
{
	HeldInode *i = g_hash_table_lookup(h->inodes, &attr->ino);

	if (!i)
		return;
	i->shown = true;
	i->shown_mtime_ns = attr->mtime_ns;
}

bool held_pages_good(Held *h, uint64_t ino)
{
	HeldInode *i = find(h, ino);

	return i && i->has_attr && i->shown && i->shown_mtime_ns == i->attr.mtime_ns;
}

const HeldStats *held_stats(const Held *h)
{
	return &h->stats;
}
