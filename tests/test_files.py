"""Files: their bytes, sizes and descriptors."""
import errno
import hashlib
import mmap
import os
import random

import pytest

from harness import posix
from harness.procs import errno_of

pytestmark = pytest.mark.core
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


def noise(length, seed=1):
    return random.Random(seed).randbytes(length)


@pytest.mark.parametrize("length", [0, 1, 100, 4095, 4096, 4097, 65536, MIB + 1, 9 * MIB + 7])
def test_bytes_written_are_read_back_through_every_mount(tree, length):
    data = noise(length)
    tree.turn("f").write_bytes(data)
    for path in tree.all("f"):
        assert path.read_bytes() == data
        assert path.stat().st_size == length


def test_a_file_grows_from_inline_to_chunks_without_losing_a_byte(tree):
    expected = b""
    for step in (10, 3000, 1000, 90, 5000, 300_000, 5 * MIB):
        piece = noise(step, step)
        with open(tree.turn("f"), "ab") as f:
            f.write(piece)
        expected += piece
        assert tree.turn("f").read_bytes() == expected


def test_random_writes_and_truncations_match_a_local_file(tree, tmp_path):
    rng = random.Random(7)
    local = tmp_path / "model"
    local.touch()
    tree.turn("f").touch()
    for _ in range(120):
        offset, length = rng.randrange(6 * MIB), rng.choice([1, 17, 511, 4096, 70_000, 600_000])
        data, cut = rng.randbytes(length), rng.random() < 0.2
        for path in (local, tree.turn("f")):
            with open(path, "r+b") as f:
                if cut:
                    f.truncate(offset)
                else:
                    f.seek(offset)
                    f.write(data)
    wanted = hashlib.sha256(local.read_bytes()).hexdigest()
    for path in tree.all("f"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == wanted


def test_a_read_past_the_end_is_short(tree):
    tree.turn("f").write_bytes(b"12345")
    fd = os.open(tree.turn("f"), os.O_RDONLY)
    assert os.pread(fd, 100, 3) == b"45"
    assert os.pread(fd, 100, 5) == b""
    assert os.pread(fd, 100, TIB) == b""
    os.close(fd)


def test_bytes_never_written_read_as_zeros(tree):
    with open(tree.turn("f"), "wb") as f:
        f.write(b"start")
        f.seek(10 * MIB)
        f.write(b"end")
    data = tree.turn("f").read_bytes()
    assert len(data) == 10 * MIB + 3
    assert data[:5] == b"start" and data[-3:] == b"end" and not any(data[5:-3])


def test_growing_after_shrinking_shows_zeros_not_old_bytes(tree):
    for length in (3000, 300_000, 5 * MIB):
        tree.turn("f").write_bytes(b"\xff" * length)
        os.truncate(tree.turn("f"), 100)
        os.truncate(tree.turn("f"), length)
        data = tree.turn("f").read_bytes()
        assert len(data) == length and data[:100] == b"\xff" * 100 and not any(data[100:])


def test_writing_behind_a_shrunk_end_shows_zeros_in_between(tree):
    for length in (3000, 5 * MIB):
        tree.turn("f").write_bytes(b"\xff" * length)
        os.truncate(tree.turn("f"), 10)
        with open(tree.turn("f"), "r+b") as f:
            f.seek(length)
            f.write(b"x")
        data = tree.turn("f").read_bytes()
        assert data[:10] == b"\xff" * 10 and not any(data[10:length]) and data[length:] == b"x"


def test_open_with_trunc_empties_the_file(tree):
    tree.turn("f").write_bytes(noise(2 * MIB))
    os.close(os.open(tree.turn("f"), os.O_WRONLY | os.O_TRUNC))
    for path in tree.all("f"):
        assert path.stat().st_size == 0 and path.read_bytes() == b""


def test_append_goes_to_the_end_wherever_the_descriptor_stands(tree):
    path = tree.turn("f")
    path.write_bytes(b"abc")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"def")
    assert os.lseek(fd, 0, os.SEEK_CUR) == 6
    os.close(fd)
    assert path.read_bytes() == b"abcdef"


def test_appenders_of_one_mount_lose_nothing(tree, actor):
    path = tree.turn("f")
    path.touch()
    crowd = [actor() for _ in range(3)]
    for i, one in enumerate(crowd):
        one(f"os.open({str(path)!r}, os.O_WRONLY | os.O_APPEND)")
        one.start(f"[os.write(3, b'{i}' * 100) for _ in range(50)] and None")
    for one in crowd:
        one.result()
    data = path.read_bytes()
    assert len(data) == 15000
    assert all(len(set(data[i:i + 100])) == 1 for i in range(0, 15000, 100))
    assert sorted(set(data)) == sorted(b"012")


