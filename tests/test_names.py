"""Names: directories, links, renames, and what may be called what."""
import os
import socket
import stat

import pytest

from harness import posix
from harness.env import need_root, size
from harness.procs import errno_of, run

pytestmark = pytest.mark.core


def test_a_directory_is_made_listed_and_removed(tree):
    tree.turn("d").mkdir()
    assert all(os.listdir(p) == ["d"] for p in tree.all())
    tree.turn("d").rmdir()
    assert all(os.listdir(p) == [] for p in tree.all())


def test_mkdir_rules(tree):
    tree.turn("d").mkdir()
    tree.turn("f").touch()
    assert errno_of(os.mkdir, tree.turn("d")) == "EEXIST"
    assert errno_of(os.mkdir, tree.turn("f")) == "EEXIST"
    assert errno_of(os.mkdir, tree.turn("no", "d")) == "ENOENT"
    assert errno_of(os.mkdir, tree.turn("f", "d")) == "ENOTDIR"


def test_rmdir_rules(tree):
    tree.turn("d").mkdir()
    tree.turn("d", "f").touch()
    tree.turn("f").touch()
    assert errno_of(os.rmdir, tree.turn("d")) == "ENOTEMPTY"
    assert errno_of(os.rmdir, tree.turn("f")) == "ENOTDIR"
    assert errno_of(os.rmdir, tree.turn("no")) == "ENOENT"
    assert errno_of(os.unlink, tree.turn("d")) == "EISDIR"
    assert errno_of(os.unlink, tree.turn("no")) == "ENOENT"


def test_link_count_of_a_directory_counts_its_subdirectories(tree):
    base = tree.turn("d")
    base.mkdir()
    assert base.stat().st_nlink == 2
    for name in "abc":
        tree.turn("d", name).mkdir()
    assert tree.turn("d").stat().st_nlink == 5
    tree.turn("d", "b").rmdir()
    assert tree.turn("d").stat().st_nlink == 4


def test_dot_dot_is_the_parent(tree):
    tree.turn("a").mkdir()
    tree.turn("a", "b").mkdir()
    for path in tree.all():
        assert (path / "a" / "b" / "..").stat().st_ino == (path / "a").stat().st_ino
        assert (path / "a" / "b" / "." / ".." / "..").stat().st_ino == path.stat().st_ino


def test_inode_numbers_agree_between_mounts_and_calls(tree):
    tree.turn("f").touch()
    tree.turn("d").mkdir()
    for name in "fd":
        numbers = {p.stat().st_ino for p in tree.all(name)}
        numbers |= {entry.inode() for entry in os.scandir(tree.turn()) if entry.name == name}
        assert len(numbers) == 1


def test_listing_tells_types(tree):
    tree.turn("d").mkdir()
    tree.turn("f").touch()
    tree.turn("l").symlink_to("f")
    os.mkfifo(tree.turn("p"))
    with os.scandir(tree.turn()) as entries:
        kinds = {e.name: (e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False), e.is_symlink()) for e in entries}
    assert kinds == {"d": (True, False, False), "f": (False, True, False),
                     "l": (False, False, True), "p": (False, False, False)}


def test_every_entry_of_a_big_directory_is_listed_once(tree):
    count = size(2000, 2000, sanitized=500)
    for i in range(count):
        os.close(os.open(tree.turn(f"entry-{i:05}-with-a-name-of-some-length"), os.O_CREAT | os.O_WRONLY))
    wanted = sorted(f"entry-{i:05}-with-a-name-of-some-length" for i in range(count))
    for path in tree.all():
        assert sorted(os.listdir(path)) == wanted


def test_removing_while_listing_visits_every_remaining_name(tree):
    for i in range(500):
        tree.turn(f"f{i}").touch()
    seen = []
    with os.scandir(tree.turn()) as entries:
        for entry in entries:
            seen.append(entry.name)
            tree.turn(entry.name).unlink()
    assert sorted(seen) == sorted(f"f{i}" for i in range(500))
    assert os.listdir(tree.turn()) == []


def test_rm_rf_takes_a_deep_tree(tree):
    base = tree.turn("a")
    deep = base.joinpath(*"bcdefghijkl")
    deep.mkdir(parents=True)
    (deep / "f").write_text("x")
    run("rm", "-rf", tree.turn("a"))
    assert os.listdir(tree.turn()) == []


def test_names_may_hold_every_byte_but_slash_and_nul(tree):
    names = [bytes([b]) for b in range(1, 256) if bytes([b]) not in (b"/", b".")]
    names += [bytes(range(1, 47)), bytes(range(48, 256)), b"..x", b"...", b"\xff\xfe", b"a\nb"]
    for name in names:
        with open(os.fsencode(tree.turn()) + b"/" + name, "wb") as f:
            f.write(name)
    for path in tree.all():
        assert sorted(os.listdir(os.fsencode(path))) == sorted(names)
    for name in names:
        with open(os.fsencode(tree.turn()) + b"/" + name, "rb") as f:
            assert f.read() == name


