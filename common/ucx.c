/*
 * What we ask of UCX, and what 1.13 does (tried with TCP and shared memory):
 *
 * - Endpoints are made with UCP_ERR_HANDLING_MODE_PEER. Only so can one be
 *   closed by force, and only so does everything under way on it end with an
 *   error, after which UCX does not touch our buffers any more. Transports that
 *   can't do it are not chosen; for shared memory it must be switched on
 *   (MM_ERROR_HANDLING), and then no CMA is used, which would let a peer read
 *   our memory long after we gave up on it.
 * - A forced close returns before the operations have ended: their callbacks
 *   come with the next progress. Except that with shared memory they never come
 *   when the queue of the (dead) peer is full. Destroying the worker ends those,
 *   too, but forgets some of their callbacks: hence our own list of operations.
 * - TCP may not send without copying. When a peer died with such a send under
 *   way, UCX completed it twice and ended the process with an assertion
 *   (uct_iface.h: comp->count > 0). With segments of 64 KiB a copy costs no more
 *   processor time than the scatter lists did.
 * - Nothing here relies on UCX to find dead peers: see rpc-conn.c.
 */
#define G_LOG_DOMAIN "rpc"

#include "common/ucx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <ucp/api/ucp.h>

/* Up to here the payload is copied along with the header; beyond it, rendezvous
 * straight into the destination is as fast, and holds no memory at the receiver
 * before it has decided where the data goes. */
#define EAGER_MAX (128u << 10)

struct Ucx {
	Reactor *reactor;
	UcxRecv *recv;
	void *arg;
	uint16_t ids;
	struct UcxHandler *handlers; /* one a message id */
	size_t header_max;
	bool shared_memory, tcp; /* may be used */
	ucp_context_h context;
	ucp_worker_h worker;
	ucp_address_t *address;
	size_t address_len;
	ReactorPoller poller;
	bool polling;
	uint32_t generation;
	GQueue ops; /* of UcxOp, under way */
	GQueue eps; /* of UcxEp, not closed */
};

typedef struct UcxHandler {
	Ucx *ucx;
	uint16_t id;
} UcxHandler;

struct UcxEp {
	Ucx *ucx;
	ucp_ep_h ep;       /* NULL: its worker was abandoned */
	UcxBroken *broken; /* NULL: nobody wants to know any more */
	void *arg;
	GList node;
};

static void op_begin(Ucx *u, UcxOp *op)
{
	op->ucx = u;
	op->node = (GList) { .data = op };
	g_queue_push_tail_link(&u->ops, &op->node);
}

static void op_end(UcxOp *op, int res)
{
	g_queue_unlink(&op->ucx->ops, &op->node);
	op->done(op, res);
}

static int ucx_errno(ucs_status_t status)
{
	switch (status) {
	case UCS_OK:
		return 0;
	case UCS_INPROGRESS:
		return -EINPROGRESS;
	case UCS_ERR_NO_MEMORY:
	case UCS_ERR_NO_RESOURCE:
		return -ENOMEM;
	case UCS_ERR_CANCELED:
		return -ECANCELED;
	case UCS_ERR_TIMED_OUT:
	case UCS_ERR_ENDPOINT_TIMEOUT:
		return -ETIMEDOUT;
	case UCS_ERR_CONNECTION_RESET:
		return -ECONNRESET;
	case UCS_ERR_UNREACHABLE:
		return -EHOSTUNREACH;
	case UCS_ERR_INVALID_PARAM:
	case UCS_ERR_INVALID_ADDR:
		return -EINVAL;
	case UCS_ERR_MESSAGE_TRUNCATED:
		return -EMSGSIZE;
	case UCS_ERR_UNSUPPORTED:
		return -EOPNOTSUPP;
	default:
		return -EIO;
	}
}

/* ---- context and worker ---- */

/* Does a list of transports name any of those? */
static bool tls_has(const char *tls, const char *const names[])
{
	g_auto(GStrv) words = g_strsplit(tls, ",", -1);

	for (; *names; names++)
		if (g_strv_contains((const char *const *)words, *names))
			return true;
	return false;
}

static bool wants_shared_memory(const char *tls)
{
	static const char *const names[] = { "all", "sm", "shm", "mm", "posix", "sysv", NULL };

	return tls && tls[0] != '^' && tls_has(tls, names);
}

static bool may_use_tcp(const char *tls)
{
	static const char *const names[] = { "all", "tcp", NULL };

	return !tls || tls[0] == '^' || tls_has(tls, names);
}

/* Who sets UCX's environment knows better. */
static ucs_status_t ucx_set(ucp_config_t *config, const char *prefix, const char *name, const char *value)
{
	g_autofree char *full = g_strconcat(prefix, name, NULL), *variable = g_strconcat("UCX_", full, NULL);
	unsigned major, minor, release;

	if (!value || getenv(variable))
		return UCS_OK;
	/* Before 1.17 a transport's own table knows its rows without their prefix. */
	ucp_get_version(&major, &minor, &release);
	return ucp_config_modify(config, major > 1 || minor >= 17 ? full : name, value);
}

