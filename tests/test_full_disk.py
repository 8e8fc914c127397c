"""A store whose disk is full."""
import errno
import os
import random

import pytest

from harness.procs import errno_of, eventually

MIB = 1 << 20


def content(seed, length):
    """Bytes that do not compress, as the metadata store would do."""
    return random.Random(seed).randbytes(length)


def fill(directory, piece, limit):
    """Writes files until there is no room; {path: seed} of those whose close
    had returned."""
    whole = {}
    for i in range(limit):
        path = directory / f"fill{i}"
        try:
            with open(path, "wb", buffering=0) as f:
                left = memoryview(content(i, piece))
                while left:
                    left = left[f.write(left):]
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
            return whole
        whole[path] = i
    raise AssertionError("the disk did not fill")


def intact(whole, piece):
    for path, seed in whole.items():
        assert path.read_bytes() == content(seed, piece)


@pytest.fixture
def full(small_disk, make_cluster):
    disk = small_disk(96)
    cluster = make_cluster(start=False)
    cluster.peers[0].store = disk.path / "store"
    cluster.start()
    yield cluster, disk
    assert cluster.stop() == []


@pytest.mark.parametrize("piece", [3 * MIB, 100_000, 3000], ids=["big", "medium", "inline"])
def test_a_full_disk_is_enospc_and_loses_nothing(full, piece):
    cluster, disk = full
    root = cluster.mounts[0]
    whole = fill(root, piece, 40_000)
    assert whole
    intact(dict(list(whole.items())[-200:]), piece)
    assert os.statvfs(root).f_bavail * os.statvfs(root).f_frsize < 2 * max(piece, MIB)
    # Deleting works, gives the room back, and then writing works again.
    for path in list(whole)[::2]:
        path.unlink()
        del whole[path]
    fresh = root / "fresh"
    assert eventually(lambda: fresh.write_bytes(b"n" * piece) == piece, 20)
    assert fresh.read_bytes() == b"n" * piece
    intact(dict(list(whole.items())[-200:]), piece)


def test_a_store_that_was_full_starts_again_with_all_files(full):
    cluster, _ = full
    whole = fill(cluster.mounts[0], MIB, 1000)
    assert cluster.peers[0].stop() == []
    cluster.peers[0].start().wait_ready()
    intact(whole, MIB)
    for path in whole:
        path.unlink()
    assert set(os.listdir(cluster.mounts[0])) <= {f"fill{len(whole)}"}  # the one that found no room


def test_a_full_disk_under_fallocate_and_mappings_is_an_error_not_a_loss(full):
    root = full[0].mounts[0]
    with open(root / "f", "wb") as f:
        f.write(b"kept" * 1000)
        f.flush()
        assert errno_of(os.posix_fallocate, f.fileno(), 0, 500 * MIB) == "ENOSPC"
    assert (root / "f").read_bytes()[:4000] == b"kept" * 1000


def test_data_goes_to_other_peers_when_the_own_store_is_full(small_disk, make_cluster):
    disk = small_disk(96)
    cluster = make_cluster(2, start=False, transport="tcp,self")
    cluster.peers[0].store = disk.path / "store"
    cluster.start()
    here, there = cluster.mounts
    (here / "d").mkdir()
    data = os.urandom(MIB)
    for i in range(150):
        (here / "d" / f"f{i}").write_bytes(data)
    for i in range(150):
        assert (there / "d" / f"f{i}").read_bytes() == data
    assert cluster.stop() == []
