"""Files that are open and have lost their last name."""
import os
import signal

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


@pytest.mark.parametrize("how", ["rmdir", "rename"])
@pytest.mark.parametrize("there", [0, 1])
def test_a_removed_directory_that_is_open_is_empty_and_without_a_link(tree, how, there):
    tree.at(0, "d").mkdir()
    tree.at(0, "d").chmod(0o751)
    tree.at(0, "e").mkdir()
    fd = os.open(tree.at(0, "d"), os.O_RDONLY)
    before = os.fstat(fd)
    if how == "rmdir":
        tree.at(there, "d").rmdir()
    else:
        tree.at(there, "e").rename(tree.at(there, "d"))
    after = os.fstat(fd)
    assert (after.st_ino, after.st_mode, after.st_nlink) == (before.st_ino, before.st_mode, 0)
    assert os.listdir(fd) == []
    assert errno_of(os.mkdir, "x", dir_fd=fd) == "ENOENT"
    assert errno_of(os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=fd) == "ENOENT"
    assert errno_of(os.symlink, "x", "x", dir_fd=fd) == "ENOENT"
    assert errno_of(os.stat, "x", dir_fd=fd) == "ENOENT"
    assert tree.at(1, "d").exists() == (how == "rename")
    os.close(fd)


@pytest.mark.limit(120)
@pytest.mark.parametrize("unlinked", ["before", "after"])
def test_who_is_slow_to_come_back_to_a_home_that_was_killed_keeps_its_open_file(make_cluster, actor, unlinked):
    cluster = make_cluster(2, clients=1, transport="tcp,self")
    here, there, slow = cluster.mounts
    home = cluster.peers[1]
    (there / "d").mkdir()
    data = os.urandom(300_000)
    (here / "d" / "f").write_bytes(data)
    # for a process that starts another closes what it has open, and would wait
    holder = actor()
    holder.do(f"fd = os.open({str(slow / 'd' / 'f')!r}, os.O_RDONLY)")
    other = os.open(here / "d" / "f", os.O_RDONLY)
    if unlinked == "before":
        (here / "d" / "f").unlink()
    os.kill(cluster.peers[2].pid, signal.SIGSTOP)
    try:
        home.kill()
        home.start().wait_ready()
        if unlinked == "after":
            (here / "d" / "f").unlink()
        os.close(other)
        assert os.listdir(there / "d") == os.listdir(here / "d") == []
    finally:
        os.kill(cluster.peers[2].pid, signal.SIGCONT)
    assert holder("os.pread(fd, 1_000_000, 0)") == data
    assert holder("os.fstat(fd).st_nlink") == 0
    holder.do("os.close(fd)")
    assert eventually(lambda: not cluster.objects(), 40)
