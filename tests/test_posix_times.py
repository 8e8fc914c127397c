"""Times of reading and of birth."""
import ctypes
import os
import struct
import time

import pytest

from harness.procs import errno_of, eventually

pytestmark = [pytest.mark.core, pytest.mark.configs("one", "tcp3", "client")]
NS = 1_000_000_000
STATX_BTIME = 0x800


def birth(path):
    """stx_btime in ns; None: the kernel or the file system has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(256)
    if libc.statx(-100, os.fsencode(path), 0x100, STATX_BTIME | 0x7ff, buffer) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    mask, = struct.unpack_from("<I", buffer, 0)
    seconds, nanoseconds = struct.unpack_from("<qI", buffer, 0x50)
    return seconds * NS + nanoseconds if mask & STATX_BTIME else None


def need_btime(path):
    if birth(path) is None:
        assert tuple(map(int, os.uname().release.split(".")[:2])) < (6, 6)
        pytest.skip("statx on FUSE brings a time of birth since Linux 6.6")


def drop_pages(path):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def atime(path):
    return os.lstat(path).st_atime_ns


# ---- birth ----

def test_the_time_of_birth_is_that_of_making_and_stays(tree):
    need_btime(tree.turn())
    makers = {"f": lambda p: p.touch(), "d": lambda p: p.mkdir(), "l": lambda p: p.symlink_to("f"), "p": os.mkfifo}
    for name, maker in makers.items():
        before = time.time_ns() - NS
        maker(tree.turn(name))
        made = {birth(p) for p in tree.all(name)}
        assert len(made) == 1 and before <= made.copy().pop() <= time.time_ns() + NS
        os.utime(tree.turn(name), ns=(1, 2), follow_symlinks=False)
        assert {birth(p) for p in tree.all(name)} == made


def test_statx_tells_what_stat_tells(tree):
    need_btime(tree.turn())
    tree.turn("f").write_bytes(b"x" * 10_000)
    os.utime(tree.turn("f"), ns=(-5 * NS + 3, 7 * NS + 9))
    libc = ctypes.CDLL(None, use_errno=True)
    for path in tree.all("f"):
        buffer = ctypes.create_string_buffer(256)
        assert libc.statx(-100, os.fsencode(path), 0, STATX_BTIME | 0x7ff, buffer) == 0
        info = path.stat()
        _, blksize, _, nlink, uid, gid, mode, _, ino, size, blocks = struct.unpack_from("<IIQIIIHHQQQ", buffer, 0)
        assert (blksize, nlink, uid, gid, mode, ino, size, blocks) == (
            info.st_blksize, info.st_nlink, info.st_uid, info.st_gid, info.st_mode, info.st_ino, info.st_size, info.st_blocks)
        times = [struct.unpack_from("<qI", buffer, at) for at in (0x40, 0x70)]
        assert [s * NS + n for s, n in times] == [info.st_atime_ns, info.st_mtime_ns] == [-5 * NS + 3, 7 * NS + 9]


# ---- reading ----

def test_a_read_of_something_newer_than_its_atime_moves_it(tree):
    for i, path in enumerate(tree.all("f")):
        path.write_text("x" * (i + 1))
        before = path.stat()
        drop_pages(path)
        path.read_text()
        assert eventually(lambda: atime(tree.turn("f")) > before.st_mtime_ns, 10)
        after = tree.turn("f").stat()
        assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


def test_a_second_read_within_a_day_does_not(tree):
    path = tree.turn("f")
    path.write_text("x")
    path.read_text()
    assert eventually(lambda: atime(path) > path.stat().st_mtime_ns, 10)
    now = atime(path)
    for again in tree.all("f"):
        assert again.read_text() == "x"
    last = tree.turn("last")
    last.write_text("y")
    last.read_text()
    assert eventually(lambda: atime(last) > last.stat().st_mtime_ns, 10)
    assert atime(path) == now


def test_reading_a_directory_and_a_symlink_moves_theirs(tree):
    here = tree.turn()
    (here / "d").mkdir()
    (here / "d" / "x").touch()
    (here / "l").symlink_to("target")
    os.listdir(here / "d")
    os.readlink(here / "l")
    for name in ("d", "l"):
        info = os.lstat(tree.turn(name))
        assert eventually(lambda: atime(tree.turn(name)) > info.st_mtime_ns, 10), name


def test_o_noatime_leaves_it_alone(tree):
    path = tree.turn("f")
    path.write_text("x")
    before = atime(path)
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    assert os.read(fd, 10) == b"x"
    os.close(fd)
    other = tree.turn("g")
    other.write_text("y")
    other.read_text()
    assert eventually(lambda: atime(other) > other.stat().st_mtime_ns, 10)
    assert atime(path) == before


def test_a_mapped_read_counts(tree, actor):
    tree.at(0, "f").write_bytes(b"x" * 5000)
    reader = actor()
    path = str(tree.at(1, "f"))
    reader.do(f"m = mmap.mmap(os.open({path!r}, os.O_RDONLY), 0, prot=mmap.PROT_READ); m[100]")
    if len(tree.roots) > 1:
        assert eventually(lambda: atime(path) > os.stat(path).st_mtime_ns, 10)


@pytest.mark.parametrize("options,moves,dirs", [("noatime", False, False), ("relatime", True, True),
                                                ("nodiratime", True, False), ("strictatime", True, True)])
def test_the_options_of_the_mount_count(make_cluster, options, moves, dirs):
    cluster = make_cluster(1, args=["-o", options])
    root = cluster.mounts[0]
    (root / "d").mkdir()
    for name in ("f", "last"):
        (root / name).write_text("x")
    os.listdir(root / "d")
    (root / "f").read_text()
    # Background work is done in order, so what comes last is done last.
    if moves:
        (root / "last").read_text()
        assert eventually(lambda: atime(root / "last") > (root / "last").stat().st_mtime_ns, 10)
    assert (atime(root / "f") > (root / "f").stat().st_mtime_ns) == moves
    assert (atime(root / "d") > (root / "d").stat().st_mtime_ns) == dirs
    if options == "strictatime":
        now = atime(root / "f")
        (root / "f").write_text("y")
        drop_pages(root / "f")
        (root / "f").read_text()
        assert eventually(lambda: atime(root / "f") > now, 10)


def test_times_can_be_now_or_left_alone(tree):
    path = tree.turn("f")
    path.touch()
    libc = ctypes.CDLL(None, use_errno=True)
    now, omit = (1 << 30) - 1, (1 << 30) - 2

    def set_times(atime_ns, mtime_ns):
        times = (ctypes.c_long * 4)(5, atime_ns, 6, mtime_ns)
        assert libc.utimensat(-100, os.fsencode(path), times, 0) == 0
        return tree.turn("f").stat()

    os.utime(path, ns=(10, 20))
    start = time.time_ns() - NS
    info = set_times(omit, 7)
    assert (info.st_atime_ns, info.st_mtime_ns) == (10, 6 * NS + 7)
    info = set_times(7, omit)
    assert (info.st_atime_ns, info.st_mtime_ns) == (5 * NS + 7, 6 * NS + 7)
    info = set_times(now, omit)
    assert info.st_atime_ns >= start and info.st_mtime_ns == 6 * NS + 7
    ctime = info.st_ctime_ns
    assert set_times(omit, omit).st_ctime_ns == ctime
    assert errno_of(os.utime, tree.turn("none")) == "ENOENT"
