#pragma once
/* autoclose int fd = open(...): closed when it leaves its scope, unless -1 or
 * taken out with g_steal_fd(). errno is kept. */
#include <errno.h>
#include <unistd.h>

static inline void autoclose_cleanup(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}
#define autoclose __attribute__((cleanup(autoclose_cleanup)))
