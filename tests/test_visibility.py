"""A change made through one mount is seen by the next call on another."""
import mmap
import os
import stat
import struct

import pytest

from harness.env import need_root
from harness.procs import errno_of

pytestmark = pytest.mark.configs("tcp3", "shm3", "netns3", "client", "linux54")
MIB = 1 << 20


@pytest.mark.parametrize("length", [10, 5000, 6 * MIB])
def test_bytes_overwritten_there_are_read_here(tree, length):
    a, b = tree.at(0, "f"), tree.at(1, "f")
    for i in range(10):
        a.write_bytes(bytes([i]) * length)
        assert b.read_bytes() == bytes([i]) * length
        a, b = b, a


def test_an_open_descriptor_reads_what_another_mount_writes(tree):
    tree.at(0, "f").write_bytes(b"\0" * 100_000)
    reader = os.open(tree.at(1, "f"), os.O_RDONLY)
    writer = os.open(tree.at(0, "f"), os.O_WRONLY)
    for i in range(1, 30):
        os.pwrite(writer, bytes([i]) * 100, 4000)
        assert os.pread(reader, 100, 4000) == bytes([i]) * 100
    os.close(reader)
    os.close(writer)


def test_growth_and_truncation_there_show_here(tree):
    tree.at(0, "f").touch()
    reader = os.open(tree.at(1, "f"), os.O_RDONLY)
    for size in (5, 100_000, 7, 0, 3 * MIB):
        os.truncate(tree.at(0, "f"), size)
        assert os.fstat(reader).st_size == size
        assert len(os.pread(reader, 4 * MIB, 0)) == size
    os.close(reader)


def test_a_file_that_grows_there_is_read_to_its_end_here(tree):
    """Long enough for what is done behind to come in between."""
    writer = os.open(tree.at(0, "f"), os.O_CREAT | os.O_WRONLY)
    reader = os.open(tree.at(1, "f"), os.O_RDONLY)
    size = 0
    for i in range(4000):
        piece = b"%04d" % i * (1 + i % 300)
        os.pwrite(writer, piece, size)
        assert os.pread(reader, len(piece) + 100, size) == piece, i
        size += len(piece)
    os.close(reader)
    os.close(writer)


FOLLOW = """
while True:
    known = int.from_bytes(acknowledged[:8], "little")
    if known == 2 ** 60:
        break
    start = max(0, known - 20_000)
    found = os.pread(fd, 1 << 20, start)
    if start + len(found) < known or found.count(b"x") < len(found):
        wrong.append((known, start, len(found), found.find(b"\\0")))
"""


