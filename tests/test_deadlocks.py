"""Operations that cross each other on several mounts, in one directory and on
one file, come to an end. Each mount may have to give up what it holds for the
others while it waits for them; whoever waits for each other waits for good."""
import os

import pytest

from harness import env, posix

CALLS = env.size(1500, 10_000, sanitized=300)
STUCK = env.size(40, 900)

pytestmark = [pytest.mark.configs("tcp3", "shm3"), pytest.mark.limit(55), pytest.mark.soak]

# What an actor does in each round. They meet now and then, so that none is done
# before the others began.
LOOP = """
import errno, random
from harness import posix
path, rng, meeting = {path!r}, random.Random({seed}), posix.Barrier({barrier!r})
fd = os.open(path + "/file", os.O_RDWR)
def call(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except OSError as e:
        assert e.errno in (errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EAGAIN, errno.ESTALE), e
def create(name):
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
"""
FUNCTION = """
def work(rounds):
    for number in range(rounds):
        if number % 50 == 0: meeting.wait()
        name = path + "/" + rng.choice("ab")
        other = path + "/" + rng.choice("ab")
        at = rng.choice([0, 10, 4096, 100_000])
        {body}
"""

CROSSINGS = {
    "create and unlink of the same names": ["call(create, name)", "call(os.unlink, name)"],
    "renames both ways": ["call(create, name)", "call(os.rename, path + '/a', path + '/b')", "call(os.rename, path + '/b', path + '/a')"],
    "renames, listings, and stats": ["call(create, name)", "call(os.rename, name, other)",
                                     "call(os.listdir, path)", "call(os.stat, name)"],
    "directories and what is in them": ["call(os.mkdir, path + '/d')", "call(create, path + '/d/x')", "call(os.unlink, path + '/d/x')",
                                        "call(os.rmdir, path + '/d')", "call(os.stat, path + '/d')"],
    "writes and truncations of one file": ["os.pwrite(fd, b'x' * 5000, at)", "os.ftruncate(fd, at)", "os.pread(fd, 5000, at)"],
    "writes, attributes, and stats of one file": ["os.pwrite(fd, b'x' * 100, at)", "os.setxattr(fd, 'user.x', b'%d' % number)",
                                                  "os.fchmod(fd, 0o600 + number % 64)", "os.fstat(fd)"],
    "locks around writes": ["fcntl.lockf(fd, fcntl.LOCK_EX); os.pwrite(fd, b'x', at); fcntl.lockf(fd, fcntl.LOCK_UN)",
                            "os.fstat(fd)", "os.ftruncate(fd, at)"],
    "everything at once": ["call(create, name)", "call(os.rename, name, other)", "call(os.unlink, name)", "call(os.listdir, path)",
                           "call(os.stat, name)", "os.pwrite(fd, b'x' * 5000, at)", "os.ftruncate(fd, at)", "os.pread(fd, 5000, at)",
                           "number % 40 or os.fsync(fd)", "os.setxattr(fd, 'user.x', b'%d' % number)",
                           "call(fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB) or fcntl.lockf(fd, fcntl.LOCK_UN)",
                           "call(os.rename, path + '/file', path + '/file')"],
}


def cross(tree, actor, tmp_path, mounts, calls, per_mount=1):
    """Actors on the first so many mounts do the calls in orders of their own."""
    (tree.turn() / "file").touch()
    count = mounts * per_mount
    barrier = posix.Barrier.make(tmp_path / "barrier", count)
    crowd = [actor() for _ in range(count)]
    for i, one in enumerate(crowd):
        turned = calls[i % len(calls):] + calls[:i % len(calls)]
        body = "\n        ".join(turned)
        one.do(LOOP.format(path=str(tree.roots[i % mounts]), seed=i, barrier=barrier) + FUNCTION.format(body=body))
    for one in crowd:
        one.start(f"work({max(50, CALLS // len(calls))})")
    for one in crowd:
        one.result(STUCK)
    # All that mounts agree on at last.
    assert len({tuple(sorted(os.listdir(p))) for p in tree.roots}) == 1
    assert len({(s.st_size, s.st_mode, s.st_mtime_ns) for s in (os.stat(p / "file") for p in tree.roots)}) == 1
    assert len({(p / "file").read_bytes() for p in tree.roots}) == 1


@pytest.mark.parametrize("story", CROSSINGS)
def test_two_mounts_come_to_an_end_with(tree, actor, tmp_path, story):
    cross(tree, actor, tmp_path, 2, CROSSINGS[story])


def test_three_mounts_with_two_processes_each_come_to_an_end(tree, actor, tmp_path):
    cross(tree, actor, tmp_path, 3, CROSSINGS["everything at once"], per_mount=2)
