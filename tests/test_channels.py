"""Both ways in which the kernel's requests can come."""
import fcntl
import os
from pathlib import Path

import pytest

from harness.procs import run

pytestmark = pytest.mark.limit(120)
PARAMETER = Path("/sys/module/fuse/parameters/enable_uring")


def uring_is_on():
    return PARAMETER.exists() and PARAMETER.read_text().strip() in ("Y", "1")


@pytest.fixture(params=["classic", "uring"])
def peer(request, make_cluster):
    if request.param == "uring" and not uring_is_on():
        pytest.skip("the fuse module's enable_uring is off")
    peer = make_cluster(args=["--channel", request.param]).peers[0]
    peer.channel = request.param
    return peer


def test_requests_come_through_the_channel_asked_for(peer):
    (peer.mount / "file").write_bytes(b"x")
    assert (peer.counters().get("fuse.uring.requests", 0) > 0) == (peer.channel == "uring")


def test_channel_not_offered_is_refused(make_cluster):
    if uring_is_on():
        pytest.skip("FUSE over io_uring is offered here")
    peer = make_cluster(start=False, args=["--channel", "uring"]).peers[0]
    done = run(*peer.command(), check=False)
    assert done.returncode != 0
    assert "io_uring" in done.stderr


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 131072, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20])
def test_data_of_any_length_is_the_same_again(peer, size):
    data = os.urandom(size)
    path = peer.mount / f"file{size}"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert path.read_bytes() == data
    finally:
        os.close(fd)


def test_longest_name_target_and_attribute(peer):
    name = "n" * 255
    os.symlink("t" * 4095, peer.mount / name)
    assert os.readlink(peer.mount / name) == "t" * 4095
    (peer.mount / "file").touch()
    os.setxattr(peer.mount / "file", "user." + "a" * 250, b"v" * 40000)
    assert os.getxattr(peer.mount / "file", "user." + "a" * 250) == b"v" * 40000


def test_many_callers_that_wait_on_one_cpu_leave_room_for_others(peer):
    """A queue of the kernel that is full of waiters must not shut out the one
    who ends their wait."""
    path = peer.mount / "lock"
    path.touch()
    cpu = min(os.sched_getaffinity(0))
    fd = os.open(path, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    waiters = []
    for _ in range(50):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.sched_setaffinity(0, {cpu})
                mine = os.open(path, os.O_RDWR)
                fcntl.lockf(mine, fcntl.LOCK_EX)
                status = 0
            finally:
                os._exit(status)
        waiters.append(pid)
    old = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        for i in range(100):
            (peer.mount / f"other{i}").write_bytes(b"x")
        fcntl.lockf(fd, fcntl.LOCK_UN)
        assert [os.waitpid(pid, 0)[1] for pid in waiters] == [0] * len(waiters)
    finally:
        os.sched_setaffinity(0, old)
        os.close(fd)
