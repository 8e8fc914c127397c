"""What a mount holds back of a file that it alone writes: size, times and blocks.
Nobody can tell, also when a peer is killed meanwhile."""
import os
import threading

import pytest

from harness.env import BENCHFS, patience
from harness.procs import errno_of, eventually, run
from test_counters import spent

pytestmark = pytest.mark.limit(180)
PAGE = b"p" * 4096


def with_fd(call, flags):
    """call(fd) of a path, opened for that."""
    def on(path):
        fd = os.open(path, flags)
        try:
            return call(fd)
        finally:
            os.close(fd)
    return on


@pytest.fixture
def cluster(make_cluster):
    """Of three; what peer 0 makes has its home there."""
    cluster = make_cluster(3, transport="tcp,self")
    (cluster.mounts[0] / "d").mkdir()
    return cluster


class Writer:
    """Holds something back on mount 1."""

    def __init__(self, cluster, name="f"):
        self.peer, self.name = cluster.peers[1], name
        self.fd = os.open(cluster.mounts[1] / "d" / name, os.O_CREAT | os.O_RDWR)
        # Bytes that get an object, and the lease with the second.
        self.size = os.write(self.fd, PAGE * 32)
        self.write(2)

    def write(self, pages=1):
        for _ in range(pages):
            self.size += os.write(self.fd, PAGE)

    def held(self):
        return self.peer.counters()["heldback.files"]

    def hold(self):
        """Now there is something, whenever the last was told."""
        while not self.held():
            self.write()
        return self

    def close(self):
        os.close(self.fd)


@pytest.fixture
def writer(cluster):
    writer = Writer(cluster)
    yield writer
    errno_of(writer.close)


def others(cluster, name="f"):
    return [cluster.mounts[0] / "d" / name, cluster.mounts[2] / "d" / name]


def test_writing_a_file_that_nobody_else_uses_makes_no_call(writer):
    def work():
        before = os.fstat(writer.fd).st_mtime_ns
        writer.write()
        after = os.fstat(writer.fd)
        assert after.st_size == writer.size and after.st_mtime_ns > before

    sent = {}
    for _ in range(100):
        for name, n in spent(writer.peer, work)[0].items():
            sent[name] = sent.get(name, 0) + n
    # Twice a second it is told, and the next write asks again.
    assert set(sent) <= {"settle", "commit"} and sum(sent.values()) < 50


def test_what_is_held_back_is_seen_by_all_at_once(cluster, writer):
    looks = [
        lambda path: os.stat(path).st_size,
        lambda path: len(path.read_bytes()),
        lambda path: next(e for e in os.scandir(path.parent)).stat().st_size,
        with_fd(lambda fd: os.lseek(fd, 0, os.SEEK_END), os.O_RDONLY),
    ]
    for turn in range(60):
        writer.write()
        path = others(cluster)[turn % 2]
        assert looks[turn % len(looks)](path) == writer.size
        mine = os.fstat(writer.fd)
        seen = os.stat(path)
        assert (mine.st_mtime_ns, mine.st_ctime_ns, mine.st_blocks) == (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_blocks)
        assert seen.st_blocks * 512 >= writer.size


def test_the_writer_reads_what_it_wrote(writer):
    for _ in range(300):
        writer.write()
        assert os.pread(writer.fd, 8192, writer.size - 4096) == PAGE


def test_times_never_go_back(cluster, writer):
    last = 0
    for turn in range(200):
        writer.write()
        look = writer.fd if turn % 3 else others(cluster)[turn % 2]
        now = os.stat(look).st_mtime_ns
        assert now > last
        last = now


def test_what_is_held_back_is_told_within_a_second(cluster, writer):
    writer.hold()
    assert eventually(lambda: not writer.held(), 1.5)
    assert os.stat(others(cluster)[0]).st_size == writer.size


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_writer_that_is_gone_keeps_nothing_from_others(cluster, writer, end):
    """Killed: where it had been quiet for a second."""
    writer.hold()
    assert end == "stop" or eventually(lambda: not writer.held(), 1.5)
    writer.close()
    getattr(cluster.peers[1], end)()
    assert {os.stat(path).st_size for path in others(cluster)} == {writer.size}


