#define G_LOG_DOMAIN "fuse"
#include "fuse/atime.h"

#include <fcntl.h>
#include <glib.h>
#include <string.h>

#include "fuse/internal.h"

#define SLOTS 8192u /* by the low bits of the number */
#define MAX_AGE_NS (INT64_C(24) * 3600 * 1000000000)
#define PAUSE_NS INT64_C(1000000000)

typedef struct Slot {
	uint64_t ino;     /* 0: none */
	int64_t due_ns;   /* when a read moves atime, by the real clock */
	int64_t asked_ns; /* by the monotonic clock; 0: not since the last open */
} Slot;

struct Atimes {
	bool off, no_dirs, always;
	Slot slots[SLOTS];
};

static bool has_option(const char *list, const char *word)
{
	g_auto(GStrv) words = g_strsplit(list ? list : "", ",", -1);

	return g_strv_contains((const char *const *)words, word);
}

Atimes *atimes_new(const char *kernel_opts)
{
	Atimes *t = g_new0(Atimes, 1);

	t->off = has_option(kernel_opts, "noatime") || has_option(kernel_opts, "ro");
	t->no_dirs = has_option(kernel_opts, "nodiratime");
	t->always = has_option(kernel_opts, "strictatime");
	return t;
}

void atimes_free(Atimes *t)
{
	g_free(t);
}

bool atimes_always(const Atimes *t)
{
	return t->always;
}

static Slot *take_slot(Atimes *t, uint64_t ino)
{
	Slot *slot = &t->slots[ino % SLOTS];

	/* Of a stranger nothing is known: the home decides. */
	if (slot->ino != ino)
		*slot = (Slot) { .ino = ino };
	return slot;
}

void atimes_note(Atimes *t, const WireAttr *attr)
{
	bool now = attr->atime_ns <= attr->mtime_ns || attr->atime_ns <= attr->ctime_ns;

	if (!t->off)
		take_slot(t, attr->ino)->due_ns = now ? 0 : attr->atime_ns + MAX_AGE_NS;
}

void atimes_open(Atimes *t, uint64_t ino)
{
	if (!t->off)
		take_slot(t, ino)->asked_ns = 0;
}

bool atimes_read(Atimes *t, uint64_t ino, bool is_dir, int64_t now_ns, int64_t real_ns)
{
	if (t->off || (is_dir && t->no_dirs))
		return false;
	Slot *slot = take_slot(t, ino);
	if (slot->asked_ns && now_ns - slot->asked_ns < PAUSE_NS)
		return false;
	if (!t->always && real_ns < slot->due_ns)
		return false;
	slot->asked_ns = now_ns;
	return true;
}

/* ---- telling the home ---- */

typedef struct Telling {
	Mount *m;
	uint64_t ino;
	bool is_dir;
	uint64_t told; /* what held_told() was */
} Telling;

/* It keeps nothing that it was not told; and reading a directory it takes its
 * atime for stale by itself. Telling it so costs it more than that, ACLs as well;
 * it is needed where it has asked since. */
static bool kernel_knows(const Telling *t)
{
	uint64_t told = t->m->held ? held_told(t->m->held, t->ino) : 0;

	return t->m->held && (!told || (t->is_dir && told == t->told));
}

static void coroutine_fn tell(void *arg)
{
	g_autofree Telling *t = arg;
	WireAtimeReq req = { .ino = t->ino, .always = atimes_always(t->m->atimes) };
	WireAttrRep rep;
	RpcCall call = { .req = &req, .req_len = sizeof(req), .rep = &rep };
	int r = mount_co_call(t->m, t->ino, WIRE_ATIME, &call);

	/* Nobody waits for it, and the next read tries again. */
	if (r < 0)
		return;
	atimes_note(t->m->atimes, &rep.attr);
	if (r > 0 && t->m->held)
		held_set_atime(t->m->held, &rep.attr);
	if (r > 0 && !kernel_knows(t))
		mount_forget_attr(t->m, t->ino);
}

void ops_note_read(Mount *m, uint64_t ino, bool is_dir, int open_flags)
{
	int64_t real_ns = g_get_real_time() * 1000;
	const WireAttr *kept = m->held ? held_attr(m->held, ino) : NULL;

	if (kept)
		atimes_note(m->atimes, kept);
	if (open_flags & O_NOATIME || !atimes_read(m->atimes, ino, is_dir, reactor_now_ns(m->reactor), real_ns))
		return;
	Telling *t = g_new(Telling, 1);
	*t = (Telling) { m, ino, is_dir, m->held ? held_told(m->held, ino) : 0 };
	mount_spawn(m, tell, t);
}