def test_a_name_has_255_bytes_at_most(tree):
    tree.turn("n" * 255).write_text("long")
    assert tree.turn("n" * 255).read_text() == "long"
    tree.turn("d" * 255).mkdir()
    os.rename(*[p for i in [tree.turn()] for p in (i / ("n" * 255), i / ("m" * 255))])
    too_long = "n" * 256
    tree.turn("f").touch()
    here = tree.turn()
    for call in (lambda: open(here / too_long), lambda: open(here / too_long, "w"), lambda: os.mkdir(here / too_long),
                 lambda: os.rename(here / "f", here / too_long), lambda: os.link(here / "f", here / too_long),
                 lambda: os.symlink("x", here / too_long), lambda: os.unlink(here / too_long),
                 lambda: os.mkfifo(here / too_long), lambda: os.stat(here / too_long)):
        assert errno_of(call) == "ENAMETOOLONG"


def test_a_path_of_4096_bytes_is_enametoolong(tree):
    assert errno_of(os.stat, str(tree.turn()) + "/x" * 2100) == "ENAMETOOLONG"


# ---- links ----

def test_hard_links_are_one_file(tree):
    here = tree.turn()
    (here / "a").write_text("one")
    os.link(here / "a", here / "b")
    tree.turn("b").write_text("two")
    for path in tree.all():
        assert (path / "a").read_text() == "two"
        assert (path / "a").stat().st_nlink == 2
        assert (path / "a").stat().st_ino == (path / "b").stat().st_ino
    tree.turn("a").unlink()
    assert tree.turn("b").read_text() == "two" and tree.turn("b").stat().st_nlink == 1


def test_link_rules(tree):
    here = tree.turn()
    (here / "f").touch()
    (here / "d").mkdir()
    assert errno_of(os.link, here / "f", here / "d") == "EEXIST"
    assert errno_of(os.link, here / "d", here / "x") == "EPERM"
    assert errno_of(os.link, here / "no", here / "x") == "ENOENT"


def test_many_hard_links_to_one_file(tree):
    here = tree.turn()
    (here / "f").write_text("x")
    for i in range(300):
        os.link(here / "f", here / f"l{i}")
    assert tree.turn("f").stat().st_nlink == 301
    for i in range(300):
        tree.turn(f"l{i}").unlink()
    assert tree.turn("f").stat().st_nlink == 1


def test_a_hard_link_to_a_symlink_is_a_symlink(tree):
    here = tree.turn()
    (here / "s").symlink_to("target")
    os.link(here / "s", here / "t", follow_symlinks=False)
    assert os.readlink(tree.turn("t")) == "target"
    assert os.lstat(tree.turn("s")).st_nlink == 2


@pytest.mark.parametrize("length", [1, 100, 1023, 4095])
def test_symlinks_keep_their_target(tree, length):
    target = ("t/" * 3000)[:length]
    tree.turn("l").symlink_to(target)
    for path in tree.all("l"):
        assert os.readlink(path) == target
        assert os.lstat(path).st_size == length
        assert stat.S_ISLNK(os.lstat(path).st_mode)


def test_symlink_rules(tree):
    tree.turn("l").symlink_to("nowhere")
    assert errno_of(os.stat, tree.turn("l")) == "ENOENT"
    assert errno_of(os.symlink, "x", tree.turn("l")) == "EEXIST"
    assert errno_of(os.symlink, "x" * 4096, tree.turn("m")) == "ENAMETOOLONG"
    tree.turn("f").touch()
    assert errno_of(os.readlink, tree.turn("f")) == "EINVAL"
    tree.turn("loop").symlink_to("loop")
    assert errno_of(os.stat, tree.turn("loop")) == "ELOOP"


def test_a_symlink_leads_to_a_file_on_the_same_tree(tree):
    tree.turn("d").mkdir()
    tree.turn("d", "f").write_text("found")
    tree.turn("l").symlink_to("d")
    assert tree.turn("l", "f").read_text() == "found"


# ---- special files ----

def test_a_fifo_carries_bytes_between_processes_of_a_machine(tree, actor):
    path = tree.turn("p")
    os.mkfifo(path)
    assert stat.S_ISFIFO(os.stat(tree.turn("p")).st_mode)
    reader = actor()
    reader.start(f"open({str(path)!r}, 'rb').read()")
    with open(path, "wb") as f:
        f.write(b"through")
    assert reader.result() == b"through"


def test_a_socket_can_be_bound_and_reached(tree):
    path = tree.turn("s")
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("s")
            server.listen()
            client.connect("s")
        assert stat.S_ISSOCK(os.stat(tree.turn("s")).st_mode)
    finally:
        os.chdir("/")


