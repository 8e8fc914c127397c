#define G_LOG_DOMAIN "heldback"
#include "common/heldback.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/autoclose.h"
#include "common/ino.h"

#define FILE_NAME "held-back"
#define MAGIC UINT64_C(0x31444c4548534642) /* "BFSHELD1" */
#define AT_ONCE 32u
#define AWAY_NS INT64_C(1000000000) /* for a call */
#define ROUND_NS INT64_C(3000000000) /* for a home that leaves calls unanswered; the next round tries again */

typedef struct Slot {
	WireHeldBack held; /* .ino 0: free; .base_ns 0: asked, and no answer yet */
	uint64_t pad;
} Slot;
static_assert(sizeof(Slot) == 64, "one cache line");

typedef struct Entry {
	uint64_t ino;
	Slot *slot;
	uint32_t asking; /* COMMITs under way */
	bool settling;
	bool unsure;     /* a SETTLE was not answered, and may still arrive */
} Entry;

typedef struct File {
	uint64_t magic;
	uint64_t pad[7];
	Slot slots[HELDBACK_SLOTS];
} File;

struct HeldBack {
	Rpc *rpc;
	Counters *counters;
	HeldBackUser user;
	File *file;
	GHashTable *entries; /* &Entry.ino -> Entry, owned */
	uint32_t free[HELDBACK_SLOTS], n_free;
	bool started, stopping, settling, left_over;
	CoGroup group;
	uint64_t files, writes, settled, asked;
};

static const CounterRow rows[] = {
	{ "heldback.files", offsetof(HeldBack, files) },
	{ "heldback.writes", offsetof(HeldBack, writes) },
	{ "heldback.settled", offsetof(HeldBack, settled) },
	{ "heldback.asked", offsetof(HeldBack, asked) },
};

/* ---- the file ---- */

/* What a crash may leave of the first start. */
static bool is_blank(int fd, off_t size)
{
	char bytes[4096];

	for (off_t at = 0; at < size;) {
		ssize_t n = pread(fd, bytes, sizeof(bytes), at);

		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n; i++) {
			if (bytes[i])
				return false;
		}
		at += n;
	}
	return true;
}

static bool size_is_ok(int fd, off_t size)
{
	return size == sizeof(File) || (size < (off_t)sizeof(File) && is_blank(fd, size));
}

static File *map_file(const char *path, GError **error)
{
	autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat st;
	File *file;

	if (fd < 0 || fstat(fd, &st) < 0)
		goto failed;
	if (!size_is_ok(fd, st.st_size)) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s is no file of sizes held back: it has %" G_GINT64_FORMAT
			    " bytes instead of %zu", path, (gint64)st.st_size, sizeof(File));
		return NULL;
	}
	/* All of it, since a full disk would show as a signal later. */
	int r = posix_fallocate(fd, 0, sizeof(File));
	if (r != 0) {
		errno = r;
		goto failed;
	}
	file = mmap(NULL, sizeof(File), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (file != MAP_FAILED)
		return file;
failed:
	g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "can't use %s: %s", path, g_strerror(errno));
	return NULL;
}

static Entry *find(const HeldBack *h, uint64_t ino)
{
	return h ? g_hash_table_lookup(h->entries, &ino) : NULL;
}

static Entry *add_entry(HeldBack *h, Slot *slot)
{
	Entry *e = g_new0(Entry, 1);

	e->ino = slot->held.ino;
	e->slot = slot;
	g_hash_table_insert(h->entries, &e->ino, e);
	h->files++;
	return e;
}

static void free_slot(HeldBack *h, Slot *slot)
{
	__atomic_store_n(&slot->held.ino, 0, __ATOMIC_RELEASE);
	h->free[h->n_free++] = (uint32_t)(slot - h->file->slots);
}

/* After a power failure one that was given back may be there again, beside what
 * came later. */
