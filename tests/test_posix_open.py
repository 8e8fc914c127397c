"""Opening, appending and removing while others do the same."""
import mmap
import os
import threading

import pytest

from harness import posix
from harness.env import need_root
from harness.procs import errno_of

pytestmark = pytest.mark.core
MIB = 1 << 20


def crowd_of(actor, tree, count, *parts):
    """Actors, each with the path p through another mount."""
    crowd = []
    for i in range(count):
        crowd.append(actor())
        crowd[-1].do(f"p = {os.fspath(tree.at(i, *parts))!r}")
    return crowd


def together(crowd, statements):
    for one in crowd:
        one.start(statements, "exec")
    for one in crowd:
        one.result(60)


# ---- making ----

OPEN_AND_REMOVE = """
for _ in range(150):
    os.close(os.open(p, os.O_CREAT | os.O_RDWR, 0o600))
    try:
        os.unlink(p)
    except FileNotFoundError:
        pass
"""


def test_racing_opens_with_o_creat_never_fail_while_the_name_comes_and_goes(tree, actor):
    together(crowd_of(actor, tree, 4, "f"), OPEN_AND_REMOVE)


def test_racing_opens_with_o_creat_all_get_one_file(tree, actor):
    crowd = crowd_of(actor, tree, 4, "d")
    tree.turn("d").mkdir()
    together(crowd, "for i in range(80): os.write(os.open(f'{p}/{i}', os.O_CREAT | os.O_WRONLY | os.O_APPEND), b'x'); os.close(3)")
    assert {len(path.read_bytes()) for i in range(80) for path in (tree.turn("d", str(i)),)} == {4}


def test_racing_opens_of_threads_never_fail(tree):
    problems = []

    def run(path):
        for _ in range(60):
            problem = errno_of(lambda: os.close(os.open(path, os.O_CREAT | os.O_RDWR)))
            errno_of(os.unlink, path)
            if problem:
                problems.append(problem)

    threads = [threading.Thread(target=run, args=(tree.turn("f"),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_racing_open_with_o_trunc_leaves_no_old_bytes(tree, actor):
    crowd = crowd_of(actor, tree, 3, "f")
    together(crowd, """
for _ in range(60):
    fd = os.open(p, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    os.write(fd, b'x' * 10)
    os.close(fd)
    try:
        os.unlink(p)
    except FileNotFoundError:
        pass
""")


def test_exclusive_creation_has_one_winner_every_round(tree, actor):
    tree.turn("d").mkdir()
    crowd = crowd_of(actor, tree, 3, "d")
    for one in crowd:
        one.do("won = 0")
    together(crowd, """
for i in range(60):
    try:
        os.close(os.open(f'{p}/{i}', os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        won += 1
    except FileExistsError:
        pass
""")
    assert sum(one("won") for one in crowd) == 60


# ---- appending ----

@pytest.mark.parametrize("flags", ["os.O_RDWR", "os.O_WRONLY"])
@pytest.mark.parametrize("size", [50, 5000])
def test_records_appended_on_all_mounts_are_all_there(tree, actor, flags, size):
    tree.turn("log").touch()
    crowd = crowd_of(actor, tree, 3, "log")
    for i, one in enumerate(crowd):
        one.do(f"fd = os.open(p, {flags} | os.O_APPEND); record = bytes([65 + {i}]) * {size}")
    together(crowd, "for _ in range(30): assert os.write(fd, record) == len(record)")
    for path in tree.all("log"):
        data = path.read_bytes()
        assert {letter: data.count(letter) for letter in b"ABC"} == {letter: 30 * size for letter in b"ABC"}


def test_an_appending_descriptor_that_reads_sees_what_it_wrote(tree):
    tree.at(0, "f").write_bytes(b"first")
    fd = os.open(tree.at(1, "f"), os.O_RDWR | os.O_APPEND)
    tree.at(0, "f").open("ab").write(b" second")
    os.write(fd, b" third")
    assert os.pread(fd, 100, 0) == b"first second third"
    os.close(fd)


# ---- removed while open ----

@pytest.mark.parametrize("length", [100, 3 * MIB])
def test_a_file_removed_on_another_mount_is_whole_for_who_has_it_open(tree, length):
    data = os.urandom(length)
    tree.at(0, "f").write_bytes(data)
    fd = os.open(tree.at(1, "f"), os.O_RDWR)
    tree.at(2, "f").unlink()
    assert os.fstat(fd).st_nlink == 0
    with mmap.mmap(fd, length) as mapped:
        assert mapped[:] == data
        mapped[5] = 77
        mapped.flush()
    assert os.pread(fd, 10, 0) == data[:5] + b"M" + data[6:10]
    os.ftruncate(fd, 50)
    os.pwrite(fd, b"end", 60)
    assert os.fstat(fd).st_size == 63
    os.fsync(fd)
    os.fchmod(fd, 0o640)
    assert os.fstat(fd).st_mode & 0o777 == 0o640
    os.close(fd)


def test_one_of_two_names_removed_elsewhere_leaves_one_link(tree):
    here = tree.at(0)
    (here / "a").write_bytes(b"x")
    os.link(here / "a", here / "b")
    fd = os.open(tree.at(1, "a"), os.O_RDONLY)
    tree.at(2, "a").unlink()
    assert os.fstat(fd).st_nlink == 1
    tree.at(2, "b").unlink()
    assert os.fstat(fd).st_nlink == 0 and os.read(fd, 5) == b"x"
    os.close(fd)


# ---- by handle ----

def test_what_a_mount_has_never_looked_up_is_opened_by_its_handle(tree):
    need_root("open_by_handle_at")
    tree.at(0, "d", "e").mkdir(parents=True)
    tree.at(0, "d", "e", "f").write_text("inside")
    tree.at(0, "d", "gone").write_text("")
    handles = {name: posix.handle_of(tree.at(0, "d", name)) for name in ("e", "e/f", "gone")}
    tree.at(0, "d", "gone").unlink()
    top = os.open(tree.at(1), os.O_DIRECTORY)
    fd = posix.open_handle(top, handles["e/f"], os.O_RDONLY)
    assert os.read(fd, 10) == b"inside"
    os.close(fd)
    fd = posix.open_handle(top, handles["e"], os.O_DIRECTORY)
    assert os.listdir(fd) == ["f"]
    assert os.readlink(f"/proc/self/fd/{fd}") == os.fspath(tree.at(1, "d", "e"))
    os.close(fd)
    assert errno_of(posix.open_handle, top, handles["gone"], os.O_RDONLY) == "ESTALE"
    os.close(top)