static ucs_status_t ucx_configure(Ucx *u, const UcxOptions *opts, ucp_config_t *config)
{
	const struct { const char *prefix, *name, *value; } rows[] = {
		{ "", "NET_DEVICES", opts->devices },
		{ "", "MM_ERROR_HANDLING", u->shared_memory ? "y" : NULL }, /* of an inner table */
		{ "", "ZCOPY_THRESH", "inf" },
		{ "TCP_", "PUT_ENABLE", u->tcp ? "n" : NULL },
		{ "TCP_", "TX_SEG_SIZE", u->tcp ? "64k" : NULL },
		{ "", "KEEPALIVE_INTERVAL", "inf" }, /* we have our own */
	};
	ucs_status_t status = opts->tls ? ucp_config_modify(config, "TLS", opts->tls) : UCS_OK;

	for (size_t i = 0; i < G_N_ELEMENTS(rows) && status == UCS_OK; i++)
		status = ucx_set(config, rows[i].prefix, rows[i].name, rows[i].value);
	return status;
}

static ucs_status_t ucx_open_context(Ucx *u, const UcxOptions *opts)
{
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES,
		.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP,
	};
	ucp_config_t *config;
	ucs_status_t status = ucp_config_read(NULL, NULL, &config);

	if (status != UCS_OK)
		return status;
	status = ucx_configure(u, opts, config);
	if (status == UCS_OK)
		status = ucp_init(&params, config, &u->context);
	ucp_config_release(config);
	return status;
}

static ucs_status_t ucx_on_message(void *arg, const void *header, size_t header_len, void *data, size_t len, const ucp_am_recv_param_t *param)
{
	const UcxHandler *h = arg;
	bool rendezvous = param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV;
	UcxMsg msg = {
		.id = h->id,
		.header = header, .header_len = header_len,
		.data = rendezvous || len == 0 ? NULL : data, .len = len,
		.rendezvous = rendezvous ? data : NULL,
	};

	return h->ucx->recv(h->ucx->arg, &msg) && rendezvous ? UCS_INPROGRESS : UCS_OK;
}

static ucs_status_t ucx_set_handlers(Ucx *u)
{
	for (uint16_t id = 0; id < u->ids; id++) {
		ucp_am_handler_param_t param = {
			.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
				UCP_AM_HANDLER_PARAM_FIELD_ARG,
			.id = id, .cb = ucx_on_message, .arg = &u->handlers[id],
		};
		ucs_status_t status = ucp_worker_set_am_recv_handler(u->worker, &param);

		if (status != UCS_OK)
			return status;
	}
	return UCS_OK;
}

static bool ucx_progress(void *arg)
{
	Ucx *u = arg;

	return ucp_worker_progress(u->worker) != 0;
}

static bool ucx_arm(void *arg)
{
	Ucx *u = arg;

	return ucp_worker_arm(u->worker) != UCS_ERR_BUSY;
}

static ucs_status_t ucx_open_worker(Ucx *u)
{
	ucp_worker_params_t params = {
		.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
		.thread_mode = UCS_THREAD_MODE_SINGLE,
	};
	ucp_worker_attr_t attr = { .field_mask = UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER };
	ucs_status_t status = ucp_worker_create(u->context, &params, &u->worker);

	if (status != UCS_OK)
		return status;
	if ((status = ucx_set_handlers(u)) != UCS_OK ||
	    (status = ucp_worker_query(u->worker, &attr)) != UCS_OK ||
	    (status = ucp_worker_get_address(u->worker, &u->address, &u->address_len)) != UCS_OK)
		return status;
	if (attr.max_am_header < u->header_max || u->address_len > UCX_ADDRESS_MAX)
		return UCS_ERR_UNSUPPORTED;
	u->poller = (ReactorPoller) { .progress = ucx_progress, .arm = ucx_arm, .arg = u };
	status = ucp_worker_get_efd(u->worker, &u->poller.fd);
	if (status != UCS_OK)
		return status;
	reactor_add_poller(u->reactor, &u->poller);
	u->polling = true;
	return UCS_OK;
}

static void ucx_close_worker(Ucx *u)
{
	if (u->polling)
		reactor_remove_poller(u->reactor, &u->poller);
	u->polling = false;
	if (u->address)
		ucp_worker_release_address(u->worker, u->address);
	u->address = NULL;
	if (u->worker)
		ucp_worker_destroy(u->worker);
	u->worker = NULL;
}

void ucx_free(Ucx *u)
{
	if (!u)
		return;
	ucx_close_worker(u);
	if (u->context)
		ucp_cleanup(u->context);
	g_free(u->handlers);
	g_free(u);
}

