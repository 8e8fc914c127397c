#include "common/fault.h"

#include <stdlib.h>
#include <string.h>

bool fault(const char *name)
{
	const char *at = getenv("BENCHFS_TEST_FAULTS");
	size_t len = strlen(name);

	while (at && *at) {
		size_t n = strcspn(at, ",");

		if (n == len && !memcmp(at, name, n))
			return true;
		at += n + (at[n] == ',');
	}
	return false;
}
