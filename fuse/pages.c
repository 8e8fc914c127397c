#include "fuse/pages.h"

#include <glib.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "fuse/fuse-kernel.h"

#define PLACES 65536u
/* The kernel leaves a page that somebody copies from at that moment, and says
 * nothing. Whoever begins to read while it drops asks for attributes first, and
 * waits, so next time it is left alone. */
#define DROPS 2
#define SIZE_UNKNOWN UINT64_MAX
#define MTIME_UNKNOWN 0
#define CROWD_NS INT64_C(1000000000)

typedef struct Page {
	uint64_t ino; /* 0: none */
	int64_t mtime_ns;
	uint64_t size;
	uint32_t reads;
	uint32_t thread;  /* which asked last, or wrote, */
	int64_t asked_ns; /* and when; CLOCK_MONOTONIC as the next */
	int64_t crowd_until_ns;
	bool unsure; /* of several threads one may still go by an older size */
} Page;

/* Pages that are being dropped; on the stack of who does it. */
typedef struct Drop {
	uint64_t ino;
	CoQueue waiters;
} Drop;

struct Pages {
	PagesOptions opts;
	GHashTable *drops; /* &Drop.ino -> Drop */
	Page pages[PLACES];
};

Pages *pages_new(const PagesOptions *opts)
{
	Pages *p = g_new0(Pages, 1);

	p->opts = *opts;
	p->drops = g_hash_table_new(g_int64_hash, g_int64_equal);
	return p;
}

void pages_free(Pages *p)
{
	if (!p)
		return;
	g_hash_table_destroy(p->drops);
	g_free(p);
}

static Page *place(Pages *p, uint64_t ino)
{
	return &p->pages[(ino * UINT64_C(0x9e3779b97f4a7c15)) >> 48];
}

static Page fresh(uint64_t ino, const WireAttr *attr)
{
	return (Page) {
		.ino = ino, .mtime_ns = attr ? attr->mtime_ns : MTIME_UNKNOWN, .size = attr ? attr->size : SIZE_UNKNOWN,
	};
}

void pages_open(Pages *p, uint64_t ino, const WireAttr *attr)
{
	Page *page = place(p, ino);

	if (page->ino != ino)
		*page = fresh(ino, attr);
}

void pages_read(Pages *p, uint64_t ino, const WireAttr *attr)
{
	Page *page = place(p, ino);
	uint32_t reads = page->reads + 1;

	if (page->ino != ino)
		*page = fresh(ino, attr);
	else
		page->mtime_ns = MIN(page->mtime_ns, attr ? attr->mtime_ns : MTIME_UNKNOWN);
	page->reads = reads;
}

/* Is this thread one of several that use the file? The first that comes beside
 * another may do so before that one has taken note of its answer. */
static bool is_crowd(Page *page, uint32_t thread)
{
	int64_t now_ns = clock_monotonic_ns();
	bool is_other = page->thread != thread || !thread;

	if (is_other && page->asked_ns && now_ns - page->asked_ns < CROWD_NS) {
		page->unsure |= now_ns >= page->crowd_until_ns;
		page->crowd_until_ns = now_ns + CROWD_NS;
	}
	page->thread = thread;
	page->asked_ns = now_ns;
	return now_ns < page->crowd_until_ns;
}

uint32_t pages_writing(Pages *p, uint64_t ino, uint32_t thread)
{
	if (!p)
		return 0;
	Page *page = place(p, ino);
	if (page->ino == ino)
		is_crowd(page, thread);
	return page->reads;
}

void pages_written(Pages *p, const WireAttr *attr, int64_t prev_mtime_ns, uint32_t writing)
{
	Page *page = place(p, attr->ino);
	bool read_between = page->reads != writing;

	if (page->ino != attr->ino) {
		*page = (Page) {
			.ino = attr->ino, .mtime_ns = read_between ? MTIME_UNKNOWN : attr->mtime_ns,
			.size = SIZE_UNKNOWN, .reads = page->reads,
		};
	} else if (page->mtime_ns == prev_mtime_ns) {
		page->size = attr->size;
		page->mtime_ns = read_between ? prev_mtime_ns : attr->mtime_ns;
	}
}

bool pages_have_size(Pages *p, const WireAttr *attr)
{
	const Page *page = place(p, attr->ino);

	return page->ino == attr->ino && page->size == attr->size;
}

/* On a thread of the kernel, since it waits for locks of pages. Who holds one
 * waits for a READ or a WRITE, never for attributes. */
static void coroutine_fn co_notify(Pages *p, const void *msg, size_t len)
{
	uring_co_write_blocking(p->opts.uring, p->opts.fd, msg, len);
}

/* The kernel makes a file that long when it is given its last byte, whatever it
 * has asked for. It may keep the byte, so that must be the right one. */
static void coroutine_fn co_give_size(Pages *p, const WireAttr *attr)
{
	struct __attribute__((packed)) {
		struct fuse_out_header out;
		struct fuse_notify_store_out arg;
		uint8_t byte;
	} msg = {
		.out = { .len = sizeof(msg), .error = FUSE_NOTIFY_STORE },
		.arg = { .nodeid = attr->ino, .offset = attr->size - 1, .size = 1 },
	};

	/* Where it has become shorter, the next read finds that out. */
	if (p->opts.last_byte(p->opts.arg, attr, &msg.byte))
		co_notify(p, &msg, sizeof(msg));
}

/* give: the kernel is to take this for its size; NULL: it need not. */
static void coroutine_fn co_drop(Pages *p, uint64_t ino, const WireAttr *give)
{
	struct {
		struct fuse_out_header out;
		struct fuse_notify_inval_inode_out arg; /* len 0: all of it */
	} msg = {
		.out = { .len = sizeof(msg), .error = FUSE_NOTIFY_INVAL_INODE },
		.arg = { .ino = ino },
	};
	Drop drop = { .ino = ino }, *other;

	while ((other = g_hash_table_lookup(p->drops, &ino)))
		co_queue_wait(&other->waiters);
	g_hash_table_insert(p->drops, &drop.ino, &drop);
	for (int i = 0; i < DROPS; i++)
		co_notify(p, &msg, sizeof(msg));
	if (give)
		co_give_size(p, give);
	g_hash_table_remove(p->drops, &drop.ino);
	co_queue_wake_all(&drop.waiters);
}

void coroutine_fn pages_co_drop(Pages *p, uint64_t ino)
{
	co_drop(p, ino, NULL);
}

/* What is dropped from now on is as new as the attributes are, or newer. */
void coroutine_fn pages_co_show(Pages *p, const WireAttr *attr, uint32_t thread)
{
	Page *page = place(p, attr->ino);
	Drop *drop;

	if (!S_ISREG(attr->mode))
		return;
	while ((drop = g_hash_table_lookup(p->drops, &attr->ino)))
		co_queue_wait(&drop->waiters);
	if (page->ino != attr->ino)
		return;
	bool crowd = is_crowd(page, thread);
	bool is_new = page->unsure || page->size == SIZE_UNKNOWN || attr->size > page->size;
	bool give = crowd && is_new && attr->size && p->opts.is_hot(p->opts.arg, attr->ino);
	bool older = page->mtime_ns != attr->mtime_ns && page->size == attr->size;
	page->mtime_ns = attr->mtime_ns;
	page->size = attr->size;
	page->unsure = false;
	if (give || older)
		co_drop(p, attr->ino, give ? attr : NULL);
}
