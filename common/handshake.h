#pragma once
/*
 * The handshake of hello.h over a connected socket. Every read is within the
 * time limit and of a length known beforehand; whatever arrives instead ends
 * the handshake with an error, never more.
 */
#include "common/hello.h"
#include "common/reactor.h"

#define HANDSHAKE_NS INT64_C(5000000000) /* the whole of it */

typedef struct Handshake {
	Reactor *reactor;
	int fd; /* borrowed */
	int64_t until_ns;
	bool connector;      /* I am the one who connected */
	uint32_t peer_count;
	bool stopping;       /* listener: refuses everyone */
	HelloTalk talk;      /* secret and my own intro are set */
	/* results, for handshake_explain() */
	HelloRefusal refusal; /* what either side answered */
	uint32_t version;    /* the other's, where it differs */
} Handshake;

/* My own intro, and the other side's. */
HelloIntro *handshake_mine(Handshake *h);
HelloIntro *handshake_theirs(Handshake *h);

/* Both sides prove the secret and agree that they belong together. -EACCES: the
 * secret; -EPROTO: not this protocol or version; -EXDEV: cluster, list or peer;
 * -ESHUTDOWN: the other is stopping; -ETIME; else the socket's -errno. */
int coroutine_fn handshake_co_prove(Handshake *h);
/* setup->token and ->serial are set; the rest is filled in. */
int coroutine_fn handshake_co_send_setup(Handshake *h, HelloSetup *setup, const void *address, size_t address_len);
/* address has room for UCX_ADDRESS_MAX bytes. */
int coroutine_fn handshake_co_recv_setup(Handshake *h, HelloSetup *ret_setup, void *ret_address);

/* A sentence about what went wrong; who: the other side, as in "peer 2
 * (10.0.0.2:7460)". To be freed. */
char *handshake_explain(const Handshake *h, int error, const char *who);
