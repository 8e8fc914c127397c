"""fallocate, holes, copy_file_range."""
import os

import pytest

from harness import posix
from harness.procs import errno_of, run

pytestmark = pytest.mark.core
MIB = 1 << 20


def filled(tree, length, byte=b"\xff"):
    path = tree.turn("f")
    path.write_bytes(byte * length)
    return path


@pytest.fixture(params=[3000, 9 * MIB], ids=["inline", "chunks"])
def length(request):
    return request.param


def allocate(path, mode, offset, count):
    fd = os.open(path, os.O_RDWR)
    try:
        posix.fallocate(fd, mode, offset, count)
    finally:
        os.close(fd)


def test_fallocate_grows_a_file_with_zeros(tree, length):
    filled(tree, 10)
    allocate(tree.turn("f"), 0, 0, length)
    for path in tree.all("f"):
        data = path.read_bytes()
        assert len(data) == length and data[:10] == b"\xff" * 10 and not any(data[10:])


def test_fallocate_keep_size_reserves_without_growing(tree):
    filled(tree, 10)
    allocate(tree.turn("f"), posix.KEEP_SIZE, 0, 8 * MIB)
    assert tree.turn("f").stat().st_size == 10
    assert tree.turn("f").stat().st_blocks * 512 >= 8 * MIB


def test_fallocate_inside_a_file_changes_no_byte(tree, length):
    filled(tree, length)
    allocate(tree.turn("f"), 0, 100, length - 200)
    assert tree.turn("f").read_bytes() == b"\xff" * length


def test_punched_holes_read_as_zeros(tree, length):
    filled(tree, length)
    start, count = length // 3, length // 2
    allocate(tree.turn("f"), posix.PUNCH_HOLE | posix.KEEP_SIZE, start, count)
    expected = b"\xff" * start + bytes(count) + b"\xff" * (length - start - count)
    assert all(p.read_bytes() == expected for p in tree.all("f"))


def test_punching_gives_space_back(tree):
    filled(tree, 9 * MIB)
    allocate(tree.turn("f"), posix.PUNCH_HOLE | posix.KEEP_SIZE, 0, 9 * MIB)
    assert tree.turn("f").stat().st_blocks * 512 < MIB
    assert tree.turn("f").stat().st_size == 9 * MIB


def test_punching_past_the_end_keeps_the_size(tree, length):
    filled(tree, length)
    allocate(tree.turn("f"), posix.PUNCH_HOLE | posix.KEEP_SIZE, length - 100, 5 * MIB)
    data = tree.turn("f").read_bytes()
    assert len(data) == length and data[-100:] == bytes(100) and data[:-100] == b"\xff" * (length - 100)


def test_zero_range_zeroes_and_may_grow(tree, length):
    filled(tree, length)
    allocate(tree.turn("f"), posix.ZERO_RANGE, 10, 100)
    allocate(tree.turn("f"), posix.ZERO_RANGE, length - 10, 20)
    data = tree.turn("f").read_bytes()
    assert len(data) == length + 10
    assert data == b"\xff" * 10 + bytes(100) + b"\xff" * (length - 120) + bytes(20)


def test_zero_range_with_keep_size_does_not_grow(tree, length):
    filled(tree, length)
    allocate(tree.turn("f"), posix.ZERO_RANGE | posix.KEEP_SIZE, length - 10, 20)
    assert tree.turn("f").read_bytes() == b"\xff" * (length - 10) + bytes(10)


def test_fallocate_rules(tree):
    filled(tree, 8192)
    fd = os.open(tree.turn("f"), os.O_RDWR)
    assert errno_of(posix.fallocate, fd, posix.COLLAPSE_RANGE, 0, 4096) == "EOPNOTSUPP"
    assert errno_of(posix.fallocate, fd, posix.INSERT_RANGE, 0, 4096) == "EOPNOTSUPP"
    assert errno_of(posix.fallocate, fd, 0, -1, 10) == "EINVAL"
    assert errno_of(posix.fallocate, fd, 0, 0, 0) == "EINVAL"
    assert errno_of(posix.fallocate, fd, posix.PUNCH_HOLE, 0, 10) == "EOPNOTSUPP"
    os.close(fd)
    assert tree.turn("f").read_bytes() == b"\xff" * 8192
    fd = os.open(tree.turn("f"), os.O_RDONLY)
    assert errno_of(posix.fallocate, fd, 0, 0, 10) == "EBADF"
    os.close(fd)


