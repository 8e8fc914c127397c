#pragma once
/*
 * The messages by which two peers get to know each other over TCP, and the
 * proofs in them. No I/O here: handshake.c moves the bytes.
 *
 *	connector                           listener
 *	HelloIntro             ->
 *	                       <-           HelloIntro
 *	HelloProof             ->
 *	                       <-           HelloProof (with its verdict)
 *	HelloSetup, address    ->
 *	                       <-           HelloSetup, address
 *
 * A proof is the HMAC-SHA256, keyed with the cluster's secret, of both intros
 * (each has 32 random bytes) and of what the message says itself, under a
 * label of its own for each message: none can be replayed or reflected. The
 * connector proves first, so that who merely knocks learns nothing that could
 * be tried against guesses of the secret. Only then does the listener say what
 * it thinks of the connector's cluster and peer list; the protocol's version
 * has to come before everything else.
 */
#include <assert.h>
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HELLO_MAC_LEN 32

typedef enum HelloRefusal {
	HELLO_OK,
	HELLO_VERSION,
	HELLO_SECRET,
	HELLO_CLUSTER,
	HELLO_LIST,
	HELLO_PEER,      /* I am not the peer you meant to reach */
	HELLO_DUPLICATE, /* I am the peer that you say you are */
	HELLO_STOPPING,
	HELLO_REFUSALS
} HelloRefusal;

/* Stays as it is in all versions. */
typedef struct HelloHead {
	uint8_t magic[8];
	uint32_t version;
	uint32_t refusal; /* listener: HELLO_VERSION, and nothing follows */
} HelloHead;
static_assert(sizeof(HelloHead) == 16, "packed by hand");

typedef struct HelloIntro {
	HelloHead head;
	uint8_t cluster_id[16];
	uint8_t map_digest[32];
	uint64_t session; /* random, new with each start of a process: its incarnation */
	uint16_t peer;    /* who I am, or PEER_NONE */
	uint16_t target;  /* connector: whom I mean to reach */
	uint8_t pad[4];
	uint8_t nonce[32];
} HelloIntro;
static_assert(sizeof(HelloIntro) == 112, "packed by hand");

typedef struct HelloProof {
	uint32_t refusal; /* listener's verdict */
	uint8_t pad[4];
	uint8_t mac[HELLO_MAC_LEN]; /* zeros with HELLO_SECRET */
} HelloProof;
static_assert(sizeof(HelloProof) == 40, "packed by hand");

/* The UCX worker's address follows. */
typedef struct HelloSetup {
	uint64_t token;  /* to be in each message sent to me over this connection */
	uint64_t serial; /* of my memory of your session: changes when I lost it */
	uint32_t address_len;
	uint8_t pad[4];
	uint8_t mac[HELLO_MAC_LEN];
} HelloSetup;
static_assert(sizeof(HelloSetup) == 56, "packed by hand");

/* What both sides have said so far: proofs are made of it. */
typedef struct HelloTalk {
	const uint8_t *secret;
	size_t secret_len;
	HelloIntro connector, listener;
} HelloTalk;

/* Fills in magic, version, a nonce. */
void hello_intro_init(HelloIntro *intro);
/* 0; -EPROTO: not this protocol, or another version of it (and then
 * *ret_version is the other's, else 0). */
int hello_check_head(const HelloHead *head, uint32_t *ret_version);
/* What the listener says to a connector that has proved the secret. */
HelloRefusal hello_judge(const HelloIntro *listener, const HelloIntro *connector, uint32_t peer_count);

/* from_connector tells the two directions apart. */
void hello_proof_sign(const HelloTalk *talk, bool from_connector, HelloProof *proof);
bool hello_proof_check(const HelloTalk *talk, bool from_connector, const HelloProof *proof);
void hello_setup_sign(const HelloTalk *talk, bool from_connector, HelloSetup *setup, const void *address);
bool hello_setup_check(const HelloTalk *talk, bool from_connector, const HelloSetup *setup, const void *address);
/* False: the length can't be, don't read on. */
bool hello_setup_plausible(const HelloSetup *setup, size_t address_max);
