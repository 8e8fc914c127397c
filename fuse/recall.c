#include "fuse/recall.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "common/clock.h"
#include "fuse/data.h"

/* Of attributes at 200 bytes each, and of names at about 80. */
#define INODES_MAX 262144u
#define NAMES_MAX 524288u
#define LISTINGS_MAX INODES_MAX
#define TELL_MINOR 32 /* of the protocol: Linux 5.10 */
#define TELL_MAX_S 86400
#define ON_ITS_WAY_NS INT64_C(250000000) /* the kernel counts from when it has the reply */
#define TELL_NAME_MAX_S 4.0 /* what is mounted on ours makes one change wait so long */

/* ---- mapped pages ---- */

#define MOMENT_NS INT64_C(50000000)
#define QUIET_NS INT64_C(1000000000)

typedef struct PageDrop {
	Mount *m;
	uint64_t ino;
	bool again;
	bool asked; /* the kernel has, for attributes, meanwhile */
} PageDrop;

static bool coroutine_fn is_size_new(const PageDrop *d)
{
	WireAttr attr;

	return mount_co_getattr(d->m, d->ino, &attr) == 0 && !pages_have_size(d->m->pages, &attr);
}

static bool is_wanted(const PageDrop *d)
{
	return !d->asked && !d->m->stopping && !held_pages_good(d->m->held, d->ino);
}

static void coroutine_fn co_wait_for_quiet(const PageDrop *d)
{
	for (int64_t left_ns = QUIET_NS; left_ns > 0 && is_wanted(d); left_ns -= MOMENT_NS)
		reactor_co_sleep(d->m->reactor, MOMENT_NS);
}

/*
 * Not at once: the recall comes before its change, so pages read right after it
 * would still be old. And not while somebody reads on: the kernel, which then asks
 * for attributes each time, sees to pages itself, and would ignore the answer to a
 * question that a drop overtakes. Where that would be a new size (pages.h) it is
 * better to be sure that nobody reads.
 */
static void coroutine_fn drop_pages(void *arg)
{
	PageDrop *d = arg;
	Mount *m = d->m;

	do {
		d->again = d->asked = false;
		reactor_co_sleep(m->reactor, MOMENT_NS);
		if (is_wanted(d) && is_size_new(d))
			co_wait_for_quiet(d);
		if (is_wanted(d))
			pages_co_drop(m->pages, d->ino);
	} while ((d->again || d->asked) && !m->stopping);
	g_hash_table_remove(m->page_drops, &d->ino);
}

void recall_asked(Mount *m, uint64_t ino)
{
	PageDrop *d = m->page_drops ? g_hash_table_lookup(m->page_drops, &ino) : NULL;

	if (d)
		d->asked = true;
}

/* One at a time for each file: what comes meanwhile is done once more. */
static void spawn_drop(Mount *m, uint64_t ino)
{
	PageDrop *d = g_hash_table_lookup(m->page_drops, &ino);

	if (m->stopping || !open_table_is_open(m->opens, ino))
		return;
	if (d) {
		d->again = true;
		return;
	}
	d = g_new(PageDrop, 1);
	*d = (PageDrop) { .m = m, .ino = ino };
	g_hash_table_insert(m->page_drops, &d->ino, d);
	mount_spawn(m, drop_pages, d);
}

static bool coroutine_fn last_byte(void *arg, const WireAttr *attr, uint8_t *ret_byte)
{
	g_autofree uint8_t *buf = g_malloc(data_read_room(1));

	if (data_co_read(arg, attr->ino, buf, 1, attr->size - 1) != 1)
		return false;
	*ret_byte = buf[0];
	return true;
}

static bool is_hot(void *arg, uint64_t ino)
{
	return held_is_hot(((Mount *)arg)->held, ino);
}

Pages *recall_make_pages(Mount *m)
{
	PagesOptions opts = {
		.uring = reactor_uring(m->reactor), .fd = m->fd, .is_hot = is_hot, .last_byte = last_byte, .arg = m,
	};

	return pages_new(&opts);
}

void recall_pages_read(Mount *m, uint64_t ino)
{
	if (m->held && !held_until_ns(m->held, ino))
		spawn_drop(m, ino);
}

/* ---- recalls ---- */

static int coroutine_fn serve_recall(void *ctx, RpcReq *r)
{
	Mount *m = ctx;
	const WireRecallReq *req = r->req;

	if (req->n > WIRE_RECALL_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < req->n; i++) {
		held_recall(m->held, req->inos[i]);
		spawn_drop(m, req->inos[i]);
	}
	recall_co_names_gone(m);
	return 0;
}

static uint64_t lease_term(void *arg, uint16_t home)
{
	return rpc_lease_term(((Mount *)arg)->rpc, home);
}

static int64_t lease_until_ns(void *arg, uint16_t home, uint64_t term)
{
	return rpc_lease_until_ns(((Mount *)arg)->rpc, home, term);
}