@pytest.mark.parametrize("followers", [1, 3])
def test_who_follows_a_file_is_never_behind_what_has_returned(tree, actor, tmp_path, followers):
    """Of several the kernel hears only one, the first, which may not have asked last."""
    (tmp_path / "acknowledged").write_bytes(bytes(8))
    fd = os.open(tmp_path / "acknowledged", os.O_RDWR)
    acknowledged = mmap.mmap(fd, 8)
    os.close(fd)
    writer = os.open(tree.at(0, "f"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    actors = [actor() for _ in range(followers)]
    for follower in actors:
        follower.do(f"wrong = []; fd = os.open({os.fspath(tree.at(1, 'f'))!r}, os.O_RDONLY)")
        follower.do(f"acknowledged = mmap.mmap(os.open({os.fspath(tmp_path / 'acknowledged')!r}, os.O_RDWR), 8)")
        follower.start(FOLLOW, "exec")
    for n in range(1, 3000):
        os.write(writer, b"x" * 97)
        acknowledged[:8] = (n * 97).to_bytes(8, "little")
    acknowledged[:8] = (2 ** 60).to_bytes(8, "little")
    for follower in actors:
        follower.result(60)
    assert [follower("wrong") for follower in actors] == [[]] * followers
    for follower in actors:
        follower.do("os.close(fd)")
    os.close(writer)


def test_appends_in_turn_from_every_mount_all_arrive(tree):
    tree.turn("f").touch()
    for i in range(60):
        with open(tree.turn("f"), "ab") as f:
            f.write(b"%04d" % i)
    assert tree.turn("f").read_bytes() == b"".join(b"%04d" % i for i in range(60))


def test_a_name_made_there_exists_here_although_it_was_missing_before(tree):
    for i in range(10):
        name = f"f{i}"
        assert not any(p.exists() for p in tree.all(name))
        tree.turn(name).touch()
        assert all(p.exists() for p in tree.all(name))
        tree.turn(name).unlink()
        assert not any(p.exists() for p in tree.all(name))


def test_a_rename_there_is_a_rename_here(tree):
    tree.turn("a").write_text("x")
    for _ in range(5):
        here = tree.turn()
        os.rename(here / "a", here / "b")
        assert all((not (p / "a").exists()) and (p / "b").read_text() == "x" for p in tree.all())
        here = tree.turn()
        os.rename(here / "b", here / "a")
        assert all((not (p / "b").exists()) and (p / "a").read_text() == "x" for p in tree.all())


def test_attributes_set_there_are_read_here(tree):
    tree.turn("f").touch()
    for i in range(10):
        tree.turn("f").chmod(0o600 + i)
        assert {stat.S_IMODE(p.stat().st_mode) for p in tree.all("f")} == {0o600 + i}
        os.utime(tree.turn("f"), ns=(i, i * 2))
        assert {p.stat().st_mtime_ns for p in tree.all("f")} == {i * 2}
        os.setxattr(tree.turn("f"), "user.i", b"%d" % i)
        assert {os.getxattr(p, "user.i") for p in tree.all("f")} == {b"%d" % i}


def test_a_capability_set_there_is_found_here(tree):
    need_root("security.capability")
    net_raw = struct.pack("<5I", 0x02000000, 1 << 13, 0, 0, 0)
    tree.turn("f").touch()
    for _ in range(5):
        assert not any(p.stat().st_size for p in tree.all("f"))
        os.setxattr(tree.turn("f"), "security.capability", net_raw)
        assert {os.getxattr(p, "security.capability") for p in tree.all("f")} == {net_raw}
        os.removexattr(tree.turn("f"), "security.capability")
        assert {errno_of(os.getxattr, p, "security.capability") for p in tree.all("f")} == {"ENODATA"}


def test_a_file_replaced_there_is_another_file_here(tree):
    for i in range(10):
        here = tree.turn()
        (here / "tmp").write_text(f"version {i}")
        os.rename(here / "tmp", here / "f")
        assert {p.read_text() for p in tree.all("f")} == {f"version {i}"}


def test_a_file_that_became_a_directory_there_is_one_here(tree):
    for _ in range(3):
        tree.turn("x").write_text("file")
        assert all(p.is_file() for p in tree.all("x"))
        tree.turn("x").unlink()
        tree.turn("x").mkdir()
        assert all(p.is_dir() for p in tree.all("x"))
        tree.turn("x").rmdir()


def test_listings_follow_what_other_mounts_do(tree):
    names = set()
    for i in range(30):
        tree.turn(f"n{i}").touch()
        names.add(f"n{i}")
        if i % 3 == 0:
            tree.turn(f"n{i // 2}").unlink(missing_ok=True)
            names.discard(f"n{i // 2}")
        assert all(set(os.listdir(p)) == names for p in tree.all())


def test_mount_b_reads_what_a_mapping_on_mount_a_wrote_and_synced(tree, actor):
    tree.at(0, "f").write_bytes(bytes(100_000))
    writer = actor()
    writer.do(f"m = mmap.mmap(os.open({str(tree.at(0, 'f'))!r}, os.O_RDWR), 100_000)")
    for i in range(1, 5):
        writer.do(f"m[50_000:50_010] = bytes([{i}]) * 10\nm.flush()")
        with open(tree.at(1, "f"), "rb") as f:
            f.seek(50_000)
            assert f.read(10) == bytes([i]) * 10


def test_writers_on_all_mounts_fill_their_own_parts_of_one_file(tree, actor):
    part = 700_001
    tree.turn("f").touch()
    crowd = [actor() for _ in range(3)]
    for i, one in enumerate(crowd):
        path = str(tree.turn("f"))
        one(f"os.open({path!r}, os.O_RDWR)")
        one.start(f"[os.pwrite(3, bytes([{i} + 65]) * 7001, {i * part} + k) for k in range(0, {part - 7000}, 7001)] and None")
    for one in crowd:
        one.result(60)
    for path in tree.all("f"):
        data = path.read_bytes()
        for i in range(3):
            whole = (part - 7000 + 7000) // 7001 * 7001
            assert data[i * part:i * part + whole - 7001] == bytes([i + 65]) * (whole - 7001)


def test_a_directory_that_others_replace_is_there_all_the_time(tree, actor):
    tree.at(0, "d").mkdir()
    others = [actor(), actor()]
    for i, one in enumerate(others):
        one.do(f"""
def replace(times):
    for n in range(times):
        os.mkdir({str(tree.at(i, f'new{i}'))!r})
        os.rename({str(tree.at(i, f'new{i}'))!r}, {str(tree.at(i, 'd'))!r})
""")
        one.start("replace(400)")
    while not all(one.finished(0) for one in others):
        os.stat(tree.at(2, "d"))
    for one in others:
        one.result()
