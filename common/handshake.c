#define G_LOG_DOMAIN "rpc"

#include "common/handshake.h"

#include <errno.h>
#include <string.h>

#include "common/net.h"
#include "common/ucx.h"
#include "common/wire.h"

HelloIntro *handshake_mine(Handshake *h)
{
	return h->connector ? &h->talk.connector : &h->talk.listener;
}

HelloIntro *handshake_theirs(Handshake *h)
{
	return h->connector ? &h->talk.listener : &h->talk.connector;
}

static int coroutine_fn handshake_co_recv(Handshake *h, void *buf, size_t len)
{
	return net_co_recv_all(h->reactor, h->fd, buf, len, h->until_ns);
}

static int coroutine_fn handshake_co_send(Handshake *h, const void *buf, size_t len)
{
	return net_co_send_all(h->reactor, h->fd, buf, len);
}

static int handshake_refused(Handshake *h, uint32_t refusal)
{
	h->refusal = refusal < HELLO_REFUSALS ? refusal : HELLO_OK;
	switch (refusal) {
	case HELLO_OK:
		return 0;
	case HELLO_SECRET:
		return -EACCES;
	case HELLO_CLUSTER:
	case HELLO_LIST:
	case HELLO_PEER:
	case HELLO_DUPLICATE:
		return -EXDEV;
	case HELLO_STOPPING:
		return -ESHUTDOWN;
	default:
		return -EPROTO;
	}
}

/* The head alone first: the rest has this length in this version only. */
static int coroutine_fn handshake_co_recv_intro(Handshake *h)
{
	HelloIntro *theirs = handshake_theirs(h);
	int r = handshake_co_recv(h, &theirs->head, sizeof(theirs->head));

	if (r < 0)
		return r;
	r = hello_check_head(&theirs->head, &h->version);
	if (r < 0)
		return r;
	if (h->connector && theirs->head.refusal)
		return -EPROTO;
	return handshake_co_recv(h, (char *)theirs + sizeof(theirs->head), sizeof(*theirs) - sizeof(theirs->head));
}

static int coroutine_fn handshake_co_prove_connector(Handshake *h)
{
	HelloProof proof = { .refusal = HELLO_OK };
	int r = handshake_co_send(h, &h->talk.connector, sizeof(h->talk.connector));

	if (r < 0)
		return r;
	r = handshake_co_recv_intro(h);
	if (r < 0)
		return r;
	hello_proof_sign(&h->talk, true, &proof);
	r = handshake_co_send(h, &proof, sizeof(proof));
	if (r < 0)
		return r;
	r = handshake_co_recv(h, &proof, sizeof(proof));
	if (r < 0)
		return r;
	/* A refusal for the secret can't be proved; anything else must be. */
	if (proof.refusal != HELLO_SECRET && !hello_proof_check(&h->talk, false, &proof))
		return -EACCES;
	return handshake_refused(h, proof.refusal);
}

static int coroutine_fn handshake_co_refuse_version(Handshake *h)
{
	HelloHead head = h->talk.listener.head;

	head.refusal = HELLO_VERSION;
	handshake_co_send(h, &head, sizeof(head));
	return -EPROTO;
}

static int coroutine_fn handshake_co_prove_listener(Handshake *h)
{
	HelloProof proof, verdict = { .refusal = HELLO_OK };
	int r = handshake_co_recv_intro(h), sent;

	if (r < 0)
		return h->version && h->version != WIRE_VERSION ? handshake_co_refuse_version(h) : r;
	r = handshake_co_send(h, &h->talk.listener, sizeof(h->talk.listener));
	if (r < 0)
		return r;
	r = handshake_co_recv(h, &proof, sizeof(proof));
	if (r < 0)
		return r;
	if (!hello_proof_check(&h->talk, true, &proof)) {
		verdict.refusal = HELLO_SECRET;
	} else {
		verdict.refusal = h->stopping ? HELLO_STOPPING : hello_judge(&h->talk.listener, &h->talk.connector, h->peer_count);
		hello_proof_sign(&h->talk, false, &verdict);
	}
	sent = handshake_co_send(h, &verdict, sizeof(verdict));
	r = handshake_refused(h, verdict.refusal);
	return r < 0 ? r : sent;
}

int coroutine_fn handshake_co_prove(Handshake *h)
{
	return h->connector ? handshake_co_prove_connector(h) : handshake_co_prove_listener(h);
}

int coroutine_fn handshake_co_send_setup(Handshake *h, HelloSetup *setup, const void *address, size_t address_len)
{
	g_autofree uint8_t *buf = g_malloc(sizeof(*setup) + address_len);

	setup->address_len = (uint32_t)address_len;
	hello_setup_sign(&h->talk, h->connector, setup, address);
	memcpy(buf, setup, sizeof(*setup));
	memcpy(buf + sizeof(*setup), address, address_len);
	return handshake_co_send(h, buf, sizeof(*setup) + address_len);
}

int coroutine_fn handshake_co_recv_setup(Handshake *h, HelloSetup *ret_setup, void *ret_address)
{
	int r = handshake_co_recv(h, ret_setup, sizeof(*ret_setup));

	if (r < 0)
		return r;
	if (!hello_setup_plausible(ret_setup, UCX_ADDRESS_MAX))
		return -EPROTO;
	r = handshake_co_recv(h, ret_address, ret_setup->address_len);
	if (r < 0)
		return r;
	return hello_setup_check(&h->talk, !h->connector, ret_setup, ret_address) ? 0 : -EACCES;
}

static char *handshake_explain_mismatch(const Handshake *h, const char *who)
{
	switch (h->refusal) {
	case HELLO_CLUSTER:
		return g_strdup_printf("%s belongs to another cluster: is one of the stores a foreign one?", who);
	case HELLO_DUPLICATE:
		return g_strdup_printf("%s says that it is the same peer as this one: start each peer with its own address", who);
	case HELLO_PEER:
		return g_strdup_printf("%s is another peer of the list than its address says: give all peers the same list in the same order", who);
	default:
		return g_strdup_printf("%s has another peer list: give all peers the same list in the same order", who);
	}
}

char *handshake_explain(const Handshake *h, int error, const char *who)
{
	switch (error) {
	case -EACCES:
		if (h->refusal == HELLO_SECRET)
			return g_strdup_printf("%s refused: could not prove the secret; give all peers the same secret file", who);
		return g_strdup_printf("%s could not prove that it knows the secret; give all peers the same secret file", who);
	case -EPROTO:
		if (h->version && h->version != WIRE_VERSION)
			return g_strdup_printf("%s speaks version %u of the protocol and this peer version %u: run the same BenchFS on both", who, h->version, WIRE_VERSION);
		return g_strdup_printf("%s does not answer like a BenchFS peer: is that its address?", who);
	case -EXDEV:
		return handshake_explain_mismatch(h, who);
	case -ESHUTDOWN:
		return g_strdup_printf("%s is stopping", who);
	case -ETIME:
		return g_strdup_printf("%s took the connection but did not finish the handshake within %d s", who, (int)(HANDSHAKE_NS / 1000000000));
	default:
		return g_strdup_printf("%s broke off the handshake: %s", who, g_strerror(-error));
	}
}