static void untold(void *arg, uint64_t ino)
{
	mount_forget_attr(arg, ino);
}

static void untold_names(void *arg)
{
	Mount *m = arg;
	struct fuse_out_header out = { .len = sizeof(out), .error = FUSE_NOTIFY_INC_EPOCH_CODE };
	struct iovec iov = { &out, sizeof(out) };

	if (m->submounts && submounts_any(m->submounts))
		m->stuck_until_ns = m->names_until_ns;
	else if (m->classic)
		channel_classic_write(m->classic, &iov, 1);
}

void coroutine_fn recall_co_names_gone(Mount *m)
{
	while (m->stuck_until_ns && !m->stopping) {
		int64_t left_ns = m->stuck_until_ns - clock_monotonic_ns();

		if (left_ns > 0)
			reactor_co_sleep(m->reactor, left_ns);
		else
			m->stuck_until_ns = 0;
	}
}

/* ---- listings that the kernel keeps ---- */

static void untold_listing(void *arg, uint64_t dir)
{
	listings_lease_ended(((Mount *)arg)->listings, dir);
}

static void coroutine_fn drop_listing(void *arg, uint64_t dir)
{
	pages_co_drop(((Mount *)arg)->pages, dir);
}

static bool spawn_for_listing(void *arg, CoFn *fn, void *fn_arg)
{
	Mount *m = arg;

	if (m->stopping)
		return false;
	mount_spawn(m, fn, fn_arg);
	return true;
}

/* The kernel numbers threads as it does for who has mounted. */
static bool thread_exists(void *arg, uint32_t thread)
{
	return kill((pid_t)thread, 0) == 0 || errno != ESRCH;
}

static Listings *make_listings(Mount *m)
{
	ListingsOptions opts = {
		.max = LISTINGS_MAX,
		.drop = drop_listing, .spawn = spawn_for_listing, .thread_exists = thread_exists, .arg = m,
	};

	return listings_new(&opts);
}

/* ---- attaching ---- */

static const CounterRow rows[] = {
	{ "lease.kept_inodes", offsetof(HeldStats, inodes) },
	{ "lease.kept_names", offsetof(HeldStats, names) },
	{ "lease.hits", offsetof(HeldStats, hits) },
	{ "lease.misses", offsetof(HeldStats, misses) },
	{ "lease.grants_refused", offsetof(HeldStats, refused) },
};

void recall_attach(Mount *m)
{
	HeldOptions opts = {
		.max_inodes = INODES_MAX, .max_names = NAMES_MAX,
		.term = lease_term, .until_ns = lease_until_ns, .untold = untold, .untold_names = untold_names,
		.untold_listing = untold_listing, .arg = m,
	};

	m->held = held_new(&opts);
	m->listings = make_listings(m);
	m->page_drops = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
	rpc_serve(m->rpc, WIRE_RECALL, serve_recall, m);
	counters_add_rows(m->opts.counters, rows, G_N_ELEMENTS(rows), held_stats(m->held));
}

void recall_detach(Mount *m)
{
	if (m->held)
		counters_remove_rows(m->opts.counters, rows, G_N_ELEMENTS(rows), held_stats(m->held));
	g_clear_pointer(&m->page_drops, g_hash_table_unref);
	pages_free(g_steal_pointer(&m->pages));
	held_free(g_steal_pointer(&m->held));
	listings_free(g_steal_pointer(&m->listings));
}

/* Seconds that a lease lasts without further word: a process that is stopped
 * can't tell the kernel when it is over. */
static double seconds_left(Mount *m, uint64_t ino)
{
	int64_t until_ns = held_until_ns(m->held, ino);

	if (!until_ns)
		return 0;
	return CLAMP((double)(until_ns - clock_monotonic_ns()) / 1e9, 0, TELL_MAX_S);
}

double recall_tell(Mount *m, const WireAttr *attr)
{
	if (!m->held || m->kernel_minor < TELL_MINOR)
		return m->timeout;
	if (!held_tell_attr(m->held, attr))
		return 0;
	return seconds_left(m, attr->ino);
}

double recall_tell_name(Mount *m, uint64_t dir, const char *name, uint64_t ino)
{
	if (!m->held || m->kernel_minor < FUSE_NOTIFY_INC_EPOCH_MINOR)
		return m->timeout;
	if (m->submounts && submounts_seen(m->submounts) && submounts_any(m->submounts))
		return 0;
	if (!held_tell_name(m->held, dir, name, strlen(name), ino))
		return 0;
	double left = MIN(seconds_left(m, dir), TELL_NAME_MAX_S);
	m->names_until_ns = MAX(m->names_until_ns, clock_monotonic_ns() + (int64_t)(left * 1e9) + ON_ITS_WAY_NS);
	return left;
}
