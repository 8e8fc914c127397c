"""O_TMPFILE: files that are born without a name."""
import os
import stat

import pytest

from harness.env import need_root
from harness.posix import give_name, tmpfile
from harness.procs import errno_of, eventually, wait_exit

pytestmark = pytest.mark.core
MIB = 1 << 20


def test_a_file_without_a_name_is_read_written_and_in_no_listing(tree):
    for directory in tree.all():
        fd = tmpfile(directory)
        data = os.urandom(MIB)
        os.pwrite(fd, data, 5)
        info = os.fstat(fd)
        assert (info.st_nlink, info.st_size, stat.S_IMODE(info.st_mode)) == (0, MIB + 5, 0o600)
        assert os.pread(fd, MIB, 5) == data
        os.ftruncate(fd, 7)
        assert os.pread(fd, 100, 0) == bytes(5) + data[:2]
        assert os.listdir(directory) == []
        os.close(fd)


def test_a_file_that_gets_a_name_is_one_on_every_mount(tree):
    here = tree.turn()
    fd = tmpfile(here)
    os.write(fd, b"content")
    give_name(fd, here / "f")
    assert os.fstat(fd).st_nlink == 1
    os.close(fd)
    for path in tree.all("f"):
        assert path.read_bytes() == b"content"
        assert path.stat().st_nlink == 1


def test_a_named_file_dies_like_any_other(tree):
    here = tree.turn()
    fd = tmpfile(here)
    os.write(fd, b"x" * MIB)
    give_name(fd, here / "f")
    tree.turn("f").unlink()
    assert os.pread(fd, 5, 0) == b"xxxxx"
    assert os.fstat(fd).st_nlink == 0
    assert errno_of(give_name, fd, here / "g") == "ENOENT"
    os.close(fd)


def test_a_name_that_is_taken_leaves_the_file_without(tree):
    here = tree.turn()
    (here / "f").touch()
    fd = tmpfile(here)
    assert errno_of(give_name, fd, here / "f") == "EEXIST"
    os.write(fd, b"still there")
    give_name(fd, here / "g")
    os.close(fd)
    assert tree.turn("g").read_bytes() == b"still there"


def test_two_names_can_be_given(tree):
    here = tree.turn()
    fd = tmpfile(here)
    give_name(fd, here / "a")
    give_name(fd, here / "b")
    os.close(fd)
    assert {p.stat().st_nlink for p in (*tree.all("a"), *tree.all("b"))} == {2}


def test_with_o_excl_no_name_can_be_given(tree):
    here = tree.turn()
    fd = tmpfile(here, os.O_RDWR | os.O_EXCL)
    assert errno_of(give_name, fd, here / "f") == "ENOENT"
    os.close(fd)


def test_an_unlinked_file_gets_no_name_even_when_another_mount_unlinked_it(tree):
    (tree.at(0, "f")).write_text("x")
    fd = os.open(tree.at(0, "f"), os.O_RDWR)
    tree.at(1, "f").unlink()
    assert errno_of(give_name, fd, tree.at(0, "g")) == "ENOENT"
    os.close(fd)


def test_only_a_directory_that_can_be_written_takes_it(tree):
    (tree.turn("f")).touch()
    assert errno_of(tmpfile, tree.turn("f")) == "ENOTDIR"
    assert errno_of(tmpfile, tree.turn("none")) == "ENOENT"
    assert errno_of(tmpfile, tree.turn(), os.O_RDONLY) == "EINVAL"


def test_umask_and_setgid_directory_count(tree):
    need_root("chown")
    here = tree.turn("d")
    here.mkdir()
    os.chown(here, 0, 4321)
    here.chmod(0o2775)
    before = os.umask(0o027)
    try:
        fd = tmpfile(tree.turn("d"), mode=0o666)
    finally:
        os.umask(before)
    info = os.fstat(fd)
    assert (info.st_gid, stat.S_IMODE(info.st_mode)) == (4321, 0o640)
    os.close(fd)


def test_nothing_stays_of_a_user_that_is_killed(tree, actor):
    before = len(tree.cluster.objects())
    user = actor()
    user.do(f"fd = os.open({str(tree.turn())!r}, os.O_TMPFILE | os.O_RDWR, 0o600); os.write(fd, b'x' * {4 * MIB})")
    assert len(tree.cluster.objects()) > before
    user.kill()
    wait_exit(user.proc, 20)
    assert eventually(lambda: len(tree.cluster.objects()) <= before, 20)


@pytest.mark.parametrize("n", [1, 3])
def test_nothing_stays_of_a_daemon_that_is_killed(make_cluster, n):
    cluster = make_cluster(n)
    here = cluster.mounts[0] / "d"
    here.mkdir()
    fd = tmpfile(here)
    os.write(fd, b"x" * 4 * MIB)
    kept = tmpfile(here)
    os.write(kept, b"kept" * MIB)
    give_name(kept, here / "kept")
    assert len(cluster.objects()) == 2
    cluster.peers[0].kill()
    for one in (fd, kept):
        errno_of(os.close, one)
    cluster.peers[0].start().wait_ready()
    assert eventually(lambda: len(cluster.objects()) == 1, 40)
    assert (here / "kept").read_bytes() == b"kept" * MIB