@pytest.mark.parametrize("size", [100, 6000, 90000])
def test_appenders_of_all_mounts_lose_nothing(tree, actor, size):
    paths = tree.all("f")
    paths[0].touch()
    crowd = [actor() for _ in range(3)]
    for i, one in enumerate(crowd):
        one(f"os.open({str(paths[i % len(paths)])!r}, os.O_WRONLY | os.O_APPEND)")
    for i, one in enumerate(crowd):
        one.start(f"[os.write(3, b'{i}' * {size}) for _ in range(40)] and None")
    for one in crowd:
        one.result()
    for path in paths:
        data = path.read_bytes()
        records = [data[i:i + size] for i in range(0, len(data), size)]
        assert all(len(set(record)) == 1 for record in records)
        assert sorted(record[0] for record in records) == sorted(b"012" * 40)


def test_exclusive_create_fails_where_the_name_exists(tree):
    tree.turn("f").touch()
    for path in tree.all("f"):
        assert errno_of(os.open, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY) == "EEXIST"


def test_exclusive_create_has_one_winner_among_the_mounts(tree, actor):
    paths = tree.all("lock")
    crowd = [actor() for _ in range(4)]
    for i, one in enumerate(crowd):
        one.start(f"os.open({str(paths[i % len(paths)])!r}, os.O_CREAT | os.O_EXCL | os.O_WRONLY)")
    assert sorted(errno_of(one.result) or "made" for one in crowd) == ["EEXIST"] * 3 + ["made"]


def test_open_of_a_directory_for_writing_is_eisdir(tree):
    tree.turn("d").mkdir()
    assert errno_of(os.open, tree.turn("d"), os.O_WRONLY) == "EISDIR"


def test_open_of_a_missing_name_is_enoent(tree):
    assert errno_of(os.open, tree.turn("nothing"), os.O_RDONLY) == "ENOENT"
    assert errno_of(os.open, tree.turn("nothing", "below"), os.O_CREAT | os.O_WRONLY) == "ENOENT"


def test_a_file_used_as_a_directory_is_enotdir(tree):
    tree.turn("f").touch()
    assert errno_of(os.open, tree.turn("f", "x"), os.O_CREAT | os.O_WRONLY) == "ENOTDIR"
    assert errno_of(os.listdir, tree.turn("f")) == "ENOTDIR"


def test_nofollow_of_a_symlink_is_eloop(tree):
    tree.turn("l").symlink_to("f")
    assert errno_of(os.open, tree.turn("l"), os.O_RDONLY | os.O_NOFOLLOW) == "ELOOP"


def test_truncate_follows_errno_rules(tree):
    tree.turn("d").mkdir()
    tree.turn("f").touch()
    assert errno_of(os.truncate, tree.turn("d"), 0) == "EISDIR"
    assert errno_of(os.truncate, tree.turn("missing"), 0) == "ENOENT"
    assert errno_of(os.truncate, tree.turn("f"), -1) == "EINVAL"
    fd = os.open(tree.turn("f"), os.O_RDONLY)
    assert errno_of(os.ftruncate, fd, 5) == "EINVAL"
    os.close(fd)


def test_truncate_beyond_the_largest_file_is_efbig(tree):
    tree.turn("f").touch()
    assert errno_of(os.truncate, tree.turn("f"), (1 << 63) - 1) in ("EFBIG", None)
    assert tree.turn("f").stat().st_size in (0, (1 << 63) - 1)


