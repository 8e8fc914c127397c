#pragma once
/*
 * Descriptors that GLib asks the reactor to poll, as poll requests on the
 * ring. Private to the reactor.
 */
#include <glib.h>

#include "common/uring.h"

typedef struct Watches Watches;

/* wake_fd: GLib's own descriptor, by which other threads wake the context. */
Watches *watches_new(Uring *u, int wake_fd);
/* After uring_free(), whose cancellations still arrive here. */
void watches_free(Watches *w);
/* Queues what is not already being polled. */
void watches_arm(Watches *w, const GPollFD *fds, guint n);
/* Has any become ready since watches_arm()? */
bool watches_fired(const Watches *w);
/* Fills in revents and returns how many are ready, as poll(2) does. The same
 * fds as watches_arm() got. */
int watches_collect(Watches *w, GPollFD *fds, guint n);