def test_device_nodes_keep_their_numbers(tree):
    need_root("mknod of devices")
    os.mknod(tree.turn("c"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(tree.turn("b"), stat.S_IFBLK | 0o600, os.makedev(259, 1048575))
    for path in tree.all():
        info = (path / "c").stat()
        assert stat.S_ISCHR(info.st_mode) and (os.major(info.st_rdev), os.minor(info.st_rdev)) == (1, 3)
        info = (path / "b").stat()
        assert stat.S_ISBLK(info.st_mode) and (os.major(info.st_rdev), os.minor(info.st_rdev)) == (259, 1048575)


def test_mknod_of_a_regular_file(tree):
    os.mknod(tree.turn("f"), stat.S_IFREG | 0o640)
    assert stat.S_IMODE(tree.turn("f").stat().st_mode) == 0o640
    assert errno_of(os.mknod, tree.turn("f"), stat.S_IFREG | 0o640) == "EEXIST"


# ---- rename ----

def test_rename_moves_a_file_in_its_directory(tree):
    here = tree.turn()
    (here / "a").write_text("x")
    os.rename(here / "a", here / "b")
    for path in tree.all():
        assert os.listdir(path) == ["b"] and (path / "b").read_text() == "x"


def test_rename_replaces_its_target(tree):
    here = tree.turn()
    (here / "a").write_text("new")
    (here / "b").write_text("old")
    os.rename(here / "a", here / "b")
    for path in tree.all():
        assert os.listdir(path) == ["b"] and (path / "b").read_text() == "new"


def test_rename_to_another_directory_of_the_same_peer(tree):
    here = tree.home()
    (here / "d").mkdir()
    (here / "e").mkdir()
    (here / "d" / "f").write_text("x")
    os.rename(here / "d" / "f", here / "e" / "g")
    assert tree.turn("home", "e", "g").read_text() == "x"
    assert os.listdir(tree.turn("home", "d")) == []


def test_rename_of_a_directory_takes_its_contents_along(tree):
    here = tree.home()
    (here / "a" / "sub").mkdir(parents=True)
    (here / "a" / "sub" / "f").write_text("x")
    (here / "to").mkdir()
    os.rename(here / "a", here / "to" / "b")
    assert tree.turn("home", "to", "b", "sub", "f").read_text() == "x"
    assert (here / "to" / "b" / "..").stat().st_ino == (here / "to").stat().st_ino
    assert here.stat().st_nlink == 3 and (here / "to").stat().st_nlink == 3


def test_rename_rules(tree):
    here = tree.home()
    (here / "d").mkdir()
    (here / "full").mkdir()
    (here / "full" / "f").touch()
    (here / "f").touch()
    assert errno_of(os.rename, here / "no", here / "x") == "ENOENT"
    assert errno_of(os.rename, here / "f", here / "d") == "EISDIR"
    assert errno_of(os.rename, here / "d", here / "f") == "ENOTDIR"
    assert errno_of(os.rename, here / "d", here / "full") == "ENOTEMPTY"
    assert errno_of(os.rename, here / "d", here / "d" / "below") == "EINVAL"
    os.rename(here / "full", here / "d")
    assert os.listdir(tree.turn("home", "d")) == ["f"]


def test_rename_over_another_link_of_the_same_file_keeps_both(tree):
    here = tree.turn()
    (here / "a").write_text("x")
    os.link(here / "a", here / "b")
    os.rename(here / "a", here / "b")
    assert sorted(os.listdir(tree.turn())) == ["a", "b"]


def test_rename_noreplace_spares_its_target(tree):
    here = tree.turn()
    (here / "a").write_text("a")
    (here / "b").write_text("b")
    assert errno_of(posix.renameat2, here / "a", here / "b", posix.RENAME_NOREPLACE) == "EEXIST"
    posix.renameat2(here / "a", here / "c", posix.RENAME_NOREPLACE)
    assert tree.turn("b").read_text() == "b" and tree.turn("c").read_text() == "a"


def test_rename_exchange_swaps_a_file_and_a_directory(tree):
    here = tree.turn()
    (here / "f").write_text("file")
    (here / "d").mkdir()
    (here / "d" / "x").touch()
    posix.renameat2(here / "f", here / "d", posix.RENAME_EXCHANGE)
    for path in tree.all():
        assert (path / "d").read_text() == "file" and os.listdir(path / "f") == ["x"]
    assert errno_of(posix.renameat2, here / "f", here / "no", posix.RENAME_EXCHANGE) == "ENOENT"


def test_rename_whiteout_is_einval(tree):
    here = tree.turn()
    (here / "a").touch()
    assert errno_of(posix.renameat2, here / "a", here / "b", posix.RENAME_WHITEOUT) in ("EINVAL", "EPERM")
    assert os.listdir(tree.turn()) == ["a"]


@pytest.mark.configs("tcp3", "netns3")
def test_mv_of_a_directory_between_peers_takes_all_of_it(tree):
    for i in range(2):
        tree.at(i, f"home{i}").mkdir()
    here = tree.turn()
    (here / "home0" / "d" / "e").mkdir(parents=True)
    (here / "home0" / "d" / "e" / "f").write_text("x")
    run("mv", here / "home0" / "d", here / "home1" / "d")
    assert tree.turn("home1", "d", "e", "f").read_text() == "x"
    assert os.listdir(tree.turn("home0")) == []


def test_nothing_is_made_below_a_removed_directory(tree):
    path = tree.turn("d")
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    tree.turn("d").rmdir()
    problems = {errno_of(os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=fd), errno_of(os.mkdir, "x", dir_fd=fd)}
    os.close(fd)
    assert problems == {"ENOENT"}
