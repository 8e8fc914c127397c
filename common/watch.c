/*
 * The descriptor by which other threads wake the context is there for good, so
 * its poll request stays on the ring from one iteration to the next and is
 * renewed only after it fired. Any other is watched for one call of the poll
 * function at a time and then cancelled: GLib does not say when a descriptor is
 * closed, the same number may be another file a moment later, and a request on
 * the ring goes on watching the old file. We have hardly any of those.
 *
 * Requests are one-shot. Asking again looks at the descriptor's state first,
 * so a source that left data behind is ready again, as GLib expects.
 */
#include "common/watch.h"

#include <errno.h>

typedef struct Watch {
	UringOp op;
	Watches *set; /* NULL: given up, freed by its completion */
	gushort revents;
	bool armed;
} Watch;

struct Watches {
	Uring *uring;
	int wake_fd;
	Watch *wake;
	GPtrArray *list; /* of Watch, in the order of GLib's array */
	uint32_t fired;
};

static void watch_done(UringOp *op, int res, uint32_t flags)
{
	Watch *w = (Watch *)op;
	w->armed = false;
	if (!w->set) {
		g_free(w);
		return;
	}
	if (res == -ECANCELED)
		return;
	w->revents = res < 0 ? G_IO_NVAL : (gushort)res;
	w->set->fired++;
}

static Watch *watch_new(Watches *set)
{
	Watch *w = g_new(Watch, 1);
	*w = (Watch) { .op.done = watch_done, .set = set };
	return w;
}

static void watch_arm(Watch *w, int fd, gushort events)
{
	struct io_uring_sqe *sqe = uring_get_sqe(w->set->uring);
	io_uring_prep_poll_add(sqe, fd, events);
	uring_sqe_set_op(sqe, &w->op);
	w->armed = true;
}

/* Frees it now, or when the cancelled request's completion comes. */
static void watch_drop(Watch *w)
{
	if (!w->armed) {
		g_free(w);
		return;
	}
	uring_cancel(w->set->uring, &w->op);
	w->set = NULL;
}

Watches *watches_new(Uring *u, int wake_fd)
{
	Watches *set = g_new(Watches, 1);
	*set = (Watches) { .uring = u, .wake_fd = wake_fd, .list = g_ptr_array_new() };
	set->wake = watch_new(set);
	return set;
}

void watches_free(Watches *set)
{
	if (!set)
		return;
	g_assert(!set->wake->armed && !set->list->len);
	g_free(set->wake);
	g_ptr_array_free(set->list, TRUE);
	g_free(set);
}

void watches_arm(Watches *set, const GPollFD *fds, guint n)
{
	set->fired = 0;
	for (guint i = 0; i < n; i++) {
		bool is_wake = fds[i].fd == set->wake_fd;
		Watch *w = is_wake ? set->wake : watch_new(set);
		w->revents = 0;
		if (!w->armed && fds[i].fd >= 0)
			watch_arm(w, fds[i].fd, fds[i].events);
		g_ptr_array_add(set->list, w);
	}
}

bool watches_fired(const Watches *set)
{
	return set->fired != 0;
}

int watches_collect(Watches *set, GPollFD *fds, guint n)
{
	int ready = 0;
	for (guint i = 0; i < n; i++) {
		Watch *w = g_ptr_array_index(set->list, i);
		fds[i].revents = w->revents & (fds[i].events | G_IO_ERR | G_IO_HUP | G_IO_NVAL);
		ready += fds[i].revents != 0;
		if (w != set->wake)
			watch_drop(w);
	}
	g_ptr_array_set_size(set->list, 0);
	return ready;
}