static void load_slot(HeldBack *h, Slot *slot)
{
	Entry *e = find(h, slot->held.ino);
	Slot *older = slot;

	if (slot->held.ino && !heldback_valid(&slot->held, slot->held.ino, map_peer_count(rpc_map(h->rpc))))
		g_warning("what was held back of inode %#" PRIx64 " makes no sense, ignoring", slot->held.ino);
	else if (slot->held.ino && !e) {
		add_entry(h, slot);
		return;
	} else if (slot->held.ino && slot->held.mtime_ns > e->slot->held.mtime_ns) {
		older = e->slot;
		e->slot = slot;
	}
	free_slot(h, older);
}

static bool load(HeldBack *h, const char *path, GError **error)
{
	if (h->file->magic == 0)
		h->file->magic = MAGIC;
	if (h->file->magic != MAGIC) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s is no file of sizes held back, or of another version", path);
		return false;
	}
	for (uint32_t i = HELDBACK_SLOTS; i-- > 0;)
		load_slot(h, &h->file->slots[i]);
	return true;
}

/* As long as it is; the rest is zeros. */
static int read_file(int fd, File *file)
{
	for (size_t at = 0; at < sizeof(*file);) {
		ssize_t n = pread(fd, (char *)file + at, sizeof(*file) - at, (off_t)at);

		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		at += (size_t)n;
	}
	return 0;
}

int heldback_read(int storefd, WireHeldBack **ret_slots)
{
	autoclose int fd = openat(storefd, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	g_autofree File *file = NULL;
	struct stat st;

	*ret_slots = NULL;
	if (fd < 0)
		return errno == ENOENT ? 0 : errno == ELOOP ? -EINVAL : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || !size_is_ok(fd, st.st_size))
		return -EINVAL;
	file = g_malloc0(sizeof(*file));
	int r = read_file(fd, file);
	if (r < 0 || (file->magic != 0 && file->magic != MAGIC))
		return r < 0 ? r : -EINVAL;
	*ret_slots = g_new(WireHeldBack, HELDBACK_SLOTS);
	for (uint32_t i = 0; i < HELDBACK_SLOTS; i++)
		(*ret_slots)[i] = file->slots[i].held;
	return 0;
}

bool heldback_any(const WireHeldBack *held)
{
	return held->ino && held->mtime_ns != held->base_ns;
}

/* Far from where one more would overflow. */
static bool time_ok(int64_t ns)
{
	return ns > INT64_MIN / 2 && ns < INT64_MAX / 2;
}

bool heldback_valid(const WireHeldBack *held, uint64_t ino, uint32_t peers)
{
	/* More blocks than a file can have would overflow their sum. */
	return held->ino == ino && ino_valid(ino) && held->end <= INT64_MAX && held->blocks <= UINT64_C(1) << 52 && held->target < peers &&
	       time_ok(held->mtime_ns) && time_ok(held->ctime_ns);
}

WireHeldBack heldback_get(const HeldBack *h, uint64_t ino)
{
	const Entry *e = find(h, ino);

	return e && heldback_any(&e->slot->held) ? e->slot->held : (WireHeldBack) { 0 };
}

