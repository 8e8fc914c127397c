#pragma once
/*
 * How new the pages are that the kernel keeps of a file. The kernel drops them
 * when it gets attributes with another mtime, but too late for everybody: of two
 * that ask at once the second finds mtime already replaced, and may read pages
 * that the first has still to drop; and attributes that lose against a
 * notification are ignored, after which a read goes on with what there is. So
 * pages that are older than the attributes of a reply are dropped before it is
 * sent.
 *
 * The kernel then ignores just those attributes, since dropping notifies it. So
 * for one thread that uses the file alone this is for changes that leave the size
 * as it was; where the size is new the kernel must hear of that, and drops the
 * pages itself.
 *
 * Of several threads it hears at most one: what it asked for before it took note
 * of the last answer, or of the last write of its own, it ignores (fs/fuse/inode.c,
 * attr_version), and who asked reads on with what the other was told, which may
 * be older; and between a new size and the dropping of its pages another reads
 * zeros behind what was the end. So where several threads use a file that another
 * mount changes, pages are dropped for a longer size as well, and that is given to
 * the kernel with the last byte, which it takes at once. A shorter one can't be
 * given so: who asks beside another may see the old end once more.
 *
 * Entries are by a hash of the number; one that has given way to another inode's
 * costs this certainty and nothing else.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/co.h"
#include "common/uring.h"
#include "common/wire.h"

typedef struct Pages Pages;

typedef struct PagesOptions {
	Uring *uring;
	int fd; /* of the kernel's channel */
	/* Does another mount change it just now? */
	bool (*is_hot)(void *arg, uint64_t ino);
	/* The last byte of a file of that size, which is not 0; yields. False: it is
	 * not to be had. */
	bool coroutine_fn (*last_byte)(void *arg, const WireAttr *attr, uint8_t *ret_byte);
	void *arg;
} PagesOptions;

Pages *pages_new(const PagesOptions *opts);
void pages_free(Pages *p);
/* It opens the file. attr: what it was shown, where that is still so; NULL: it
 * was not, or will ask for attributes before it uses a page. Which it was shown
 * must be known before somebody else's change is. */
void pages_open(Pages *p, uint64_t ino, const WireAttr *attr);
/* The kernel gets bytes that are at least as new as attr, which it was shown; NULL:
 * not known. */
void pages_read(Pages *p, uint64_t ino, const WireAttr *attr);
/* It is about to write bytes through, and has written them: before that mtime
 * was prev_mtime_ns. What it read meanwhile may still be what was there before,
 * and need not be in the pages that it wrote from: those may have been dropped.
 * pages_writing(): p may be NULL; thread as below. */
uint32_t pages_writing(Pages *p, uint64_t ino, uint32_t thread);
void pages_written(Pages *p, const WireAttr *attr, int64_t prev_mtime_ns, uint32_t writing);
/* Was it shown that size last? */
bool pages_have_size(Pages *p, const WireAttr *attr);
/* The kernel drops all it has of a file. Yields as pages_co_show(). */
void coroutine_fn pages_co_drop(Pages *p, uint64_t ino);
/* Attributes are about to be sent to a thread, by the kernel's number. Yields while
 * older pages are dropped, which may take as long as reads and writes of this
 * file that are under way. */
void coroutine_fn pages_co_show(Pages *p, const WireAttr *attr, uint32_t thread);
