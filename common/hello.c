#include "common/hello.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "common/map.h"
#include "common/wire.h"

static const uint8_t hello_magic[8] = { 'B', 'e', 'n', 'c', 'h', 'F', 'S', '\n' };

void hello_intro_init(HelloIntro *intro)
{
	ssize_t got;

	*intro = (HelloIntro) { .head.version = WIRE_VERSION };
	memcpy(intro->head.magic, hello_magic, sizeof(hello_magic));
	got = getrandom(intro->nonce, sizeof(intro->nonce), 0);
	g_assert(got == sizeof(intro->nonce));
}

int hello_check_head(const HelloHead *head, uint32_t *ret_version)
{
	*ret_version = 0;
	if (memcmp(head->magic, hello_magic, sizeof(hello_magic)) != 0)
		return -EPROTO;
	*ret_version = head->version;
	return head->version == WIRE_VERSION ? 0 : -EPROTO;
}

HelloRefusal hello_judge(const HelloIntro *listener, const HelloIntro *connector, uint32_t peer_count)
{
	if (memcmp(listener->cluster_id, connector->cluster_id, sizeof(listener->cluster_id)) != 0)
		return HELLO_CLUSTER;
	if (memcmp(listener->map_digest, connector->map_digest, sizeof(listener->map_digest)) != 0)
		return HELLO_LIST;
	if (connector->target != listener->peer)
		return HELLO_PEER;
	if (connector->peer != PEER_NONE && connector->peer == listener->peer)
		return HELLO_DUPLICATE;
	if (connector->peer != PEER_NONE && connector->peer >= peer_count)
		return HELLO_LIST;
	return HELLO_OK;
}

/* The label separates the four kinds of proof. All parts before `tail` have
 * fixed lengths, so that no two messages are the same bytes. */
static void hello_mac(const HelloTalk *talk, const char label[4], const void *part, size_t part_len, const void *tail, size_t tail_len, uint8_t ret_mac[HELLO_MAC_LEN])
{
	g_autoptr(GHmac) hmac = g_hmac_new(G_CHECKSUM_SHA256, talk->secret, talk->secret_len);
	gsize len = HELLO_MAC_LEN;

	g_hmac_update(hmac, (const guchar *)label, 4);
	g_hmac_update(hmac, (const guchar *)&talk->connector, sizeof(talk->connector));
	g_hmac_update(hmac, (const guchar *)&talk->listener, sizeof(talk->listener));
	g_hmac_update(hmac, part, (gssize)part_len);
	if (tail_len)
		g_hmac_update(hmac, tail, (gssize)tail_len);
	g_hmac_get_digest(hmac, ret_mac, &len);
}

/* Takes the same time wherever the first difference is. */
static bool hello_mac_equal(const uint8_t a[HELLO_MAC_LEN], const uint8_t b[HELLO_MAC_LEN])
{
	volatile uint8_t diff = 0;

	for (size_t i = 0; i < HELLO_MAC_LEN; i++)
		diff |= a[i] ^ b[i];
	return diff == 0;
}

static void hello_proof_mac(const HelloTalk *talk, bool from_connector, const HelloProof *proof, uint8_t ret_mac[HELLO_MAC_LEN])
{
	hello_mac(talk, from_connector ? "prvC" : "prvL", proof, offsetof(HelloProof, mac), NULL, 0, ret_mac);
}

void hello_proof_sign(const HelloTalk *talk, bool from_connector, HelloProof *proof)
{
	hello_proof_mac(talk, from_connector, proof, proof->mac);
}

bool hello_proof_check(const HelloTalk *talk, bool from_connector, const HelloProof *proof)
{
	uint8_t mac[HELLO_MAC_LEN];

	hello_proof_mac(talk, from_connector, proof, mac);
	return hello_mac_equal(mac, proof->mac);
}

static void hello_setup_mac(const HelloTalk *talk, bool from_connector, const HelloSetup *setup, const void *address, uint8_t ret_mac[HELLO_MAC_LEN])
{
	hello_mac(talk, from_connector ? "setC" : "setL", setup, offsetof(HelloSetup, mac), address, setup->address_len, ret_mac);
}

void hello_setup_sign(const HelloTalk *talk, bool from_connector, HelloSetup *setup, const void *address)
{
	hello_setup_mac(talk, from_connector, setup, address, setup->mac);
}

bool hello_setup_check(const HelloTalk *talk, bool from_connector, const HelloSetup *setup, const void *address)
{
	uint8_t mac[HELLO_MAC_LEN];

	hello_setup_mac(talk, from_connector, setup, address, mac);
	return hello_mac_equal(mac, setup->mac);
}

bool hello_setup_plausible(const HelloSetup *setup, size_t address_max)
{
	return setup->token != 0 && setup->address_len > 0 && setup->address_len <= address_max;
}
