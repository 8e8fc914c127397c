"""kill -9 of the daemon, and what is there after its restart."""
import mmap
import os
import random
import signal
import subprocess
import sys

import pytest

from harness.procs import errno_of

pytestmark = pytest.mark.core

COPIER = """
import os, random, sys
os.chdir(sys.argv[1])  # so that it stays on the mount when that is dead and detached
for i in range(1_000_000):
    rng = random.Random(i)
    data = rng.randbytes(rng.choice([0, 100, 4000, 20_000, 300_000, 5_000_000]))
    name = f"d{i % 10}/f{i}"
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "wb") as f:
        f.write(data)
    print(i, flush=True)
"""


def expected(i):
    rng = random.Random(i)
    return rng.randbytes(rng.choice([0, 100, 4000, 20_000, 300_000, 5_000_000]))


@pytest.mark.parametrize("after", [3, 40, 150])
def test_every_file_whose_close_had_returned_is_there_after_kill_9(make_cluster, after):
    peer = make_cluster().peers[0]
    copier = subprocess.Popen([sys.executable, "-c", COPIER, str(peer.mount)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    closed = []
    with copier.stdout:
        for line in copier.stdout:
            closed.append(int(line))
            if len(closed) == after:
                peer.kill()
    assert copier.wait() != 0
    assert len(closed) >= after
    peer.start().wait_ready()
    for i in closed:
        assert (peer.mount / f"d{i % 10}" / f"f{i}").read_bytes() == expected(i)
    # What was under way is whole or not there, and everything can be removed.
    subprocess.run(["rm", "-rf", *peer.mount.iterdir()], check=True)
    assert os.listdir(peer.mount) == []


@pytest.mark.parametrize("channel", ["auto", "classic"])
def test_mapped_pages_are_written_when_a_busy_mount_is_stopped(make_cluster, channel):
    peer = make_cluster(args=["--channel", channel]).peers[0]
    with open(peer.mount / "f", "w+b") as f:
        f.truncate(1 << 20)
        pages = mmap.mmap(f.fileno(), 1 << 20)
    with pages:
        pages[5000:5005] = b"hello"
        peer.kill(signal.SIGTERM)
    peer.start().wait_ready()
    assert (peer.mount / "f").read_bytes()[5000:5005] == b"hello"


def test_names_links_and_attributes_survive_kill_9(make_cluster):
    peer = make_cluster().peers[0]
    root = peer.mount
    (root / "d").mkdir(mode=0o750)
    (root / "d" / "f").write_text("x")
    os.link(root / "d" / "f", root / "hard")
    (root / "soft").symlink_to("d/f")
    os.setxattr(root / "hard", "user.x", b"y")
    os.utime(root / "hard", ns=(1, 2))
    os.rename(root / "d", root / "e")
    (root / "gone").touch()
    (root / "gone").unlink()
    number = (root / "hard").stat().st_ino
    peer.kill()
    peer.start().wait_ready()
    assert sorted(os.listdir(root)) == ["e", "hard", "soft"]
    assert (root / "e" / "f").stat().st_ino == number and (root / "e" / "f").stat().st_nlink == 2
    assert os.readlink(root / "soft") == "d/f" and os.getxattr(root / "hard", "user.x") == b"y"
    assert (root / "hard").stat().st_mtime_ns == 2 and (root / "e").stat().st_mode & 0o777 == 0o750


def test_truncated_bytes_do_not_come_back_after_kill_9(make_cluster):
    peer = make_cluster().peers[0]
    for i in range(20):
        (peer.mount / f"f{i}").write_bytes(b"\xff" * 1_000_000)
    for i in range(20):
        os.truncate(peer.mount / f"f{i}", 1000 * i)
    peer.kill()
    peer.start().wait_ready()
    for i in range(20):
        path = peer.mount / f"f{i}"
        assert path.stat().st_size == 1000 * i
        os.truncate(path, 2_000_000)
        data = path.read_bytes()
        assert data[:1000 * i] == b"\xff" * (1000 * i) and not any(data[1000 * i:])


def test_orphans_are_gone_after_kill_9(make_cluster):
    peer = make_cluster().peers[0]
    path = peer.mount / "f"
    path.write_bytes(os.urandom(10 << 20))
    fd = os.open(path, os.O_RDONLY)
    path.unlink()
    peer.kill()
    assert errno_of(os.close, fd) in (None, "ENOTCONN", "ECONNABORTED")
    peer.start().wait_ready()
    assert peer.stop() == []
    objects = [f for f in (peer.store / "objects").rglob("*") if f.is_file()]
    assert sum(f.stat().st_blocks for f in objects) == 0


def test_inode_numbers_are_not_given_twice_across_a_kill_9(make_cluster):
    peer = make_cluster().peers[0]
    seen = set()
    for round in range(4):
        for i in range(50):
            path = peer.mount / f"r{round}-{i}"
            path.touch()
            seen.add(path.stat().st_ino)
        peer.kill()
        peer.start().wait_ready()
    assert len(seen) == 200
