#include "fuse/listings.h"

#include <glib.h>

#define SWEEP_MIN 1024u

/* What the kernel has, or may be about to put down, of a directory that is here.
 * Of others it has nothing that it would use. */
typedef struct Dir {
	Listings *owner;
	uint64_t ino;
	uint64_t lease;   /* all of it is of this one; 0: of several or none */
	uint64_t replies; /* so far */
	GQueue threads;   /* of Thread.link: with a reply on its way */
	bool dropping;
	CoQueue dropped;
	GList link;
} Dir;

typedef struct Thread {
	uint32_t id;
	Dir *dir;
	GList link;
} Thread;

struct Listings {
	ListingsOptions opts;
	GHashTable *dirs;    /* Dir.ino -> Dir */
	GHashTable *threads; /* id -> Thread */
	GQueue lru;          /* of Dir.link; the latest first */
	uint32_t sweep_at;   /* threads that are too many for not looking */
	bool blind;          /* a thread without a name has had a reply */
};

Listings *listings_new(const ListingsOptions *opts)
{
	Listings *l = g_new0(Listings, 1);

	l->opts = *opts;
	l->sweep_at = SWEEP_MIN;
	l->dirs = g_hash_table_new(g_int64_hash, g_int64_equal);
	l->threads = g_hash_table_new(NULL, NULL);
	return l;
}

static void forget_thread(Listings *l, Thread *t)
{
	g_queue_unlink(&t->dir->threads, &t->link);
	g_hash_table_remove(l->threads, GUINT_TO_POINTER(t->id));
	g_free(t);
}

static void forget_dir(Listings *l, Dir *d)
{
	while (d->threads.head)
		forget_thread(l, d->threads.head->data);
	g_queue_unlink(&l->lru, &d->link);
	g_hash_table_remove(l->dirs, &d->ino);
	g_free(d);
}

void listings_free(Listings *l)
{
	if (!l)
		return;
	while (l->lru.head)
		forget_dir(l, l->lru.head->data);
	g_hash_table_destroy(l->dirs);
	g_hash_table_destroy(l->threads);
	g_free(l);
}

static Dir *find(const Listings *l, uint64_t ino)
{
	return g_hash_table_lookup(l->dirs, &ino);
}

uint32_t listings_size(const Listings *l)
{
	return g_hash_table_size(l->dirs);
}

/* ---- threads ---- */

void listings_went_on(Listings *l, uint32_t thread)
{
	Thread *t = g_hash_table_lookup(l->threads, GUINT_TO_POINTER(thread));

	if (t)
		forget_thread(l, t);
}

static void drop_dead(Listings *l, Dir *d)
{
	for (GList *link = d->threads.head, *next; link; link = next) {
		Thread *t = link->data;

		next = link->next;
		if (!l->opts.thread_exists(l->opts.arg, t->id))
			forget_thread(l, t);
	}
}

static bool any_on_its_way(Listings *l, Dir *d)
{
	drop_dead(l, d);
	return d->threads.length;
}

/* ---- drops ---- */

/* What comes down after its beginning may be there after its end. */
static void coroutine_fn drop(Listings *l, Dir *d)
{
	uint64_t replies = d->replies;
	bool all_down = !any_on_its_way(l, d);

	l->opts.drop(l->opts.arg, d->ino);
	d->dropping = false;
	co_queue_wake_all(&d->dropped);
	if (all_down && d->replies == replies)
		forget_dir(l, d);
}

static void coroutine_fn drop_behind(void *arg)
{
	Dir *d = arg;

	drop(d->owner, d);
}

static void begin_drop(Dir *d)
{
	d->dropping = true;
	d->lease = 0;
}

static void spawn_drop(Listings *l, Dir *d)
{
	if (d->dropping)
		return;
	begin_drop(d);
	if (!l->opts.spawn(l->opts.arg, drop_behind, d))
		d->dropping = false;
}

/* Who waited finds out whether it is still there. */
void coroutine_fn listings_co_show(Listings *l, uint64_t dir)
{
	Dir *d;

	while ((d = find(l, dir)) && d->dropping)
		co_queue_wait(&d->dropped);
}

void listings_lease_ended(Listings *l, uint64_t dir)
{
	Dir *d = find(l, dir);

	if (d)
		spawn_drop(l, d);
}

/* ---- listings ---- */

void coroutine_fn listings_co_begin(Listings *l, uint64_t dir, uint64_t lease)
{
	listings_co_show(l, dir);
	Dir *d = find(l, dir);
	if (!d || (d->lease && d->lease == lease) || any_on_its_way(l, d))
		return;
	begin_drop(d);
	drop(l, d);
}

bool listings_may_keep(Listings *l, uint64_t dir, uint64_t lease)
{
	Dir *d = find(l, dir);

	return d && lease && d->lease == lease && !d->dropping && !l->blind && !any_on_its_way(l, d);
}

static void make_room(Listings *l)
{
	GList *link = l->lru.tail;

	/* Those with replies on their way get a second chance instead. */
	if (g_hash_table_size(l->dirs) <= l->opts.max || link == l->lru.head)
		return;
	Dir *d = link->data;
	g_queue_unlink(&l->lru, link);
	g_queue_push_head_link(&l->lru, link);
	if (!any_on_its_way(l, d))
		spawn_drop(l, d);
}

static Dir *find_or_add(Listings *l, uint64_t ino, uint64_t lease)
{
	Dir *d = find(l, ino);

	if (d) {
		g_queue_unlink(&l->lru, &d->link);
		g_queue_push_head_link(&l->lru, &d->link);
		return d;
	}
	make_room(l);
	d = g_new(Dir, 1);
	*d = (Dir) { .owner = l, .ino = ino, .lease = lease, .threads = G_QUEUE_INIT, .link.data = d };
	g_hash_table_insert(l->dirs, &d->ino, d);
	g_queue_push_head_link(&l->lru, &d->link);
	return d;
}

/* Most threads are of processes that have ended since. */
static void sweep_threads(Listings *l)
{
	if (g_hash_table_size(l->threads) < l->sweep_at)
		return;
	for (GList *link = l->lru.head; link; link = link->next)
		drop_dead(l, link->data);
	l->sweep_at = MAX(2 * g_hash_table_size(l->threads), SWEEP_MIN);
}

static void put_on_its_way(Listings *l, Dir *d, uint32_t thread)
{
	Thread *t = g_new(Thread, 1);

	*t = (Thread) { .id = thread, .dir = d, .link.data = t };
	g_hash_table_insert(l->threads, GUINT_TO_POINTER(thread), t);
	g_queue_push_tail_link(&d->threads, &t->link);
}

void listings_reply(Listings *l, uint64_t dir, uint64_t lease, uint32_t thread)
{
	Dir *d = find_or_add(l, dir, lease);

	d->replies++;
	if (d->lease != lease)
		d->lease = 0;
	listings_went_on(l, thread);
	sweep_threads(l);
	if (thread)
		put_on_its_way(l, d, thread);
	else
		l->blind = true;
}
