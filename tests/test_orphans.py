"""Files that are open and have lost their last name."""
import os

import pytest

from harness.procs import errno_of, eventually

pytestmark = pytest.mark.core
MIB = 1 << 20


@pytest.mark.parametrize("length", [100, 6 * MIB])
def test_an_unlinked_open_file_can_be_read_and_written(tree, length):
    path = tree.turn("f")
    data = os.urandom(length)
    path.write_bytes(data)
    fd = os.open(path, os.O_RDWR)
    path.unlink()
    assert os.listdir(tree.turn()) == []
    assert os.pread(fd, length, 0) == data
    os.pwrite(fd, b"more", length)
    assert os.fstat(fd).st_size == length + 4 and os.fstat(fd).st_nlink == 0
    os.ftruncate(fd, 10)
    assert os.pread(fd, 100, 0) == data[:10]
    os.close(fd)


def test_a_file_unlinked_on_another_mount_lives_while_it_is_open(tree):
    data = os.urandom(5 * MIB)
    tree.at(0, "f").write_bytes(data)
    fd = os.open(tree.at(1, "f"), os.O_RDWR)
    tree.at(0, "f").unlink()
    assert errno_of(os.stat, tree.at(1, "f")) == "ENOENT"
    assert os.pread(fd, len(data), 0) == data
    os.pwrite(fd, b"new", 0)
    assert os.pread(fd, 3, 0) == b"new"
    os.close(fd)


def test_a_file_replaced_by_rename_lives_while_it_is_open(tree):
    here = tree.at(0)
    (here / "old").write_bytes(b"old" * 100_000)
    (here / "new").write_bytes(b"new")
    fd = os.open(tree.at(1, "old"), os.O_RDONLY)
    os.rename(here / "new", here / "old")
    assert os.pread(fd, 6, 0) == b"oldold"
    assert tree.turn("old").read_bytes() == b"new"
    os.close(fd)


def test_the_space_of_an_orphan_comes_back_after_its_last_close(tree):
    stores = [p.store / "objects" for p in tree.cluster.peers if p.store]

    def held():
        return sum(f.stat().st_blocks * 512 for s in stores for f in s.rglob("*") if f.is_file())

    before = held()
    path = tree.turn("f")
    path.write_bytes(os.urandom(8 * MIB))
    fd = os.open(tree.turn("f"), os.O_RDONLY)
    path.unlink()
    assert os.pread(fd, 1, 8 * MIB - 1)
    os.close(fd)
    assert eventually(lambda: held() < before + 2 * MIB, 20)


def test_a_name_can_be_made_again_while_the_old_file_is_open(tree):
    tree.turn("f").write_text("first")
    fd = os.open(tree.turn("f"), os.O_RDONLY)
    tree.turn("f").unlink()
    tree.turn("f").write_text("second")
    assert os.pread(fd, 10, 0) == b"first"
    assert all(p.read_text() == "second" for p in tree.all("f"))
    os.close(fd)


def test_a_removed_directory_that_is_open_lists_nothing(tree):
    tree.turn("d").mkdir()
    fd = os.open(tree.turn("d"), os.O_RDONLY)
    tree.turn("d").rmdir()
    names = []
    problem = errno_of(lambda: names.extend(os.listdir(fd)))
    os.close(fd)
    assert problem in (None, "ENOENT", "ESTALE") and names == []