CHANGES = {
    "truncated": lambda path: os.truncate(path, 1000),
    "grown": lambda path: os.truncate(path, 10 ** 7),
    "emptied by open": with_fd(lambda fd: None, os.O_WRONLY | os.O_TRUNC),
    "written": with_fd(lambda fd: os.pwrite(fd, b"x" * 100, 10 ** 6), os.O_WRONLY),
    "appended to": with_fd(lambda fd: os.write(fd, b"x" * 100), os.O_WRONLY | os.O_APPEND),
    "allocated": with_fd(lambda fd: os.posix_fallocate(fd, 0, 10 ** 6), os.O_WRONLY),
    "touched": lambda path: os.utime(path, ns=(10 ** 9, 10 ** 9)),
    "linked": lambda path: os.link(path, f"{path}2"),
    "renamed": lambda path: os.rename(path, path),
    "given an attribute": lambda path: os.setxattr(path, "user.a", b"1"),
    "another mode": lambda path: os.chmod(path, 0o600),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("where", [0, 1, 2])
def test_changes_come_after_what_was_held_back(cluster, where, change):
    """The same as on one mount, and on a local file system."""
    expected = {"truncated": 1000, "grown": 10 ** 7, "emptied by open": 0, "written": 10 ** 6 + 100, "allocated": 10 ** 6}
    writer = Writer(cluster).hold()
    size = writer.size
    CHANGES[change](cluster.mounts[where] / "d" / "f")
    size = expected.get(change, size + 100 if change == "appended to" else size)
    assert {os.stat(m / "d" / "f").st_size for m in cluster.mounts} == {size}
    assert {len((m / "d" / "f").read_bytes()) for m in cluster.mounts} == {size}
    if change == "touched":
        assert {os.stat(m / "d" / "f").st_mtime_ns for m in cluster.mounts} == {10 ** 9}
    os.pwrite(writer.fd, PAGE, size)
    assert {os.stat(m / "d" / "f").st_size for m in cluster.mounts} == {size + 4096}
    writer.close()


def test_two_writers_take_turns_and_lose_nothing(cluster):
    paths = [m / "d" / "f" for m in cluster.mounts]
    writer = Writer(cluster)
    base = writer.size

    def work(number):
        fd = os.open(paths[number], os.O_RDWR)
        for i in range(150):
            os.pwrite(fd, bytes([number + 1]) * 4096, base + (i * 3 + number) * 4096)
        os.close(fd)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = b"".join(bytes([n + 1]) * 4096 for _ in range(150) for n in range(3))
    assert all(path.read_bytes()[base:] == wanted for path in paths)
    writer.close()


@pytest.mark.parametrize("size", [256 << 10, 4096])
@pytest.mark.parametrize("other", [0, 2])
def test_a_write_comes_before_a_truncation_or_after_it(cluster, other, size):
    """Also where its bytes came first, and what tells the home of them last."""
    mounts = cluster.mounts
    data = b"x" * size
    fd = os.open(mounts[1] / "d" / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"x" * (256 << 10))
    for _ in range(300):
        cut = threading.Thread(target=os.truncate, args=(mounts[other] / "d" / "f", 0))
        cut.start()
        assert os.pwrite(fd, data, 0) == size
        cut.join()
        assert (mounts[2] / "d" / "f").read_bytes() in (b"", data)
        os.pwrite(fd, data, 0)
    os.close(fd)


def test_a_writer_comes_through_while_another_mount_truncates(cluster):
    mounts = cluster.mounts
    fd = os.open(mounts[1] / "d" / "f", os.O_CREAT | os.O_RDWR)
    done = threading.Event()

    def cut():
        while not done.is_set():
            os.truncate(mounts[2] / "d" / "f", 0)

    thread = threading.Thread(target=cut)
    os.write(fd, b"x" * (256 << 10))
    thread.start()
    try:
        for _ in range(200):
            assert os.pwrite(fd, b"x" * (1 << 20), 0) == 1 << 20
    finally:
        done.set()
        thread.join()
    os.close(fd)


def test_fsync_tells_and_survives_a_kill_of_all(cluster, writer):
    writer.hold()
    os.fsync(writer.fd)
    size = writer.size
    for peer in cluster.peers:
        peer.kill()
    for peer in cluster.peers:
        peer.start()
    for peer in cluster.peers:
        peer.wait_ready()
    assert eventually(lambda: {os.stat(m / "d" / "f").st_size for m in cluster.mounts} == {size}, 20)


@pytest.mark.parametrize("victims", [[1], [0], [0, 1], [1, 0], [0, 1, 2]], ids=str)
def test_what_was_held_back_survives_kill_9(cluster, writer, victims):
    writer.hold()
    for number in victims:
        cluster.peers[number].kill()
    if len(victims) == 3:
        done = run(BENCHFS, "fsck", *[p.store for p in cluster.peers], check=False)
        assert done.returncode == 0, done.stdout
    # Nobody is told something old: what isn't known is an error, after a while.
    if victims == [1]:
        path = cluster.mounts[2] / "d" / "f"
        assert errno_of(os.stat, path) in ("EIO", None)
        assert errno_of(os.stat, path) == "EIO" or os.stat(path).st_size == writer.size
    for number in victims:
        cluster.peers[number].start()
    for number in victims:
        cluster.peers[number].wait_ready()
    for mount in cluster.mounts:
        found = []
        assert eventually(lambda: found.append(len((mount / "d" / "f").read_bytes())) or True, 20)
        assert found[-1] == writer.size


def test_names_of_a_file_can_go_while_its_writer_is_away(cluster, writer):
    writer.hold()
    cluster.peers[1].kill()
    assert {errno_of(os.stat, path) for path in others(cluster)} == {"EIO"}
    os.rename(others(cluster)[0], others(cluster, "g")[0])
    os.unlink(others(cluster, "g")[1])
    assert os.listdir(cluster.mounts[0] / "d") == []
    cluster.peers[1].start().wait_ready()
    assert eventually(lambda: cluster.peers[1].counters()["heldback.files"] == 0, patience(10))


def test_a_file_of_sizes_that_makes_no_sense_is_refused(cluster, writer):
    peer = cluster.peers[2]
    assert peer.stop() == []
    (peer.store / "held-back").write_bytes(b"garbage")
    peer.start()
    assert peer.proc.wait(patience(30)) == 1
    assert "is no file of sizes held back" in peer.tail()
    (peer.store / "held-back").unlink()
    peer._forget()
    peer.start().wait_ready()


def test_nothing_is_found_wrong_while_leases_come_and_go(cluster, writer):
    done = threading.Event()

    def write():
        while not done.is_set():
            writer.write(20)

    def look():
        while not done.is_set():
            for path in others(cluster):
                os.stat(path)
            done.wait(0.05)

    threads = [threading.Thread(target=work) for work in (write, look)]
    for thread in threads:
        thread.start()
    try:
        for i in range(15):
            found = run(BENCHFS, "fsck", "--online", cluster.mounts[i % 3], check=False)
            assert found.returncode == 0, found.stdout + found.stderr
    finally:
        done.set()
        for thread in threads:
            thread.join()
