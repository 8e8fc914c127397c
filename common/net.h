#pragma once
/* TCP sockets: listening, connecting, whole messages within a time limit. */
#include <glib.h>
#include <stddef.h>
#include <stdint.h>

#include "common/reactor.h"

/* A listening socket, close-on-exec. May block on a name server. */
int net_listen(const char *host, uint16_t port, GError **error);
/* The network interface that owns the address a socket listens on; NULL when it
 * listens on all. To be freed. */
char *net_device_of(int fd);
/* The interface that leads to host; NULL when there is none. May block on a
 * name server. To be freed. */
char *net_device_towards(const char *host, uint16_t port);
/* The address of the other side, "10.0.0.2:4711", for people. To be freed. */
char *net_remote_name(int fd);
/* What every connection gets: no delay for small messages, and the kernel's own
 * watch over a silent network. */
void net_tune(int fd);

/* Connects to the first address of host that answers before until_ns. *ret_fd
 * is set to each socket as it is tried, so that another coroutine can shut it
 * down, and to -1 when all failed. 0 or -errno. */
int coroutine_fn net_co_connect(Reactor *r, const char *host, uint16_t port, int64_t until_ns, int *ret_fd);
/* All len bytes. -ETIME: until_ns has passed; -ECONNRESET: the other side has
 * closed; else the -errno of the socket. */
int coroutine_fn net_co_recv_all(Reactor *r, int fd, void *buf, size_t len, int64_t until_ns);
/* A message that fits the socket's empty buffer. */
int coroutine_fn net_co_send_all(Reactor *r, int fd, const void *buf, size_t len);
