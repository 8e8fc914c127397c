"""A peer that dies or cannot be reached: bounded errors, and recovery."""
import os
import time

import pytest

from harness.env import patience
from harness.procs import errno_of, eventually

pytestmark = pytest.mark.limit(180)
BOUND = 30  # seconds after which a call must have answered


def homes(cluster):
    """A directory on each peer, with a file in it, made by that peer's mount."""
    for i, mount in enumerate(cluster.mounts[:cluster.n]):
        (mount / f"home{i}").mkdir()
        (mount / f"home{i}" / "f").write_bytes(bytes([65 + i]) * 100_000)


def bounded(call, *args):
    """errno of a call, which must come within the bound."""
    before = time.monotonic()
    problem = errno_of(call, *args)
    assert time.monotonic() - before < patience(BOUND), f"took {time.monotonic() - before:.0f} s"
    return problem


def check_without_peer_2(cluster):
    here, other = cluster.mounts[:2]
    started = time.monotonic()
    for mount in (here, other):
        assert bounded((mount / "home2" / "f").read_bytes) in ("EIO", "ETIMEDOUT", "EHOSTDOWN")
        assert bounded(os.open, mount / "home2" / "new", os.O_CREAT | os.O_WRONLY) in ("EIO", "ETIMEDOUT", "EHOSTDOWN")
    # The rest goes on.
    for i, mount in ((0, other), (1, here)):
        assert (mount / f"home{i}" / "f").read_bytes() == bytes([65 + i]) * 100_000
        (mount / f"home{i}" / "new").write_text("fine")
        assert set(os.listdir(mount / f"home{i}")) >= {"f", "new"}
    for mount in (here, other):
        assert bounded(os.statvfs, mount) is None
        assert bounded(os.listdir, mount) is None
        assert {"home0", "home1", "home2"} <= set(os.listdir(mount))
    return time.monotonic() - started


def check_whole(cluster):
    for mount in cluster.mounts:
        for i in range(3):
            assert eventually(lambda: (mount / f"home{i}" / "f").read_bytes() == bytes([65 + i]) * 100_000, BOUND)
    (cluster.mounts[0] / "home2" / "again").write_text("x")
    assert (cluster.mounts[2] / "home2" / "again").read_text() == "x"


def test_a_killed_peer_costs_seconds_then_eio_and_works_again_after_its_restart(make_cluster, figure):
    cluster = make_cluster(3, transport="tcp,self")
    homes(cluster)
    cluster.peers[2].kill()
    figure("seconds for all calls without the peer", round(check_without_peer_2(cluster), 1))
    cluster.peers[2].start().wait_ready()
    check_whole(cluster)


def test_a_cut_network_costs_seconds_then_eio_and_works_again_when_it_is_back(network, make_cluster, figure):
    net = network(3)
    cluster = make_cluster(3, transport="tcp,self", network=net)
    homes(cluster)
    net.cut(2)
    figure("seconds for all calls without the peer", round(check_without_peer_2(cluster), 1))
    assert bounded((cluster.mounts[2] / "home0" / "f").read_bytes) in ("EIO", "ETIMEDOUT", "EHOSTDOWN")
    net.join(2)
    check_whole(cluster)


def test_a_stopped_peer_that_comes_back_serves_what_it_served(make_cluster):
    cluster = make_cluster(3, transport="tcp,self")
    homes(cluster)
    assert cluster.peers[2].stop() == []
    assert bounded((cluster.mounts[0] / "home2" / "f").read_bytes) in ("EIO", "ETIMEDOUT", "EHOSTDOWN")
    cluster.peers[2].start().wait_ready()
    check_whole(cluster)


def test_data_on_a_dead_peer_is_eio_and_never_zeros(make_cluster):
    cluster = make_cluster(3, transport="tcp,self")
    directory = cluster.mounts[0] / "d"
    directory.mkdir()
    os.setxattr(directory, "benchfs.policy", b"stripe")
    os.setxattr(directory, "benchfs.chunk_size", b"65536")
    data = os.urandom(1 << 20)
    (directory / "f").write_bytes(data)
    cluster.peers[2].kill()
    assert bounded((directory / "f").read_bytes) in ("EIO", "ETIMEDOUT", "EHOSTDOWN")
    cluster.peers[2].start().wait_ready()
    assert eventually(lambda: (directory / "f").read_bytes() == data, BOUND)


def test_locks_of_a_killed_peer_are_given_to_those_who_wait(make_cluster, actor):
    cluster = make_cluster(2, transport="tcp,self")
    (cluster.mounts[0] / "f").touch()
    holder, waiter = actor(), actor()
    holder(f"os.open({str(cluster.mounts[1] / 'f')!r}, os.O_RDWR)")
    waiter(f"os.open({str(cluster.mounts[0] / 'f')!r}, os.O_RDWR)")
    holder("fcntl.lockf(3, fcntl.LOCK_EX)")
    waiter.start("fcntl.lockf(3, fcntl.LOCK_EX)")
    assert not waiter.finished(0.3)
    cluster.peers[1].kill()
    waiter.result(60)
    cluster.peers[1].start().wait_ready()


def test_a_process_waiting_for_a_dead_peer_can_be_killed(make_cluster, actor):
    cluster = make_cluster(3, transport="tcp,self")
    homes(cluster)
    cluster.peers[2].kill()
    victim = actor()
    victim.start(f"open({str(cluster.mounts[0] / 'home2' / 'f')!r}).read()")
    victim.finished(0.2)
    before = time.monotonic()
    victim.kill()
    victim.proc.wait(patience(BOUND))
    assert time.monotonic() - before < patience(BOUND)
