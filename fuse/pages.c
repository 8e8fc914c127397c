#include "fuse/pages.h"

#include <glib.h>
#include <sys/stat.h>

#include "fuse/fuse-kernel.h"

#define PLACES 65536u
/* The kernel leaves a page that somebody copies from at that moment, and says
 * nothing. Whoever begins to read while it drops asks for attributes first, and
 * waits, so next time it is left alone. */
#define DROPS 2

typedef struct Page {
	uint64_t ino; /* 0: none */
	int64_t mtime_ns;
	uint64_t size;
	uint32_t reads;
} Page;

/* Pages that are being dropped; on the stack of who does it. */
typedef struct Drop {
	uint64_t ino;
	CoQueue waiters;
} Drop;

struct Pages {
	Uring *uring;
	int fd;
	GHashTable *drops; /* &Drop.ino -> Drop */
	Page pages[PLACES];
};

Pages *pages_new(Uring *uring, int fd)
{
	Pages *p = g_new0(Pages, 1);

	p->uring = uring;
	p->fd = fd;
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

void pages_open(Pages *p, uint64_t ino, const WireAttr *attr)
{
	Page *page = place(p, ino);

	if (page->ino != ino)
		*page = (Page) { .ino = ino, .mtime_ns = attr ? attr->mtime_ns : 0, .size = attr ? attr->size : UINT64_MAX };
}

void pages_read(Pages *p, uint64_t ino, const WireAttr *attr)
{
	Page *page = place(p, ino);
	int64_t mtime_ns = attr ? attr->mtime_ns : 0;

	page->reads++;
	if (page->ino != ino)
		*page = (Page) { .ino = ino, .mtime_ns = mtime_ns, .size = attr ? attr->size : UINT64_MAX, .reads = page->reads };
	else
		page->mtime_ns = MIN(page->mtime_ns, mtime_ns);
}

uint32_t pages_writing(Pages *p, uint64_t ino)
{
	return p ? place(p, ino)->reads : 0;
}

void pages_written(Pages *p, const WireAttr *attr, int64_t prev_mtime_ns, uint32_t writing)
{
	Page *page = place(p, attr->ino);
	bool read_between = page->reads != writing;

	if (page->ino != attr->ino) {
		*page = (Page) {
			.ino = attr->ino, .mtime_ns = read_between ? 0 : attr->mtime_ns,
			.size = UINT64_MAX, .reads = page->reads,
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
void coroutine_fn pages_co_drop(Pages *p, uint64_t ino)
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
		uring_co_write_blocking(p->uring, p->fd, &msg, sizeof(msg));
	g_hash_table_remove(p->drops, &drop.ino);
	co_queue_wake_all(&drop.waiters);
}

/* What is dropped from now on is as new as the attributes are, or newer. */
void coroutine_fn pages_co_show(Pages *p, const WireAttr *attr)
{
	Page *page = place(p, attr->ino);
	Drop *drop;

	if (!S_ISREG(attr->mode))
		return;
	while ((drop = g_hash_table_lookup(p->drops, &attr->ino)))
		co_queue_wait(&drop->waiters);
	if (page->ino != attr->ino)
		return;
	bool older = page->mtime_ns != attr->mtime_ns && page->size == attr->size;
	page->mtime_ns = attr->mtime_ns;
	page->size = attr->size;
	if (older)
		pages_co_drop(p, attr->ino);
}