def test_a_sparse_file_of_a_tebibyte_takes_no_space(tree):
    with open(tree.turn("f"), "wb") as f:
        f.truncate(TIB)
        f.seek(TIB - 5)
        f.write(b"tail!")
        f.seek(TIB // 2)
        f.write(b"middle")
    for path in tree.all("f"):
        info = path.stat()
        assert info.st_size == TIB and info.st_blocks * 512 < MIB
        with open(path, "rb") as f:
            f.seek(TIB - 8)
            assert f.read() == b"\0\0\0tail!"
            f.seek(TIB // 2 - 2)
            assert f.read(10) == b"\0\0middle\0\0"


def test_direct_io_writes_and_reads_what_buffered_io_sees(tree):
    data = noise(3 * MIB)
    fd = os.open(tree.turn("f"), os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    assert os.pwrite(fd, posix.aligned(data), 0) == len(data)
    assert posix.pread_direct(fd, MIB, MIB) == data[MIB:2 * MIB]
    os.close(fd)
    assert tree.turn("f").read_bytes() == data
    with open(tree.turn("f"), "r+b") as f:
        f.write(b"buffered")
    fd = os.open(tree.turn("f"), os.O_RDONLY | os.O_DIRECT)
    assert posix.pread_direct(fd, 4096, 0)[:8] == b"buffered"
    os.close(fd)


def test_a_mapping_reads_the_file(tree):
    data = noise(2 * MIB + 100)
    tree.turn("f").write_bytes(data)
    with open(tree.turn("f"), "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        assert m[:] == data


def test_a_shared_mapping_writes_the_file(tree):
    path = tree.turn("f")
    path.write_bytes(noise(2 * MIB))
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[5000:5010] = b"0123456789"
        m[2 * MIB - 3:] = b"end"
        m.flush()
    for seen in tree.all("f"):
        data = seen.read_bytes()
        assert data[5000:5010] == b"0123456789" and data[-3:] == b"end"


def test_two_processes_share_a_mapping_on_one_mount(tree, actor):
    path = tree.turn("f")
    path.write_bytes(bytes(8192))
    a, b = actor(), actor()
    for one in (a, b):
        one.do(f"m = mmap.mmap(os.open({str(path)!r}, os.O_RDWR), 8192)")
    a.do("m[100:105] = b'hello'")
    assert b("m[100:105]") == b"hello"


def test_a_private_mapping_leaves_the_file_alone(tree):
    path = tree.turn("f")
    path.write_bytes(b"x" * 4096)
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as m:
        m[:3] = b"abc"
    assert path.read_bytes() == b"x" * 4096


def test_a_read_sees_what_a_mapping_wrote(tree):
    path = tree.turn("f")
    path.write_bytes(bytes(8192))
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[10:13] = b"abc"
        assert os.pread(f.fileno(), 3, 10) == b"abc"
        os.pwrite(f.fileno(), b"xyz", 4096)
        assert m[4096:4099] == b"xyz"


def test_fsync_and_its_relatives_succeed(tree):
    tree.turn("d").mkdir()
    with open(tree.turn("d", "f"), "wb") as f:
        f.write(noise(MIB))
        f.flush()
        os.fsync(f.fileno())
        os.fdatasync(f.fileno())
        posix.syncfs(f.fileno())
    fd = os.open(tree.turn("d"), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def test_synchronous_writes_are_there(tree):
    fd = os.open(tree.turn("f"), os.O_CREAT | os.O_WRONLY | os.O_SYNC)
    os.write(fd, b"sync" * 1000)
    os.close(fd)
    assert tree.turn("f").read_bytes() == b"sync" * 1000


def test_vectored_io_keeps_its_order(tree):
    fd = os.open(tree.turn("f"), os.O_CREAT | os.O_RDWR)
    assert os.pwritev(fd, [b"a" * 5000, b"b" * 5000, b"c"], 3) == 10001
    buffers = [bytearray(3), bytearray(5000), bytearray(6000)]
    assert os.preadv(fd, buffers, 0) == 10004
    os.close(fd)
    assert bytes(buffers[0]) == b"\0\0\0" and bytes(buffers[1]) == b"a" * 5000
    assert bytes(buffers[2][:5001]) == b"b" * 5000 + b"c"


def test_a_duplicated_descriptor_shares_its_offset(tree):
    tree.turn("f").write_bytes(b"abcdef")
    fd = os.open(tree.turn("f"), os.O_RDONLY)
    copy = os.dup(fd)
    os.read(fd, 2)
    assert os.read(copy, 2) == b"cd"
    os.close(fd)
    os.close(copy)


def test_many_small_files_keep_their_contents(tree):
    for i in range(200):
        tree.turn(f"f{i}").write_bytes(b"%d" % i * 50)
    for i in range(200):
        assert tree.turn(f"f{i}").read_bytes() == b"%d" % i * 50


def test_a_temporary_file_without_a_name_is_refused_or_works(tree):
    try:
        fd = os.open(tree.turn(), os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as e:
        assert e.errno == errno.EOPNOTSUPP
        return
    os.write(fd, b"x")
    os.close(fd)
    assert os.listdir(tree.turn()) == []


def test_one_write_of_many_chunks_is_whole_on_a_striped_directory(tree):
    tree.turn("d").mkdir()
    os.setxattr(tree.turn("d"), "benchfs.policy", b"stripe")
    os.setxattr(tree.turn("d"), "benchfs.chunk_size", b"262144")
    data = noise(5 * MIB + 12345)
    tree.turn("d", "f").write_bytes(data)
    for path in tree.all("d", "f"):
        assert path.read_bytes() == data
    os.truncate(tree.turn("d", "f"), 3 * MIB + 1)
    for path in tree.all("d", "f"):
        assert path.read_bytes() == data[:3 * MIB + 1]
