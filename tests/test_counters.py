"""What the program counts of itself: messages, requests in flight, memory, idleness."""
import contextlib
import os
import time

import pytest

from harness.env import SANITIZED, size
from harness.posix import pread_direct
from harness.procs import cpu_seconds, run, status_kib

MIB = 1 << 20
BACKGROUND = {"ping", "peer_info", "statfs", "txn_sync"}


def rises(peer, action):
    before = peer.counters()
    action()
    after = peer.counters()
    return {name: after[name] - before.get(name, 0) for name in after}


def spent(peer, action):
    """RPCs sent and kernel requests made by one mount during action(), by
    operation; without those of reading the counters."""
    asking = rises(peer, lambda: None)
    made = {name: n - asking.get(name, 0) for name, n in rises(peer, action).items()}

    def part(prefix):
        names = {n.removeprefix(prefix): v for n, v in made.items() if n.startswith(prefix) and v > 0}
        return {n: v for n, v in names.items() if n not in BACKGROUND}

    return part("rpc.sent."), part("fuse.requests.")


@contextlib.contextmanager
def opened(path, flags=os.O_RDONLY):
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.limit(120)
@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_each_create_and_first_lookup_of_the_kernel_costs_one_rpc_whatever_the_number_of_peers(make_cluster, n, figure):
    cluster = make_cluster(n, serve=True, clients=1, transport="tcp,self")
    client = cluster.peers[-1]
    (client.mount / "d").mkdir()
    count = 50

    def create(here):
        for i in range(count):
            os.close(os.open(f"f{i}", os.O_CREAT | os.O_WRONLY, dir_fd=here))

    def look(here):
        for i in range(count):
            os.stat(f"f{i}", dir_fd=here)

    def miss(here):
        for i in range(count):
            assert not os.access(f"missing{i}", os.F_OK, dir_fd=here)

    def stat(fds):
        for fd in fds:
            os.fstat(fd)

    with opened(client.mount / "d", os.O_DIRECTORY) as here, contextlib.ExitStack() as held:
        for name, action, most in (("creates", create, {"create": count, "lookup": count}),
                                   ("lookups", look, {"lookup": count}), ("misses", miss, {"lookup": count})):
            sent, asked = spent(client, lambda: action(here))
            if name == "creates":
                figure(f"RPCs for {count} {name}", sent)
            # Besides, the kernel asks for the directory's attributes to check permissions.
            assert {op: sent[op] for op in sent if op != "getattr"} == most
            assert sent.get("getattr", 0) <= asked.get("getattr", 0) <= 4 * count
        fds = [held.enter_context(opened(client.mount / "d" / f"f{i}")) for i in range(count)]
        # Nobody changes them, so what was told once is kept under leases.
        sent, _ = spent(client, lambda: stat(fds))
        assert sent == {}


def use_files(here):
    for i in range(20):
        fd = os.open(f"f{i}", os.O_CREAT | os.O_RDWR, dir_fd=here)
        os.write(fd, b"x" * 100_000)
        os.pread(fd, 100_000, 0)
        os.close(fd)
        os.stat(f"f{i}", dir_fd=here)
        os.unlink(f"f{i}", dir_fd=here)


def test_files_of_the_own_peer_cost_no_rpc_at_all(make_cluster):
    cluster = make_cluster(3, transport="tcp,self")
    peer = cluster.peers[1]
    (peer.mount / "own").mkdir()
    with opened(peer.mount / "own", os.O_DIRECTORY) as here:
        sent, _ = spent(peer, lambda: use_files(here))
    # An unlink asks the other mounts whether they have the file open.
    assert set(sent) <= {"forget_query"}, sent


def test_one_read_over_four_targets_has_its_pieces_in_flight_at_once(make_cluster, figure):
    cluster = make_cluster(4, serve=True, clients=1, transport="tcp,self")
    client = cluster.peers[-1]
    directory = client.mount / "d"
    directory.mkdir()
    os.setxattr(directory, "benchfs.policy", b"stripe")
    os.setxattr(directory, "benchfs.chunk_size", b"262144")
    data = os.urandom(16 * MIB)
    (directory / "f").write_bytes(data)
    with opened(directory / "f", os.O_RDONLY | os.O_DIRECT) as fd:
        sent, _ = spent(client, lambda: pread_direct(fd, MIB, 4 * MIB))
        assert sent["obj_read"] == 4 and sent.get("read", 0) + sent.get("layout", 0) <= 1
        most = client.counters()["rpc.obj_read.inflight_max"]
        assert most == 4
        assert pread_direct(fd, 16 * MIB, 0) == data
    most = client.counters()["rpc.obj_read.inflight_max"]
    figure("requests in flight at once for 16 MiB", most)
    assert most >= 16


def test_a_sequential_writer_rarely_asks_for_the_chunk_map(make_cluster):
    cluster = make_cluster(2, serve=True, clients=1, transport="tcp,self")
    client = cluster.peers[-1]

    def write():
        with open(client.mount / "f", "wb", buffering=0) as f:
            for _ in range(64):
                f.write(bytes(MIB))

    sent, asked = spent(client, write)
    assert sent.get("layout", 0) <= 16
    assert sum(sent.values()) <= 3 * asked["write"] + 20


@pytest.mark.skipif(SANITIZED, reason="needs a build without sanitizers, which take memory of their own")
def test_an_idle_peer_takes_less_than_60_mib(make_cluster, figure):
    cluster = make_cluster(3, transport="tcp,self")
    for mount in cluster.mounts:
        os.listdir(mount)
    taken = [status_kib(p.pid, "VmRSS") / 1024 for p in cluster.peers]
    figure("MiB of idle peers", [round(t, 1) for t in taken])
    assert max(taken) < 60


@pytest.mark.soak
@pytest.mark.limit(180)
@pytest.mark.skipif(SANITIZED, reason="needs a build without sanitizers, which take memory of their own")
def test_a_mount_that_has_read_a_lot_takes_less_than_400_mib(make_cluster, figure):
    cluster = make_cluster(3, transport="tcp,self")
    amount = size(1024, 10240)
    run("dd", "if=/dev/zero", f"of={cluster.mounts[1] / 'f'}", "bs=1M", f"count={amount}", timeout=600)
    for _ in range(2):
        run("dd", f"if={cluster.mounts[0] / 'f'}", "of=/dev/null", "bs=1M", timeout=600)
    taken = [status_kib(p.pid, "VmHWM") / 1024 for p in cluster.peers]
    figure(f"MiB at most after reading {amount} MiB twice", [round(t) for t in taken])
    assert max(taken) < 400


@pytest.mark.soak
@pytest.mark.skipif(SANITIZED, reason="needs a build without sanitizers")
def test_an_idle_peer_uses_less_than_1_percent_of_a_core(make_cluster, figure):
    cluster = make_cluster(3, transport="tcp,self")
    for mount in cluster.mounts:
        (mount / "f").write_text("x")
        os.listdir(mount)
    time.sleep(2)  # connections and first heartbeats are done
    window = size(5, 60)
    before = [cpu_seconds(p.pid) for p in cluster.peers]
    time.sleep(window)  # the measurement
    shares = [100 * (cpu_seconds(p.pid) - b) / window for p, b in zip(cluster.peers, before)]
    figure("percent of a core", [round(s, 2) for s in shares])
    assert max(shares) < 1
