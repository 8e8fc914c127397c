"""What the kernel caches it may give up whenever it likes: when memory runs
short, or when somebody writes to /proc/sys/vm/drop_caches, as managers of
virtual machines do. A test of what is kept must not take that for ours."""

TAKEN = ("drop_pagecache", "drop_slab", "pginodesteal", "kswapd_inodesteal", "pgsteal_kswapd", "pgsteal_direct",
         "pgsteal_khugepaged", "pgsteal_proactive", "workingset_refault_file")


def taken():
    with open("/proc/vmstat") as f:
        counts = dict(line.split() for line in f)
    return [counts.get(name) for name in TAKEN]


class Reclaim:
    def __init__(self):
        self.before = taken()

    def without(self, action, after):
        """The result of a run of action() during which the kernel gave nothing up
        by itself: of another one nothing can be said. after() brings back what it
        gave up since the start, or since that was last done."""
        for _ in range(100):
            if taken() == self.before:
                result = action()
                if taken() == self.before:
                    return result
            self.before = taken()
            after()
        raise AssertionError("the kernel gave up caches by itself in each of 100 runs")