/* A number that is there makes the rest count. */
static void fill(Slot *slot, const WireHeldBack *held)
{
	__atomic_store_n(&slot->held.ino, 0, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	WireHeldBack rest = *held;
	rest.ino = 0;
	slot->held = rest;
	__atomic_store_n(&slot->held.ino, held->ino, __ATOMIC_RELEASE);
}

static void want_settled(HeldBack *h);

bool heldback_ask(HeldBack *h, uint64_t ino)
{
	WireHeldBack nothing = { .ino = ino };
	Entry *e = find(h, ino);

	if (h->stopping || (e ? e->settling || e->unsure : h->n_free == 0))
		return false;
	if (!e) {
		Slot *slot = &h->file->slots[h->free[--h->n_free]];

		fill(slot, &nothing);
		e = add_entry(h, slot);
		want_settled(h);
	}
	e->asking++;
	return true;
}

void heldback_granted(HeldBack *h, const WireHeldBack *state)
{
	Entry *e = find(h, state->ino);

	e->asking--;
	fill(e->slot, state);
}

void heldback_failed(HeldBack *h, uint64_t ino)
{
	find(h, ino)->asking--;
}

/* Between the stores it is of a write that did not return. */
bool heldback_put(HeldBack *h, const WireHeldBack *held)
{
	Entry *e = find(h, held->ino);
	WireHeldBack *to = e ? &e->slot->held : NULL;

	if (!e || e->settling || to->base_ns != held->base_ns || to->target != held->target)
		return false;
	__atomic_store_n(&to->blocks, held->blocks, __ATOMIC_RELEASE);
	__atomic_store_n(&to->ctime_ns, held->ctime_ns, __ATOMIC_RELEASE);
	__atomic_store_n(&to->mtime_ns, held->mtime_ns, __ATOMIC_RELEASE);
	__atomic_store_n(&to->end, held->end, __ATOMIC_RELEASE);
	h->writes++;
	return true;
}

void heldback_drop(HeldBack *h, const WireHeldBack *held)
{
	Entry *e = find(h, held->ino);

	if (!e || e->asking || e->settling || e->slot->held.mtime_ns != held->mtime_ns || e->slot->held.base_ns != held->base_ns)
		return;
	free_slot(h, e->slot);
	h->files--;
	g_hash_table_remove(h->entries, &held->ino);
}

/* ---- settling ---- */

typedef struct Settle {
	HeldBack *h;
	uint64_t ino;
	uint16_t home;
	bool unanswered;
} Settle;

/* The part of one home in a round. */
typedef struct SettleHome {
	HeldBack *h;
	Settle *settles;
	uint32_t n, at_once;
	int64_t until_ns;
	bool last; /* the process is ending */
} SettleHome;

/* heldback_drop() leaves the entry meanwhile. */
static void coroutine_fn settle(void *arg)
{
	Settle *s = arg;
	HeldBack *h = s->h;
	Entry *e = find(h, s->ino);
	RpcCall call = { .timeout_ns = AWAY_NS };

	if (!e || e->asking || e->settling)
		return;
	e->settling = true;
	if (h->user.settling)
		h->user.settling(h->user.arg, s->ino);
	WireHeldBack held = e->slot->held;
	call.req = &held;
	call.req_len = sizeof(held);
	int r = rpc_co_call(h->rpc, s->home, WIRE_SETTLE, &call);
	e->settling = false;
	e->unsure = r < 0 && r != -ENOENT && r != -ESTALE && r != -EINVAL;
	s->unanswered = e->unsure;
	if (e->unsure)
		return; /* again, later */
	h->settled++;
	heldback_drop(h, &held);
}

/* All, if it takes long, as long as each is answered: what a living home is not
 * told answers -EIO to everybody when we are gone. */
static void coroutine_fn settle_home(void *arg)
{
	SettleHome *home = arg;
	Reactor *reactor = rpc_reactor(home->h->rpc);

	for (uint32_t from = 0; from < home->n; from += home->at_once) {
		uint32_t to = MIN(home->n, from + home->at_once);
		CoGroup group = { .sched = reactor_sched(reactor) };
		bool unanswered = false;

		for (uint32_t i = from; i < to; i++)
			co_group_spawn(&group, settle, &home->settles[i]);
		co_group_wait(&group);
		for (uint32_t i = from; i < to; i++)
			unanswered |= home->settles[i].unanswered;
		if (unanswered && (reactor_now_ns(reactor) >= home->until_ns || home->h->stopping != home->last))
			return;
	}
}

static int compare_homes(const void *a, const void *b)
{
	return (int)((const Settle *)a)->home - (int)((const Settle *)b)->home;
}

/* By home. */
static GArray *collect(HeldBack *h)
{
	GArray *all = g_array_new(FALSE, FALSE, sizeof(Settle));
	GHashTableIter it;
	void *entry;

	g_hash_table_iter_init(&it, h->entries);
	while (g_hash_table_iter_next(&it, NULL, &entry)) {
		uint64_t ino = ((Entry *)entry)->ino;
		Settle s = { .h = h, .ino = ino, .home = map_home(rpc_map(h->rpc), ino) };

		g_array_append_val(all, s);
	}
	g_array_sort(all, compare_homes);
	return all;
}

/* At once for all homes: one that is away keeps nothing from the others. */
static void coroutine_fn settle_all(HeldBack *h)
{
	g_autoptr(GArray) all = collect(h);
	g_autoptr(GArray) homes = g_array_new(FALSE, FALSE, sizeof(SettleHome));
	Reactor *reactor = rpc_reactor(h->rpc);
	CoGroup group = { .sched = reactor_sched(reactor) };

	for (guint i = 0; i < all->len; i++) {
		Settle *s = &g_array_index(all, Settle, i);
		SettleHome home = {
			.h = h, .settles = s, .until_ns = reactor_now_ns(reactor) + ROUND_NS, .last = h->stopping,
		};

		if (i == 0 || s[-1].home != s->home)
			g_array_append_val(homes, home);
		g_array_index(homes, SettleHome, homes->len - 1).n++;
	}
	for (guint i = 0; i < homes->len; i++) {
		SettleHome *home = &g_array_index(homes, SettleHome, i);

		home->at_once = MAX(AT_ONCE / homes->len, 1);
		co_group_spawn(&group, settle_home, home);
	}
	co_group_wait(&group);
}

static void coroutine_fn settle_in_time(void *arg)
{
	HeldBack *h = arg;

	/* What an older process has left, at once. */
	if (h->left_over)
		settle_all(h);
	h->left_over = false;
	while (h->files > 0 && !h->stopping) {
		reactor_co_sleep(rpc_reactor(h->rpc), HELDBACK_NS);
		if (!h->stopping)
			settle_all(h);
	}
	h->settling = false;
}

static void want_settled(HeldBack *h)
{
	if (h->settling || h->stopping || !h->started || h->files == 0)
		return;
	h->settling = true;
	co_group_spawn(&h->group, settle_in_time, h);
}

/* ---- the home asks ---- */

static int coroutine_fn serve_held_back(void *ctx, RpcReq *r)
{
	HeldBack *h = ctx;
	const WireInoReq *req = r->req;
	WireHeldBack *rep = r->rep;

	h->asked++;
	if (h->user.recalled)
		h->user.recalled(h->user.arg, req->ino);
	/* It stays until the home says that it is settled: the answer may be lost. */
	*rep = heldback_get(h, req->ino);
	return 0;
}

/* ---- life ---- */

HeldBack *heldback_new(Rpc *rpc, Counters *counters, const char *store, GError **error)
{
	g_autofree char *path = g_build_filename(store, FILE_NAME, NULL);
	File *file = map_file(path, error);

	if (!file)
		return NULL;
	HeldBack *h = g_new0(HeldBack, 1);
	h->rpc = rpc;
	h->counters = counters;
	h->file = file;
	h->entries = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
	h->group.sched = reactor_sched(rpc_reactor(rpc));
	counters_add_rows(counters, rows, G_N_ELEMENTS(rows), h);
	if (!load(h, path, error)) {
		heldback_free(h);
		return NULL;
	}
	rpc_serve(rpc, WIRE_HELD_BACK, serve_held_back, h);
	return h;
}

void heldback_set_user(HeldBack *h, const HeldBackUser *user)
{
	h->user = *user;
}

void heldback_start(HeldBack *h)
{
	h->started = true;
	h->left_over = true;
	want_settled(h);
}

void coroutine_fn heldback_co_stop(HeldBack *h)
{
	h->stopping = true;
	co_group_wait(&h->group);
	if (h->started)
		settle_all(h);
}

void heldback_free(HeldBack *h)
{
	if (!h)
		return;
	counters_remove_rows(h->counters, rows, G_N_ELEMENTS(rows), h);
	munmap(h->file, sizeof(File));
	g_hash_table_destroy(h->entries);
	g_free(h);
}