def test_posix_fallocate_works(tree):
    fd = os.open(tree.turn("f"), os.O_CREAT | os.O_RDWR)
    os.posix_fallocate(fd, 5 * MIB, MIB)
    os.close(fd)
    assert tree.turn("f").stat().st_size == 6 * MIB


# ---- holes ----

def test_seek_finds_data_and_holes_of_a_sparse_file(tree):
    with open(tree.turn("f"), "wb") as f:
        f.seek(20 * MIB)
        f.write(b"x" * MIB)
        f.truncate(50 * MIB)
    for path in tree.all("f"):
        fd = os.open(path, os.O_RDONLY)
        data = os.lseek(fd, 0, os.SEEK_DATA)
        assert 16 * MIB <= data <= 20 * MIB
        hole = os.lseek(fd, data, os.SEEK_HOLE)
        assert 21 * MIB <= hole <= 24 * MIB
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
        assert errno_of(os.lseek, fd, hole, os.SEEK_DATA) == "ENXIO"
        assert errno_of(os.lseek, fd, 50 * MIB, os.SEEK_HOLE) == "ENXIO"
        assert errno_of(os.lseek, fd, 60 * MIB, os.SEEK_DATA) == "ENXIO"
        os.close(fd)


def test_seek_in_a_file_without_holes(tree, length):
    filled(tree, length)
    fd = os.open(tree.turn("f"), os.O_RDONLY)
    assert os.lseek(fd, 5, os.SEEK_DATA) == 5
    assert os.lseek(fd, 5, os.SEEK_HOLE) == length
    os.close(fd)


def test_seek_in_an_empty_file_is_enxio(tree):
    tree.turn("f").touch()
    fd = os.open(tree.turn("f"), os.O_RDONLY)
    assert errno_of(os.lseek, fd, 0, os.SEEK_DATA) == "ENXIO"
    assert errno_of(os.lseek, fd, 0, os.SEEK_HOLE) == "ENXIO"
    os.close(fd)


def test_a_sparse_copy_stays_sparse(tree):
    with open(tree.turn("f"), "wb") as f:
        f.seek(40 * MIB)
        f.write(b"end")
    here = tree.turn()
    run("cp", "--sparse=always", here / "f", here / "g")
    run("cmp", tree.turn("f"), tree.turn("g"))
    assert tree.turn("g").stat().st_blocks * 512 < 2 * MIB


# ---- copy_file_range ----

def copy_range(source, target, count, at=0, to=0):
    a, b = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        done = 0
        while done < count:
            step = os.copy_file_range(a, b, count - done, at + done, to + done)
            if step == 0:
                break
            done += step
        return done
    finally:
        os.close(a)
        os.close(b)


def test_copy_file_range_copies_bytes(tree, length):
    data = os.urandom(length)
    here = tree.turn()
    (here / "a").write_bytes(data)
    assert copy_range(here / "a", here / "b", length) == length
    assert all(p.read_bytes() == data for p in tree.all("b"))


def test_copy_file_range_from_and_to_the_middle(tree):
    data = os.urandom(6 * MIB)
    here = tree.turn()
    (here / "a").write_bytes(data)
    (here / "b").write_bytes(b"." * 100)
    assert copy_range(here / "a", here / "b", 5 * MIB, at=MIB - 7, to=50) == 5 * MIB
    assert tree.turn("b").read_bytes() == b"." * 50 + data[MIB - 7:6 * MIB - 7]


def test_copy_file_range_stops_at_the_end_of_its_source(tree):
    here = tree.turn()
    (here / "a").write_bytes(b"12345")
    assert copy_range(here / "a", here / "b", 100, at=2) == 3
    assert copy_range(here / "a", here / "b", 100, at=10) == 0
    assert tree.turn("b").read_bytes() == b"345"


def test_copy_file_range_inside_one_file(tree):
    path = tree.turn("f")
    path.write_bytes(b"abcdef" + bytes(100_000))
    assert copy_range(path, path, 6, at=0, to=90_000) == 6
    assert tree.turn("f").read_bytes()[90_000:90_006] == b"abcdef"
    assert errno_of(copy_range, path, path, 100, 0, 50) == "EINVAL"
