#pragma once
/*
 * An entry of FUSE over io_uring: the memory that a request arrives in and its
 * reply leaves from. What the channel does with entries is channel-uring.c's.
 *
 * Memory of an entry, in one mapping whose pages exist once they are used:
 *
 *	| page: kernel's header ...  in-header + operation | payload ... |
 *	                                                   ^ page boundary
 *
 * The kernel puts the operation's struct into its header, and names and data
 * into the payload. Copying the former (168 bytes at most) in front of the
 * payload gives the one contiguous message that /dev/fuse would have given.
 */
#include "fuse/channel.h"

typedef struct RingEnt RingEnt;
typedef struct RingQueue RingQueue;

/* What entries of one channel share. */
typedef struct RingMemory {
	size_t payload_size; /* bytes of each entry's payload */
	uint64_t bulky;      /* entries with a payload that takes much memory */
} RingMemory;

typedef enum EntState { ENT_KERNEL, ENT_USER, ENT_DEAD } EntState;

struct RingEnt {
	UringOp op;
	Request req;
	RingMemory *memory;
	RingQueue *queue; /* the channel's */
	RingEnt *next;    /* of the queue */
	EntState state;
	uint32_t cmd;     /* the last one submitted */
	bool bulky;
	uint64_t commit_id;
	struct fuse_uring_req_header *header;
	char *payload;
	struct iovec iov[2]; /* read by the kernel when the entry is registered */
};

/* NULL: no memory. Not yet the kernel's: ENT_DEAD. */
RingEnt *ring_ent_new(RingMemory *memory, Channel *channel, UringDone *done);
void ring_ent_free(RingEnt *e);
/* cmd: FUSE_IO_URING_CMD_*. From here on both buffers are the kernel's. */
void ring_ent_submit(RingEnt *e, Uring *u, int fd, uint16_t qid, uint32_t cmd);
/* Makes e->req of what the kernel wrote. -EPROTO: that makes no sense. */
int ring_ent_receive(RingEnt *e);
/* Puts a reply where the kernel will look for it; iov[0] is the header. What
 * lies in the payload already is not copied. -EINVAL: too long. */
int ring_ent_reply(RingEnt *e, const struct iovec *iov, int count);
/* The same for a reply that is only an error. */
void ring_ent_reply_error(RingEnt *e, int error);
/* `size` bytes of payload are about to be written. */
void ring_ent_note_use(RingEnt *e, size_t size);
