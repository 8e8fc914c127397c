#pragma once
/*
 * Channels: how requests come from the kernel and how replies go back. There
 * are two behind this interface, chosen at mount. The classic one reads and
 * writes /dev/fuse and always exists: INIT, FORGET, INTERRUPT and
 * notifications go through it. FUSE over io_uring is started beside it, once
 * INIT has been answered with FUSE_OVER_IO_URING, and carries the rest.
 *
 * The life of a request:
 *
 *   channel: has a whole request in a buffer   -> sink->request(req)
 *   mount:   runs it on a coroutine, replies   -> request_reply(req), 0 or 1 times
 *   mount:   the coroutine is at its end       -> request_done(req), exactly once
 *
 * The Request is embedded in the channel's own struct. It, the message and the
 * reply buffer are the channel's; the mount may use them until request_done().
 * Everything runs on the reactor's thread.
 */
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/counters.h"
#include "common/reactor.h"
#include "fuse/follow.h"
#include "fuse/fuse-kernel.h"

typedef struct Channel Channel;
typedef struct ChannelOps ChannelOps;
typedef struct Request Request;

struct Request {
	Channel *channel;
	/* The message as it would come from /dev/fuse, in one piece: header,
	 * the operation's struct, names or data. 8-byte aligned; writable. */
	struct fuse_in_header *in;
	size_t len; /* of all of it; at least the header's */

	/* The mount's; the channel zeroes them before sink->request(). */
	void *owner;
	GList link;         /* among the requests under way */
	bool interrupted;   /* the caller got a signal */
	bool replied;
	void (*on_interrupt)(Request *req); /* on the reactor's stack; may be NULL */
	void *interrupt_arg;
};

/* Where a channel's requests go. All are called on the reactor's stack, or
 * from a coroutine; none yields. */
typedef struct ChannelSink {
	void (*request)(void *arg, Request *req);
	/* The kernel ended the connection (error: -ENODEV when unmounted). Once,
	 * after the last request. Only the classic channel tells this. */
	void (*ended)(void *arg, int error);
	void *arg;
} ChannelSink;

typedef struct ChannelOptions {
	Reactor *reactor;
	Counters *counters;
	int fd;           /* /dev/fuse of the mount, O_NONBLOCK; borrowed until channel_free() */
	size_t max_write; /* bytes of data in a WRITE or a READ at most; a multiple of the page size */
	ChannelSink sink;
	Follow *follow;   /* told of each request's caller; may be NULL */
} ChannelOptions;

struct ChannelOps {
	/* iov[0] is the struct fuse_out_header, complete. Copies or sends at
	 * once: iov is the caller's again on return. What followed the message's
	 * operation struct (names, data) may be overwritten. 0 or -errno: -ENOENT when the
	 * kernel no longer wants it (interrupted), -ENODEV when it is gone. May
	 * yield when called from a coroutine. */
	int (*reply)(Request *req, const struct iovec *iov, int count);
	void *(*reply_buffer)(Request *req, size_t size);
	void (*done)(Request *req);
	int coroutine_fn (*co_start)(Channel *ch);
	void coroutine_fn (*co_stop)(Channel *ch);
	void (*free)(Channel *ch);
};

/* Each channel's struct begins with this. */
struct Channel {
	const ChannelOps *ops;
};

/* Reading starts with channel_co_start(). Never fails. */
Channel *channel_classic_new(const ChannelOptions *opts);
/* Writes a message that answers no request of the channel's: notifications,
 * iov[0] being the struct fuse_out_header. 0 or -errno. Does not yield; never
 * for notifications that wait for locks of the kernel. */
int channel_classic_write(Channel *ch, const struct iovec *iov, int count);

/* FUSE over io_uring can be asked for: the module allows it and the reactor's
 * ring is made for it. When false, *ret_reason is a static sentence. */
bool channel_uring_available(Reactor *r, const char **ret_reason);
Channel *channel_uring_new(const ChannelOptions *opts);

/* Starts to take requests. io_uring: to be called right after the INIT reply
 * has been written; registers entries on the queues of all CPUs and returns
 * once the kernel has taken them, or -errno, upon which the kernel goes on
 * with the classic channel and this one is to be freed. */
static inline int coroutine_fn channel_co_start(Channel *ch)
{
	return ch->ops->co_start(ch);
}

/* Takes no further requests and waits until the kernel uses none of the
 * channel's buffers but those of requests under way, which may still be
 * replied to. Works whatever state the connection is in; idempotent. */
static inline void coroutine_fn channel_co_stop(Channel *ch)
{
	ch->ops->co_stop(ch);
}

/* Stopped (or never started), and every request done. NULL is fine. */
static inline void channel_free(Channel *ch)
{
	if (ch)
		ch->ops->free(ch);
}

static inline int request_reply(Request *req, const struct iovec *iov, int count)
{
	return req->channel->ops->reply(req, iov, count);
}

/* A page-aligned buffer for at least size bytes of reply data (size: at most
 * max_write), at most one a request; never NULL. Replies whose data lies in it
 * are not copied where the channel can avoid it. It may be the memory that
 * the message's names or data were in (not the message's header and
 * operation struct): only for operations that have none, or have used them. */
static inline void *request_reply_buffer(Request *req, size_t size)
{
	return req->channel->ops->reply_buffer(req, size);
}

static inline void request_done(Request *req)
{
	req->channel->ops->done(req);
}
