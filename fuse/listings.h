#pragma once
/*
 * Which listings the kernel keeps, and when it may. Told that directories need
 * no opens, it puts the entries of each READDIR behind those that it has, if they
 * continue them, and serves the lot from when an empty reply says that it is
 * whole. It begins anew where mtime moved or a page is missing. Left alone it gets
 * this wrong: an answer that was sent before a change may be put down after
 * somebody else has read the new mtime.
 *
 * So its own judgement is not used. A listing is ended by an empty reply only
 * where all that the kernel can have put down of it, or be about to, is of one
 * lease; else by a reply too short to hold an entry, upon which it ends as well,
 * and is not kept. When the lease goes, so do its pages: without the first, what
 * comes behind it is never used. The lease is gone at once, with the attributes; its
 * pages before attributes are given out again, which every reader asks for first.
 *
 * An answer is on its way until the thread that got it asks for something else,
 * or is no more. Of threads that we can't name nothing is known: having seen one
 * we end no listing with an empty reply.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/co.h"

typedef struct Listings Listings;

typedef struct ListingsOptions {
	uint32_t max; /* directories that are kept account of */
	/* Makes the kernel drop the pages of a directory. May yield. */
	void coroutine_fn (*drop)(void *arg, uint64_t dir);
	/* fn(fn_arg) on a coroutine of its own; false: it is too late for that */
	bool (*spawn)(void *arg, CoFn *fn, void *fn_arg);
	bool (*thread_exists)(void *arg, uint32_t thread);
	void *arg;
} ListingsOptions;

Listings *listings_new(const ListingsOptions *opts);
void listings_free(Listings *l);

/* A thread has sent a request that it can't send while it puts entries down. */
void listings_went_on(Listings *l, uint32_t thread);
/* A listing is begun. lease: the number of the one that is held, 0: none. Yields
 * while what is left of others is dropped. */
void coroutine_fn listings_co_begin(Listings *l, uint64_t dir, uint64_t lease);
/* May the listing be ended, by a reply to a thread that went on, so that the
 * kernel keeps it? */
bool listings_may_keep(Listings *l, uint64_t dir, uint64_t lease);
/* A portion is about to be sent, or its end, as it is under a lease (0: none).
 * No yield since that was seen to be so. */
void listings_reply(Listings *l, uint64_t dir, uint64_t lease, uint32_t thread);
/* The lease has ended under which portions were sent. */
void listings_lease_ended(Listings *l, uint64_t dir);
/* Attributes are about to be sent. Yields while pages are dropped. */
void coroutine_fn listings_co_show(Listings *l, uint64_t dir);
uint32_t listings_size(const Listings *l);
