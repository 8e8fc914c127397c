/* The decoders of the handshake: whatever comes, an answer. */
#include <glib.h>
#include <string.h>

#include "common/hello.h"
#include "common/ucx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void fuzz_intro(const uint8_t *data, size_t len)
{
	HelloIntro mine, theirs;
	uint32_t version;

	if (len < sizeof(theirs))
		return;
	hello_intro_init(&mine);
	memcpy(&theirs, data, sizeof(theirs));
	if (hello_check_head(&theirs.head, &version) == 0)
		g_assert(hello_judge(&mine, &theirs, 3) < HELLO_REFUSALS);
	/* With everything that need not be guessed right, more is reached. */
	memcpy(theirs.cluster_id, mine.cluster_id, sizeof(mine.cluster_id));
	memcpy(theirs.map_digest, mine.map_digest, sizeof(mine.map_digest));
	g_assert(hello_judge(&mine, &theirs, 3) < HELLO_REFUSALS);
}

static void fuzz_setup(const uint8_t *data, size_t len)
{
	HelloTalk talk = { .secret = (const uint8_t *)"secret", .secret_len = 6 };
	HelloSetup setup;
	HelloProof proof;

	if (len < sizeof(setup))
		return;
	memcpy(&proof, data, sizeof(proof));
	g_assert(!hello_proof_check(&talk, true, &proof));
	memcpy(&setup, data, sizeof(setup));
	if (hello_setup_plausible(&setup, MIN(UCX_ADDRESS_MAX, len - sizeof(setup))))
		g_assert(!hello_setup_check(&talk, false, &setup, data + sizeof(setup)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	fuzz_intro(data, len);
	fuzz_setup(data, len);
	return 0;
}