Ucx *ucx_new(const UcxOptions *opts, GError **error)
{
	Ucx *u = g_new0(Ucx, 1);
	const char *tls = opts->tls ? opts->tls : getenv("UCX_TLS");
	ucs_status_t status;

	*u = (Ucx) {
		.reactor = opts->reactor,
		.recv = opts->recv, .arg = opts->arg,
		.ids = opts->ids,
		.handlers = g_new0(UcxHandler, opts->ids),
		.header_max = opts->header_max,
		.shared_memory = wants_shared_memory(tls),
		.tcp = may_use_tcp(tls),
	};
	for (uint16_t id = 0; id < u->ids; id++)
		u->handlers[id] = (UcxHandler) { u, id };
	status = ucx_open_context(u, opts);
	if (status == UCS_OK)
		status = ucx_open_worker(u);
	if (status == UCS_OK)
		return u;
	g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
	            "UCX has no usable transport (transports %s, network devices %s): %s",
	            opts->tls ? opts->tls : "of its choice", opts->devices ? opts->devices : "of its choice",
	            ucs_status_string(status));
	ucx_free(u);
	return NULL;
}

const void *ucx_address(const Ucx *u, size_t *ret_len)
{
	*ret_len = u->address_len;
	return u->address;
}

bool ucx_is_shared_memory(const Ucx *u)
{
	return u->shared_memory;
}

uint32_t ucx_generation(const Ucx *u)
{
	return u->generation;
}

void ucx_abandon(Ucx *u)
{
	GList *l;

	while ((l = g_queue_pop_head_link(&u->eps)))
		((UcxEp *)l->data)->ep = NULL;
	ucx_close_worker(u);
	u->generation++;
	while (u->ops.head)
		op_end(u->ops.head->data, -ECANCELED);
}

int ucx_renew(Ucx *u)
{
	ucs_status_t status = ucx_open_worker(u);

	if (status != UCS_OK)
		ucx_close_worker(u);
	return ucx_errno(status);
}

/* ---- endpoints ---- */

static void ucx_on_error(void *arg, ucp_ep_h ep, ucs_status_t status)
{
	UcxEp *e = arg;

	if (e->broken)
		e->broken(e->arg, ucx_errno(status));
}

int ucx_ep_new(Ucx *u, const void *address, UcxBroken *broken, void *arg, UcxEp **ret_ep)
{
	UcxEp *e = g_new0(UcxEp, 1);
	ucp_ep_params_t params = {
		.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
			UCP_EP_PARAM_FIELD_ERR_HANDLER,
		.address = address,
		.err_mode = UCP_ERR_HANDLING_MODE_PEER,
		.err_handler = { .cb = ucx_on_error, .arg = e },
	};
	ucs_status_t status;

	*e = (UcxEp) { .ucx = u, .broken = broken, .arg = arg };
	status = ucp_ep_create(u->worker, &params, &e->ep);
	if (status != UCS_OK) {
		g_free(e);
		return ucx_errno(status);
	}
	e->node.data = e;
	g_queue_push_tail_link(&u->eps, &e->node);
	*ret_ep = e;
	return 0;
}

static void ucx_on_done(void *request, ucs_status_t status, void *arg)
{
	UcxOp *op = arg;

	ucp_request_free(request);
	op_end(op, ucx_errno(status));
}

/* op: belongs to UCX now, unless the request has already ended. */
static int ucx_started(Ucx *u, ucs_status_ptr_t request, UcxOp *op)
{
	if (!UCS_PTR_IS_PTR(request))
		return ucx_errno(UCS_PTR_RAW_STATUS(request));
	op_begin(u, op);
	return -EINPROGRESS;
}

int ucx_ep_close(UcxEp *e, UcxOp *op)
{
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
		.flags = UCP_EP_CLOSE_FLAG_FORCE,
		.cb.send = ucx_on_done,
		.user_data = op,
	};
	int r = 0;

	/* Its last errors, if any, come before it is closed, and are no news. */
	if (e->ep) {
		g_queue_unlink(&e->ucx->eps, &e->node);
		r = ucx_started(e->ucx, ucp_ep_close_nbx(e->ep, &param), op);
	}
	if (r != 0 && r != -EINPROGRESS)
		g_warning("Closing an endpoint: %s, ignoring", g_strerror(-r));
	g_free(e);
	return r == -EINPROGRESS ? r : 0;
}

/* ---- messages ---- */

int ucx_ep_send(UcxEp *e, uint16_t id, const void *header, size_t header_len, const void *data, size_t len, UcxOp *op)
{
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
		.flags = len > EAGER_MAX ? UCP_AM_SEND_FLAG_RNDV : UCP_AM_SEND_FLAG_EAGER,
		.cb.send = ucx_on_done,
		.user_data = op,
	};

	return e->ep ? ucx_started(e->ucx, ucp_am_send_nbx(e->ep, id, header, header_len, data, len, &param), op) : -ECONNRESET;
}

static void ucx_on_fetched(void *request, ucs_status_t status, size_t len, void *arg)
{
	ucx_on_done(request, status, arg);
}

int ucx_fetch(Ucx *u, void *rendezvous, void *buf, size_t len, UcxOp *op)
{
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
		.cb.recv_am = ucx_on_fetched,
		.user_data = op,
	};

	return ucx_started(u, ucp_am_recv_data_nbx(u->worker, rendezvous, buf, len, &param), op);
}

void ucx_drop(Ucx *u, void *rendezvous)
{
	ucp_am_data_release(u->worker, rendezvous);
}
