#pragma once
/*
 * UCX: one context and worker of a reactor, endpoints to other workers, and
 * active messages with a header and a payload.
 *
 * UCX knows nothing of who may talk to us: whoever reaches the worker's ports
 * can send messages. Those who use this file must check each one.
 */
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/reactor.h"

#define UCX_ADDRESS_MAX 8192u /* bytes of a worker's address that we take from a peer */

typedef struct Ucx Ucx;
typedef struct UcxEp UcxEp;
typedef struct UcxOp UcxOp;

/* res: 0 or -errno. Runs while UCX is being progressed, so it does two things:
 * store, make ready. From then on UCX has let go of the operation's memory. */
typedef void UcxDone(UcxOp *op, int res);
struct UcxOp {
	UcxDone *done;
	/* private */
	Ucx *ucx;
	GList node;
};

/* A message; valid while it is being handled, apart from `rendezvous`. */
typedef struct UcxMsg {
	uint16_t id;
	const void *header;
	size_t header_len;
	const void *data; /* NULL when len is 0, or the data must be fetched */
	size_t len;
	void *rendezvous; /* NULL, or what to fetch the data with */
} UcxMsg;
/* Returns true when it keeps msg->rendezvous, for ucx_fetch() or ucx_drop()
 * exactly once. Runs while UCX is being progressed: must not send or fetch. */
typedef bool UcxRecv(void *arg, const UcxMsg *msg);
/* An endpoint broke (while UCX is being progressed): to be closed soon. */
typedef void UcxBroken(void *arg, int error);

typedef struct UcxOptions {
	Reactor *reactor;
	const char *tls;     /* transports, as UCX_TLS; NULL: UCX's choice */
	const char *devices; /* network devices, as UCX_NET_DEVICES; NULL: UCX's choice */
	uint16_t ids;        /* message ids are below this */
	size_t header_max;
	UcxRecv *recv;
	void *arg;
} UcxOptions;

Ucx *ucx_new(const UcxOptions *opts, GError **error);
/* Every endpoint closed, every operation done. NULL is fine. */
void ucx_free(Ucx *u);
/* The address by which others reach our worker. */
const void *ucx_address(const Ucx *u, size_t *ret_len);
/* True when peers on this machine are reached through shared memory: a queue
 * into which they write themselves, and which one that is killed half-way
 * through leaves unusable. Then ucx_abandon() and ucx_renew(). */
bool ucx_is_shared_memory(const Ucx *u);
/* Gives up the worker: every operation that is still under way ends with
 * -ECANCELED before this returns; endpoints can be closed later, and rendezvous
 * of before must not be used any more. Not while UCX is being progressed. */
void ucx_abandon(Ucx *u);
/* Makes a new worker, with a new address, in the place of an abandoned one.
 * -errno: there is none now; try again. */
int ucx_renew(Ucx *u);
/* A number that each new worker changes. */
uint32_t ucx_generation(const Ucx *u);

/* address comes from the peer; the endpoint connects when it is first used. */
int ucx_ep_new(Ucx *u, const void *address, UcxBroken *broken, void *arg, UcxEp **ret_ep);
/* Ends what is under way (each operation is still told, later) and frees ep.
 * 0: closed; -EINPROGRESS: op will be told. */
int ucx_ep_close(UcxEp *ep, UcxOp *op);
/* 0: sent; -EINPROGRESS: op will be told, header and data must stay until
 * then; else -errno. */
int ucx_ep_send(UcxEp *ep, uint16_t id, const void *header, size_t header_len, const void *data, size_t len, UcxOp *op);
/* Receives msg->len bytes into buf. As ucx_ep_send(). */
int ucx_fetch(Ucx *u, void *rendezvous, void *buf, size_t len, UcxOp *op);
/* Does without them. */
void ucx_drop(Ucx *u, void *rendezvous);
