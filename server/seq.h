#pragma once
/*
 * New inode numbers. Sequences come from one counter of the store, whatever
 * the slot, so that one reservation serves them all: a reservation must have
 * reached the disk before its first number is used (a number that were used
 * again after a power loss would find the objects of its former life on other
 * peers), and a sync for each of 4096 slots would make the first directories
 * slow. Numbers of a slot still only grow. A peer that takes a slot over must
 * begin above the other's counter.
 */
#include "server/internal.h"

/* A number in slot, never given out before. -errno when no more can be
 * reserved (a full disk). */
int coroutine_fn sequences_co_take(Server *s, uint16_t slot, uint64_t *ret_ino);
/* Waits for a reservation that is under way. */
void coroutine_fn sequences_co_stop(Server *s);
