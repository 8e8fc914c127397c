#pragma once
/*
 * The sessions that may call this peer, in the store as well. What they have of
 * this peer outlives its process: files that are open, locks. So a process that
 * starts knows whom the one before it served, and expects them (rpc.h): each comes
 * back, or ends once its time is over or its peer is there as another process. Until
 * then it counts as one that can't be reached, and whoever must ask all
 * sessions something asks again.
 *
 * A session is written before its first connection is up, and deleted when it
 * has ended; not when this process stops, for that ends none of the others.
 */
#include "server/internal.h"

/* Before the Rpc starts: what the last process left. -EIO. */
int coroutine_fn sessions_co_load(Server *s);
/* Was it found by that? */
bool sessions_loaded(const Server *s, uint64_t session);
void sessions_attach(Server *s);
/* Waits for deletions under way. */
void coroutine_fn sessions_co_stop(Server *s);
/* False: the record makes no sense. */
bool session_record_decode(const uint8_t *key, size_t key_len, const uint8_t *value, size_t len, uint64_t *ret_session, uint16_t *ret_peer);
