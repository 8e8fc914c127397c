"""Flags of calls that read and write, holes, copies, mappings, events."""
import ctypes
import mmap
import os
import struct

import pytest

from harness import posix
from harness.procs import errno_of, eventually

pytestmark = [pytest.mark.core, pytest.mark.configs("one", "tcp3", "client")]
MIB = 1 << 20
RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_NOWAIT, RWF_APPEND = 1, 2, 4, 8, 16


def preadv2(fd, length, offset, flags):
    buffer = bytearray(length)
    return bytes(buffer[:os.preadv(fd, [buffer], offset, flags)])


# ---- preadv2, pwritev2 ----

def test_rwf_append_writes_at_the_end_that_this_mount_knows(tree):
    tree.at(0, "f").write_bytes(b"12345")
    fd = os.open(tree.at(1, "f"), os.O_RDWR)
    with tree.at(0, "f").open("ab") as other:
        other.write(b"67")
    # The kernel does not tell a file system of the flag, and takes the size it knows.
    assert os.fstat(fd).st_size == 7
    assert os.pwritev(fd, [b"8", b"9"], 0, RWF_APPEND) == 2
    os.close(fd)
    assert {p.read_bytes() for p in tree.all("f")} == {b"123456789"}


@pytest.mark.parametrize("flags", [RWF_DSYNC, RWF_SYNC, RWF_DSYNC | RWF_APPEND])
def test_synchronous_pieces_are_written(tree, flags):
    fd = os.open(tree.turn("f"), os.O_RDWR | os.O_CREAT)
    assert os.pwritev(fd, [b"a" * 5000, b"b" * 5000], 0, flags) == 10_000
    os.close(fd)
    assert {p.read_bytes() for p in tree.all("f")} == {b"a" * 5000 + b"b" * 5000}


@pytest.mark.parametrize("flags", [RWF_NOWAIT, RWF_HIPRI])
def test_impatient_reads_are_right_or_refused(tree, flags):
    data = os.urandom(20_000)
    tree.at(0, "f").write_bytes(data)
    fd = os.open(tree.at(1, "f"), os.O_RDONLY)
    for _ in range(2):
        got = []
        problem = errno_of(lambda: got.append(preadv2(fd, 20_000, 0, flags)))
        assert problem in ("EAGAIN", "EOPNOTSUPP") or data.startswith(got[0]) and got[0]
        os.pread(fd, 20_000, 0)
    os.close(fd)


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_synchronous_descriptors_write_what_others_read(tree, flag):
    fd = os.open(tree.at(0, "f"), os.O_RDWR | os.O_CREAT | flag)
    for i in range(5):
        os.write(fd, bytes([65 + i]) * 3000)
        assert tree.at(1, "f").read_bytes()[-3000:] == bytes([65 + i]) * 3000
    os.close(fd)


def test_direct_io_is_seen_by_buffered_io_on_another_mount_and_back(tree):
    fd = os.open(tree.at(0, "f"), os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    for i in range(4):
        os.pwrite(fd, posix.aligned(bytes([i]) * 8192), i * 8192)
    assert tree.at(1, "f").read_bytes() == b"".join(bytes([i]) * 8192 for i in range(4))
    with tree.at(1, "f").open("r+b") as f:
        f.write(b"new")
    assert posix.pread_direct(fd, 4096, 0)[:4] == b"new\0"
    os.close(fd)


# ---- holes ----

@pytest.mark.parametrize("mode", [posix.COLLAPSE_RANGE, posix.INSERT_RANGE])
def test_moving_the_rest_of_a_file_is_refused_and_changes_nothing(tree, mode):
    data = os.urandom(3 * 65536)
    tree.turn("f").write_bytes(data)
    fd = os.open(tree.turn("f"), os.O_RDWR)
    assert errno_of(posix.fallocate, fd, mode, 65536, 65536) == "EOPNOTSUPP"
    os.close(fd)
    assert {p.read_bytes() for p in tree.all("f")} == {data}


def test_a_hole_punched_on_one_mount_is_a_hole_on_all(tree):
    tree.at(0, "f").write_bytes(b"x" * 3 * MIB)
    before = tree.at(1, "f").stat().st_blocks
    with tree.at(0, "f").open("r+b") as f:
        posix.fallocate(f.fileno(), posix.PUNCH_HOLE | posix.KEEP_SIZE, MIB, MIB)
    for path in tree.all("f"):
        with path.open("rb") as f:
            assert os.lseek(f.fileno(), 0, os.SEEK_HOLE) == MIB
            assert os.lseek(f.fileno(), MIB, os.SEEK_DATA) == 2 * MIB
            assert os.pread(f.fileno(), 10, MIB - 5) == b"x" * 5 + bytes(5)
        assert path.stat().st_size == 3 * MIB and before - path.stat().st_blocks >= 2000


# ---- copies ----

def test_a_copy_between_homes_is_whole_and_sparse(tree):
    source, target = tree.at(0, "from"), tree.at(1, "to")
    source.mkdir()
    target.mkdir()
    with (source / "f").open("wb") as f:
        for at in (0, 5 * MIB, 21 * MIB):
            f.seek(at)
            f.write(os.urandom(MIB))
    size = 22 * MIB
    fds = os.open(source / "f", os.O_RDONLY), os.open(target / "f", os.O_RDWR | os.O_CREAT)
    done = 0
    while done < size:
        done += os.copy_file_range(*fds, size - done, done, done)
    assert os.copy_file_range(*fds, 100, size, size) == 0
    for fd in fds:
        os.close(fd)
    assert tree.at(2, "to", "f").read_bytes() == tree.at(2, "from", "f").read_bytes()


# ---- mappings ----

def test_a_shared_mapping_is_exact_within_a_mount(tree, actor):
    path = tree.turn("f")
    path.write_bytes(bytes(8192))
    other = actor()
    other.do(f"fd = os.open({str(path)!r}, os.O_RDWR); m = mmap.mmap(fd, 8192)")
    with path.open("r+b") as f, mmap.mmap(f.fileno(), 8192) as mapped:
        for i in range(1, 20):
            mapped[5000] = i
            assert other("m[5000]") == i
            other.do(f"m[100] = {i}")
            assert mapped[100] == i
            assert os.pread(f.fileno(), 1, 100) == bytes([i])
            os.pwrite(f.fileno(), bytes([i]), 200)
            assert other("m[200]") == i


def test_a_mapping_made_after_a_write_elsewhere_sees_it(tree):
    tree.at(0, "f").write_bytes(b"old" * 2000)
    for i in range(4):
        path = tree.at(i + 1, "f")
        with path.open("rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == path.read_bytes()
        tree.at(i, "f").write_bytes(bytes([i]) * 6000)
        with path.open("rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == bytes([i]) * 6000


# ---- inotify ----

IN_MODIFY, IN_CREATE, IN_DELETE = 0x2, 0x100, 0x200


def test_inotify_tells_of_changes_through_this_mount(tree):
    here = tree.turn()
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    assert fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(here), IN_MODIFY | IN_CREATE | IN_DELETE) >= 0
    with (here / "f").open("wb") as f:
        f.write(b"x")
    (here / "f").unlink()
    seen = []

    def events():
        try:
            data = os.read(fd, 4096)
        except BlockingIOError:
            data = b""
        while data:
            _, mask, _, length = struct.unpack_from("iIII", data)
            seen.append(mask)
            data = data[16 + length:]
        return {IN_MODIFY, IN_CREATE, IN_DELETE} <= set(seen)

    assert eventually(events, 10)
    os.close(fd)
