"""One file system: what concurrent clients of three mounts saw has one order.
By hand, for longer: BENCHFS_SOAK=1 pytest tests/test_linear.py."""
import os
import time

import pytest

from harness import env, linear
from harness.linear import Event

KINDS = ["bytes", "attributes", "names", "locks"]
FAULT = "lease.skip_recall"


def known_fault(name):
    """Does the program know this fault hook? Its name is in it then."""
    return env.BENCHFS.exists() and name.encode() in env.BENCHFS.read_bytes()


# ---- the checker itself ----

def history(*calls):
    """Events of (client, start, end, call, argument, result)."""
    return [Event(start, end, client, call, argument, result) for client, start, end, call, argument, result in calls]


GOOD = {
    "a read after a write": ("register", [(0, 1, 2, "write", 7, None), (1, 3, 4, "read", None, 7)]),
    "a read during a write finds old or new": (
        "register", [(0, 1, 9, "write", 7, None), (1, 2, 3, "read", None, 0), (1, 4, 5, "read", None, 7)]),
    "two writes at once in either order": (
        "register", [(0, 1, 5, "write", 7, None), (1, 1, 5, "write", 8, None), (2, 6, 7, "read", None, 7)]),
    "a write that nobody heard of may show later": (
        "register", [(0, 1, None, "write", 7, None), (1, 2, 3, "read", None, 0), (1, 4, 5, "read", None, 7)]),
    "readers of a write under way differ": (
        "settled", [(0, 1, 9, "write", 7, None), (1, 2, 3, "read", None, 7), (2, 4, 5, "read", None, 0)]),
    "a name made, seen, renamed, and removed": (
        "names", [(0, 1, 2, "create", "a", 5), (1, 1, 2, "create", "a", "EEXIST"), (1, 3, 4, "stat", "a", 5),
                  (2, 5, 8, "rename", ("a", "b"), None), (1, 6, 7, "listed", "b", True), (1, 9, 10, "unlink", "b", None),
                  (0, 11, 12, "stat", "b", "ENOENT")]),
    "a lock that changes hands": (
        "mutex", [(0, 1, 2, "lock", None, "got"), (1, 3, 4, "lock", None, "busy"), (0, 5, 8, "unlock", None, None),
                  (1, 6, 7, "lock", None, "got")]),
}

BAD = {
    "a stale read": ("register", [(0, 1, 2, "write", 7, None), (1, 3, 4, "read", None, 0)]),
    "a stale read although another write is under way": (
        "settled", [(0, 1, 2, "write", 7, None), (2, 2, 9, "write", 8, None), (1, 3, 4, "read", None, 0)]),
    "a value that went back": (
        "register", [(0, 1, 9, "write", 7, None), (1, 2, 3, "read", None, 7), (1, 4, 5, "read", None, 0)]),
    "a value that nobody wrote yet": ("settled", [(1, 1, 2, "read", None, 7), (0, 3, 4, "write", 7, None)]),
    "readers that disagree for good": (
        "settled", [(0, 1, 5, "write", 7, None), (1, 1, 5, "write", 8, None), (2, 6, 7, "read", None, 7),
                    (3, 6, 7, "read", None, 8)]),
    "a lost update": (
        "settled", [(0, 1, 2, "write", 7, None), (1, 3, 4, "write", 8, None), (2, 5, 6, "read", None, 7)]),
    "two creators of one name": ("names", [(0, 1, 5, "create", "a", 5), (1, 2, 6, "create", "a", 6)]),
    "a name that rose again": (
        "names", [(0, 1, 2, "create", "a", 5), (0, 3, 4, "unlink", "a", None), (1, 5, 6, "stat", "a", 5)]),
    "a name missing in a listing": ("names", [(0, 1, 2, "create", "a", 5), (1, 3, 4, "listed", "a", False)]),
    "a name that a rename left behind": (
        "names", [(0, 1, 2, "create", "a", 5), (1, 3, 4, "rename", ("a", "b"), None), (0, 5, 6, "stat", "a", 5)]),
    "a file that was missing while it was replaced": (
        "names", [(0, 1, 2, "create", "a", 5), (0, 3, 4, "create", "b", 6), (0, 5, 8, "rename", ("a", "b"), None),
                  (1, 6, 7, "stat", "b", "ENOENT")]),
    "two holders of a lock": ("mutex", [(0, 1, 2, "lock", None, "got"), (1, 3, 4, "lock", None, "got")]),
    "a free lock that was refused": (
        "mutex", [(0, 1, 2, "lock", None, "got"), (0, 3, 4, "unlock", None, None), (1, 5, 6, "lock", None, "busy")]),
}


@pytest.mark.parametrize("story", GOOD)
def test_the_checker_accepts(story):
    model, calls = GOOD[story]
    assert linear.check(model, history(*calls)) is None


@pytest.mark.parametrize("story", BAD)
def test_the_checker_finds(story):
    model, calls = BAD[story]
    complaint = linear.check(model, history(*calls))
    assert complaint and "no order explains" in complaint


# ---- what it finds of mounts ----

def complain(histories, seed):
    complaint = linear.check_all(histories)
    if complaint:
        pytest.fail(f"seed {seed}: {complaint}", pytrace=False)


@pytest.mark.soak
@pytest.mark.configs("tcp3", "shm3", "client")
def test_what_clients_of_all_mounts_saw_has_one_order(tree, figure):
    for seed in range(env.size(1, 10)):
        roots = [r / f"s{seed}" for r in tree.roots]
        roots[seed % len(roots)].mkdir()
        histories = linear.observe(roots, seed, env.size(3, 20), KINDS)
        figure(f"calls of seed {seed}", sum(map(len, histories.values())))
        complain(histories, seed)
        unknown = [e for events in histories.values() for e in events if e.end is None]
        assert len(unknown) * 200 <= sum(map(len, histories.values())), unknown[:20]


@pytest.mark.skipif(not known_fault(FAULT), reason=f"the program has no fault hook '{FAULT}'")
@pytest.mark.limit(90)
def test_a_recall_that_is_skipped_is_found_within_a_minute(make_cluster):
    cluster = make_cluster(3, start=False, transport="tcp,self")
    for peer in cluster.peers:
        peer.env["BENCHFS_TEST_FAULTS"] = FAULT
    cluster.start()
    end = time.monotonic() + env.patience(60)
    seed = 0
    while time.monotonic() < end:
        roots = [m / f"s{seed}" for m in cluster.mounts]
        os.mkdir(roots[0])
        if linear.check_all(linear.observe(roots, seed, 3, KINDS)):
            return
        seed += 1
    pytest.fail("a minute without a difference")
