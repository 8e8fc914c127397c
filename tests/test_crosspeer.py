"""Changes of names that span peers: each is whole, or has not been."""
import itertools
import os
import random
import shutil
import signal
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.acl import get_acl, set_acl
from harness.env import BENCHFS, patience, size
from harness.posix import RENAME_EXCHANGE, RENAME_NOREPLACE, give_name, renameat2, tmpfile
from harness.procs import errno_of, eventually, run, wait_exit
from harness.store import Store, key

pytestmark = pytest.mark.core

KINDS = ("file", "symlink", "fifo", "socket", "dir")


def make(path, kind):
    if kind == "file":
        path.write_text(path.name)
    elif kind == "symlink":
        path.symlink_to(path.name)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    else:
        path.mkdir()
    return path.lstat().st_ino


def numbers(paths):
    """What each of the paths stands for; None: nothing."""
    return [p.lstat().st_ino if os.path.lexists(p) else None for p in paths]


def rename(tree, old, new, flags=0):
    """Through the next mount; old and new: lists of names."""
    root = tree.turn()
    renameat2(root.joinpath(*old), root.joinpath(*new), flags)


def link(tree, old, new):
    root = tree.turn()
    os.link(root.joinpath(*old), root.joinpath(*new), follow_symlinks=False)


def homes(tree, n=3):
    return [tree.home(f"home{i}").name for i in range(n)]


def check_links(top):
    """Every link count is what can be counted."""
    seen = {}
    for where, dirs, files in os.walk(top):
        assert os.stat(where).st_nlink == 2 + sum(not os.path.islink(os.path.join(where, d)) for d in dirs)
        for name in files:
            st = os.lstat(os.path.join(where, name))
            seen.setdefault(st.st_ino, []).append(st.st_nlink)
    for number, links in seen.items():
        assert links == [len(links)] * len(links), f"inode {number:#x}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_moves_to_a_directory_of_another_peer_whatever_it_names(tree, kind):
    a, b, c = homes(tree)
    number = make(tree.turn(a, "x"), kind)
    for old, new in itertools.pairwise((a, b, c, a, c, b, a)):
        rename(tree, (old, "x"), (new, "x"))
        assert all(number == p.lstat().st_ino for p in tree.all(new, "x"))
        assert not any(os.path.lexists(p) for p in tree.all(old, "x"))
    for d in (a, b, c):
        assert all(p.stat().st_nlink == 2 + (kind == "dir" and os.path.lexists(p / "x")) for p in tree.all(d))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_rename_replaces_what_another_peer_has_or_says_why_not(tree, kind, target):
    a, b, c = homes(tree)
    number, old = make(tree.turn(a, "x"), kind), make(tree.turn(c, "y"), target)
    rename(tree, (c, "y"), (b, "y"))
    r = errno_of(rename, tree, (a, "x"), (b, "y"))
    want = None if (kind == "dir") == (target == "dir") else "ENOTDIR" if kind == "dir" else "EISDIR"
    assert r == want
    assert numbers(tree.all(b, "y")) == [old if want else number] * len(tree.roots)
    assert numbers(tree.all(a, "x")) == [number if want else None] * len(tree.roots)


def test_a_directory_that_is_not_empty_is_not_replaced(tree):
    a, b, _ = homes(tree)
    tree.turn(a, "x").mkdir()
    tree.turn(b, "y").mkdir()
    tree.turn(b, "y", "z").touch()
    assert errno_of(rename, tree, (a, "x"), (b, "y")) == "ENOTEMPTY"
    tree.turn(b, "y", "z").unlink()
    rename(tree, (a, "x"), (b, "y"))
    tree.turn(b, "y", "new").touch()
    assert os.listdir(tree.turn(b, "y")) == ["new"] and os.listdir(tree.turn(a)) == []


@pytest.mark.parametrize("kinds", list(itertools.combinations_with_replacement(KINDS, 2)))
def test_two_names_on_two_peers_are_exchanged(tree, kinds):
    a, b, _ = homes(tree)
    x, y = make(tree.turn(a, "x"), kinds[0]), make(tree.turn(b, "y"), kinds[1])
    rename(tree, (a, "x"), (b, "y"), RENAME_EXCHANGE)
    assert numbers(tree.all(a, "x")) == [y] * len(tree.roots)
    assert numbers(tree.all(b, "y")) == [x] * len(tree.roots)
    for top in tree.all():
        check_links(top)


def test_noreplace_and_exchange_say_what_is_there(tree):
    a, b, _ = homes(tree)
    tree.turn(a, "x").touch()
    assert errno_of(rename, tree, (a, "x"), (b, "y"), RENAME_EXCHANGE) == "ENOENT"
    tree.turn(b, "y").touch()
    assert errno_of(rename, tree, (a, "x"), (b, "y"), RENAME_NOREPLACE) == "EEXIST"
    assert errno_of(rename, tree, (a, "none"), (b, "y")) == "ENOENT"
    rename(tree, (a, "x"), (b, "new"), RENAME_NOREPLACE)
    assert sorted(os.listdir(tree.turn(b))) == ["new", "y"]


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_links_are_counted_wherever_their_names_are(tree, kind):
    names = [(d, n) for d in homes(tree) for n in ("p", "q")]
    make(tree.turn(*names[0]), kind)
    for i, name in enumerate(names[1:], 2):
        link(tree, names[i - 2], name)
        assert {p.lstat().st_nlink for p in tree.all(*names[0])} == {i}
    assert errno_of(link, tree, names[0], names[1]) == "EEXIST"
    # two names of one file: nothing happens
    rename(tree, (*names[0],), (*names[-1],))
    assert all(os.path.lexists(tree.turn(*n)) for n in names)
    for i, name in enumerate(names[:-1]):
        tree.turn(*name).unlink()
        assert {p.lstat().st_nlink for p in tree.all(*names[-1])} == {len(names) - 1 - i}
    tree.turn(*names[-1]).unlink()
    assert [os.listdir(tree.turn(d)) for d in {n[0] for n in names}] == [[], [], []]


def test_directories_get_no_second_name(tree):
    a, b, _ = homes(tree)
    tree.turn(a, "d").mkdir()
    assert errno_of(link, tree, (a, "d"), (b, "l")) == "EPERM"


def test_moving_changes_the_times_of_both_directories_and_of_what_moves(tree):
    a, b, _ = homes(tree)
    tree.turn(a, "x").write_text("x")

    def times():
        return (tree.turn(a).stat().st_mtime_ns, tree.turn(b).stat().st_mtime_ns,
                next(p for p in (tree.turn(a, "x"), tree.turn(b, "x")) if p.exists()).stat().st_ctime_ns)

    before = times()
    rename(tree, (a, "x"), (b, "x"))
    assert all(new > old for new, old in zip(times(), before))


def test_a_moved_directory_knows_its_new_parent(tree):
    a, b, _ = homes(tree)
    tree.turn(a, "d").mkdir()
    tree.turn(a, "d", "f").write_text("f")
    rename(tree, (a, "d"), (b, "e"))
    for top in tree.all():
        fd = os.open(top / b / "e", os.O_RDONLY | os.O_DIRECTORY)
        assert os.stat("..", dir_fd=fd).st_ino == (top / b).stat().st_ino
        assert os.stat("f", dir_fd=fd).st_size == 1
        os.close(fd)


def test_a_directory_does_not_move_into_itself(tree):
    a, b, c = homes(tree)
    rename(tree, (b,), (a, "b"))
    rename(tree, (c,), (a, "b", "c"))
    assert errno_of(rename, tree, (a,), (a, "b", "c", "x")) == "EINVAL"
    assert errno_of(rename, tree, (a,), (a, "b", "c"), RENAME_EXCHANGE) == "EINVAL"
    assert errno_of(rename, tree, (a, "b", "c"), (a,)) == "ENOTEMPTY"
    rename(tree, (a, "b", "c"), ("c",))
    rename(tree, (a,), ("c", "a"))
    assert sorted(os.listdir(tree.turn())) == ["c"]


def test_a_file_replaced_or_unlinked_on_another_peer_lives_while_it_is_open(tree):
    a, b, c = homes(tree)
    data = os.urandom(300_000)
    for name in ("x", "y"):
        tree.turn(a, name).write_bytes(data)
        rename(tree, (a, name), (b, name))
    tree.turn(c, "new").touch()
    files = [open(p, "rb", buffering=0) for name in ("x", "y") for p in tree.all(b, name)]
    rename(tree, (c, "new"), (b, "x"))
    tree.turn(b, "y").unlink()
    assert tree.turn(b, "x").stat().st_size == 0
    for f in files:
        assert os.pread(f.fileno(), len(data), 0) == data and os.fstat(f.fileno()).st_nlink == 0
        f.close()


def test_a_listing_with_attributes_is_whole_where_inodes_are_elsewhere(tree):
    a, b, _ = homes(tree)
    for i in range(100):
        tree.turn(a, f"f{i}").write_bytes(b"x" * i)
        rename(tree, (a, f"f{i}"), (b, f"f{i}"))
    for d in tree.all(b):
        assert {e.name: e.stat().st_size for e in os.scandir(d)} == {f"f{i}": i for i in range(100)}
    shutil.rmtree(tree.turn(b))


# ---- many at once ----


def run_all(functions):
    problems = []

    def guarded(f):
        try:
            f()
        except BaseException as e:  # noqa: B902
            problems.append(e)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if problems:
        raise problems[0]


@pytest.mark.configs("tcp3")
@pytest.mark.limit(240)
def test_crossing_moves_of_directories_make_no_circle(tree):
    a, b, c = homes(tree)
    ends = threading.Barrier(2, timeout=20)
    moved = [0, 0]

    def mover(i, old, new):
        for _ in range(200):
            ends.wait()
            r = errno_of(os.rename, tree.at(i, old), tree.at(i, new, "x"))
            # ESTALE: what the kernel says while it finds the directory elsewhere itself
            assert r in (None, "EINVAL", "ENOENT", "ESTALE"), r
            moved[i] += r is None
            ends.wait()
            if i == 0:
                for other in (tree.at(0, a, "x"), tree.at(0, b, "x")):
                    if other.exists():
                        os.rename(other, tree.at(0, b if other.parent.name == a else a))
                assert sorted(os.listdir(tree.at(1))) == sorted([a, b, c])
                assert os.listdir(tree.at(2, a)) == os.listdir(tree.at(2, b)) == []

    run_all([lambda: mover(0, a, b), lambda: mover(1, b, a)])
    assert 0 < sum(moved) <= 200


@pytest.mark.configs("tcp3")
@pytest.mark.limit(300)
def test_crossing_changes_from_every_mount_come_to_an_end(tree):
    dirs = homes(tree)
    names = [(d, f"n{i}") for d in dirs for i in range(3)]
    fine = {None, "ENOENT", "EEXIST", "ENOTEMPTY", "EISDIR", "ENOTDIR", "EINVAL", "ESTALE"}

    def storm(i):
        rng = random.Random(i)
        for _ in range(1000):
            x, y = (tree.at(i, *rng.choice(names)) for _ in range(2))
            what = rng.randrange(9)
            if what == 0:
                r = errno_of(lambda: os.close(os.open(x, os.O_CREAT | os.O_WRONLY)))
            elif what == 1:
                r = errno_of(os.unlink, x)
            elif what == 2:
                r = errno_of(os.link, x, y)
                r = None if r == "EPERM" else r
            elif what == 3:
                r = errno_of(os.mkdir, x)
            elif what == 4:
                r = errno_of(os.rmdir, x)
            elif what == 5:
                r = errno_of(renameat2, x, y, RENAME_EXCHANGE)
            elif what == 6:
                fd = tmpfile(x.parent)
                r = errno_of(give_name, fd, y)
                os.close(fd)
            else:
                r = errno_of(os.rename, x, y)
            assert r in fine, (what, r)

    run_all([lambda i=i: storm(i) for i in range(3)])
    for top in tree.all():
        check_links(top)
    shutil.rmtree(tree.turn())
    tree.turn().mkdir()


@pytest.mark.configs("tcp3", "shm3")
def test_who_sees_that_a_name_has_left_one_peer_sees_it_at_the_other(tree):
    a, b, _ = homes(tree)
    rounds = 150
    for i in range(rounds):
        tree.at(0, a, f"x{i}").touch()
    left = threading.Event()

    def move():
        try:
            for i in range(rounds):
                os.rename(tree.at(i % 2, a, f"x{i}"), tree.at(i % 2, b, f"x{i}"))
        finally:
            left.set()

    def watch(mount):
        for i in range(rounds):
            old, new = tree.at(mount, a, f"x{i}"), tree.at(mount, b, f"x{i}")
            # what the mount keeps: that the new name is not there
            while not new.exists() and old.exists():
                assert not left.is_set() or new.exists()
            assert new.exists(), i

    run_all([move, *[lambda m=m: watch(m) for m in range(3)]])


# ---- files that have no name yet ----

@pytest.mark.parametrize("length", [0, 100, 300_000])
def test_a_file_without_a_name_gets_its_first_one_at_any_peer(tree, length):
    data = os.urandom(length)
    for there in (dirs := homes(tree)):
        here = tree.turn()
        fd = tmpfile(here / dirs[0])
        os.write(fd, data)
        os.setxattr(fd, "user.k", b"v")
        set_acl(f"/proc/self/fd/{fd}", "u:6 user:7:4 g:0 mask:4 o:0")
        give_name(fd, here / there / "f")
        assert os.fstat(fd).st_nlink == 1
        os.pwrite(fd, b"!", length)
        os.close(fd)
        for path in tree.all(there, "f"):
            assert path.read_bytes() == data + b"!" and path.stat().st_nlink == 1
            assert os.getxattr(path, "user.k") == b"v" and get_acl(path) == "u:6 user:7:4 g:0 mask:4 o:0"
            assert os.listdir(path.parent) == ["f"]


def test_a_file_that_got_its_name_at_another_peer_is_one_like_any_other(tree):
    before = tree.cluster.objects()
    a, b, c = homes(tree)
    here = tree.turn()
    fd = tmpfile(here / a)
    os.write(fd, b"x" * 300_000)
    give_name(fd, here / b / "x")
    give_name(fd, here / c / "y")
    give_name(fd, here / a / "z")
    assert {p.stat().st_nlink for p in (*tree.all(b, "x"), *tree.all(c, "y"), *tree.all(a, "z"))} == {3}
    tree.turn(c, "old").write_bytes(b"o" * 300_000)
    rename(tree, (b, "x"), (c, "old"))
    tree.turn(c, "y").unlink()
    tree.turn(a, "z").unlink()
    assert os.fstat(fd).st_nlink == 1
    tree.turn(b, "other").write_bytes(b"other")
    rename(tree, (b, "other"), (c, "old"))
    assert os.fstat(fd).st_nlink == 0 and os.pread(fd, 5, 299_998) == b"xx"
    for there in (a, b, c):
        assert errno_of(give_name, fd, here / there / "again") == "ENOENT"
    os.close(fd)
    tree.turn(c, "old").unlink()
    assert eventually(lambda: tree.cluster.objects() <= before, 20)


def test_a_first_name_that_can_not_be_had_leaves_the_file_without(tree):
    before = tree.cluster.objects()
    a, b, _ = homes(tree)
    here = tree.turn()
    (here / b / "f").touch()
    (here / b / "no").mkdir()
    fd, never = tmpfile(here / a), tmpfile(here / a, os.O_RDWR | os.O_EXCL)
    for one in (fd, never):
        os.write(one, b"x" * 300_000)
    gone = os.open(here / b / "no", os.O_RDONLY)
    (here / b / "no").rmdir()
    assert errno_of(give_name, fd, here / b / "f") == "EEXIST"
    assert errno_of(give_name, fd, here / b / "none" / "f") == "ENOENT"
    assert errno_of(os.link, f"/proc/self/fd/{fd}", "f", src_dir_fd=fd, dst_dir_fd=gone) == "ENOENT"
    assert errno_of(give_name, never, here / b / "g") == "ENOENT"
    assert os.fstat(fd).st_nlink == 0 and sorted(os.listdir(tree.turn(b))) == ["f"]
    give_name(fd, here / b / "g")
    for one in (fd, never, gone):
        os.close(one)
    assert {p.read_bytes() for p in tree.all(b, "g")} == {b"x" * 300_000}
    tree.turn(b, "g").unlink()
    assert eventually(lambda: tree.cluster.objects() <= before, 20)


@pytest.mark.configs("tcp3", "shm3")
def test_first_names_at_every_peer_while_others_take_them_away(tree):
    before = tree.cluster.objects()
    dirs = homes(tree)
    rounds = size(60, 1000, 15)

    def give(mount):
        rng = random.Random(mount)
        for i in range(rounds):
            fd = tmpfile(tree.at(mount, rng.choice(dirs)))
            data = b"%d.%d" % (mount, i) * rng.choice([1, 5000])
            os.write(fd, data)
            name = tree.at(mount, rng.choice(dirs), f"n{rng.randrange(4)}")
            r = errno_of(give_name, fd, name)
            assert r in (None, "EEXIST"), r
            assert r is None or os.fstat(fd).st_nlink == 0
            assert os.pread(fd, len(data) + 1, 0) == data
            os.close(fd)

    def take(mount):
        rng = random.Random(mount)
        for _ in range(rounds):
            name = tree.at(mount, rng.choice(dirs), f"n{rng.randrange(4)}")
            assert errno_of(name.unlink) in (None, "ENOENT")

    run_all([lambda m=m, f=f: f(m) for m in range(3) for f in (give, take)])
    for top in tree.all():
        check_links(top)
    shutil.rmtree(tree.turn())
    tree.turn().mkdir()
    assert eventually(lambda: tree.cluster.objects() <= before, 30)


@pytest.mark.limit(120)
@pytest.mark.parametrize("step,goes", [(s, g) for s in ("prepared", "decided") for g in ("opener", "mount", "home")])
def test_a_file_stays_while_its_first_name_is_in_doubt_whoever_goes(make_cluster, step, goes):
    cluster = make_cluster(3, transport="tcp,self")
    roots = [p.mount for p in cluster.peers]
    (roots[1] / "names").mkdir()
    (roots[2] / "inodes").mkdir()
    coordinator, home = cluster.peers[1:]
    assert coordinator.stop() == []
    coordinator.env = {"BENCHFS_TEST_CRASH": step}
    coordinator.start().wait_ready()
    fd, other = tmpfile(roots[0] / "inodes"), tmpfile(roots[0] / "inodes")
    for one in (fd, other):
        os.write(one, b"x" * 300_000)
    assert errno_of(give_name, fd, roots[0] / "names" / "f") == "EIO"
    assert wait_exit(coordinator.proc, 30) == -signal.SIGKILL
    coordinator.kill()
    if goes == "home":
        home.kill()
    if goes == "mount":
        cluster.peers[0].kill()
    for one in (fd, other):
        errno_of(os.close, one)
    # their mounts are ready when all peers are back; they serve others before
    if goes == "home":
        home.start()
    if goes == "mount":
        cluster.peers[0].start()
    # of two that nobody has open any more the one stays that is in doubt
    assert len(cluster.objects()) == 2 or goes == "opener"
    assert eventually(lambda: len(cluster.objects()) == 1, 40)
    coordinator.env = {}
    coordinator.start()
    for peer in cluster.peers:
        peer.wait_ready()
    assert eventually(lambda: all(errno_of(picture, r) is None for r in roots), 30)
    if step == "decided":
        assert {(r / "names" / "f").read_bytes() for r in roots} == {b"x" * 300_000}
        check_links(roots[0])
        (roots[2] / "names" / "f").unlink()
    assert eventually(lambda: not cluster.objects(), 40)
    assert [os.listdir(r / "names") for r in roots] == [[]] * 3
    assert eventually(lambda: inodes_used(roots[0]) == 3, 40)


def test_a_home_that_was_started_anew_gives_the_first_name_and_others_open_it(make_cluster):
    cluster = make_cluster(3, transport="tcp,self")
    roots = [p.mount for p in cluster.peers]
    (roots[1] / "names").mkdir()
    (roots[2] / "inodes").mkdir()
    fd = tmpfile(roots[0] / "inodes")
    os.write(fd, b"x" * 300_000)
    cluster.peers[2].kill()
    cluster.peers[2].start().wait_ready()
    give_name(fd, roots[0] / "names" / "f")
    os.close(fd)
    assert {(r / "names" / "f").read_bytes() for r in roots} == {b"x" * 300_000}


# ---- crashes ----

COORDINATOR = ("holding", "prepared", "decided", "told", "forgotten")
PARTICIPANT = ("asked", "recorded", "done")
DECIDED = ("decided", "told", "forgotten", "done")


def do_rename(a, b):
    os.rename(a / "x", b / "y")


def do_replace(a, b):
    os.rename(a / "x", b / "full")


def do_exchange(a, b):
    renameat2(a / "x", b / "full", RENAME_EXCHANGE)


def do_move_directory(a, b):
    os.rename(a / "sub", b / "sub")


def do_link(a, b):
    os.link(b / "full", a / "linked")


def do_unlink(a, b):
    os.unlink(a / "foreign")


def do_mkdir(a, b):
    os.mkdir(a / "made")


def do_rmdir(a, b):
    os.rmdir(a / "foreigndir")


def do_name(a, b):
    fd = tmpfile(b)
    try:
        os.write(fd, b"n" * 100_000)
        give_name(fd, a / "named")
    finally:
        os.close(fd)


OPS = {f.__name__[3:]: f for f in (do_rename, do_replace, do_exchange, do_move_directory, do_link, do_unlink, do_mkdir, do_rmdir,
                                  do_name)}


def picture(top):
    """All names below, each with the number it stands for."""
    def fail(error):
        raise error

    return {os.path.relpath(os.path.join(w, n), top): os.lstat(os.path.join(w, n)).st_ino
            for w, d, f in os.walk(top, onerror=fail) for n in (*d, *f)}


def inodes_used(top):
    st = os.statvfs(top)
    return st.f_files - st.f_ffree


def files_in(peers):
    return sum(1 for p in peers for f in (p.store / "objects").rglob("*") if f.is_file() and f.stat().st_blocks)


def stop_without_decisions(peer):
    """Of earlier changes, whose end must not be taken for that of the next."""
    def without():
        if not peer.running():
            peer.start().wait_ready()
        assert peer.stop() == []
        return not Store(peer.store).keys("q")
    assert eventually(without, 30, every=1)


def crashes():
    """Every operation and every step: each with each in the soak, which takes a
    while, else each operation at two steps, or one under sanitizers."""
    steps = COORDINATOR + PARTICIPANT
    return [(op, steps[(i + shift) % len(steps)]) for i, op in enumerate(OPS)
            for shift in range(0, len(steps), size(4, 1, sanitized=len(steps)))]


@pytest.mark.limit(120)
@pytest.mark.parametrize("op,step", crashes())
def test_a_crash_at_any_step_leaves_the_old_state_or_the_new_one(make_cluster, op, step):
    cluster = make_cluster(3, transport="tcp,self")
    roots = [p.mount for p in cluster.peers]
    # one directory on each peer; a's peer coordinates, b's has the inodes
    a, b = "one", "two"
    (roots[1] / a).mkdir()
    (roots[2] / b).mkdir()
    (roots[1] / a / "x").write_bytes(b"x" * 100_000)
    (roots[1] / a / "sub").mkdir()
    (roots[2] / b / "full").write_bytes(b"f" * 100_000)
    (roots[2] / b / "away").write_bytes(b"a" * 100_000)
    os.rename(roots[2] / b / "away", roots[2] / a / "foreign")
    (roots[2] / a / "foreigndir").mkdir()
    before = picture(roots[0])
    victim = cluster.peers[1 if step in COORDINATOR else 2]
    stop_without_decisions(victim)
    victim.env = {"BENCHFS_TEST_CRASH": step}
    victim.start().wait_ready()
    # a new directory is its maker's, which so has to be the participant
    caller = roots[2 if op == "mkdir" else 0]
    with ThreadPoolExecutor() as pool:
        call = pool.submit(errno_of, OPS[op], caller / a, caller / b)
        assert wait_exit(victim.proc, 30) == -signal.SIGKILL
        victim.kill()
        victim.env = {}
        victim.start().wait_ready()
        problem = call.result(patience(60))
    # each finds by itself that the victim is back
    assert eventually(lambda: all(errno_of(picture, r) is None for r in roots), 30)
    after = picture(roots[0])
    check_links(roots[0])
    assert after != before if step in DECIDED else problem or after != before
    moved = {"rename": ("one/x", "two/y"), "replace": ("one/x", "two/full"), "move_directory": ("one/sub", "two/sub")}
    if op in moved:
        old, new = moved[op]
        assert (after.get(old) == before[old]) != (after.get(new) == before[old])
    if op == "exchange":
        assert {after["one/x"], after["two/full"]} == {before["one/x"], before["two/full"]}
    if "one/named" in after:
        assert {(r / "one" / "named").read_bytes() for r in roots} == {b"n" * 100_000}
    assert all(picture(r) == after for r in roots)
    # everything can be removed, and nothing stays behind
    shutil.rmtree(roots[0] / a)
    shutil.rmtree(roots[0] / b)
    assert eventually(lambda: files_in(cluster.peers) == 0, 60)
    assert eventually(lambda: inodes_used(roots[0]) == 1, 60)


@pytest.mark.limit(120)
@pytest.mark.parametrize("damage", ["unreadable", "missing"])
def test_a_damaged_inode_of_an_unfinished_change_stops_that_change_alone(make_cluster, damage):
    cluster = make_cluster(3, transport="tcp,self")
    coordinator, participant = cluster.peers[1:]
    roots = [p.mount for p in cluster.peers]
    (roots[1] / "one").mkdir()
    (roots[1] / "one" / "x").write_bytes(b"x" * 100_000)
    for name in ("two", "elsewhere"):
        (roots[2] / name).mkdir()
        (roots[2] / name / "full").write_bytes(name.encode())
    before = picture(roots[0])
    full = before["two/full"]
    assert coordinator.stop() == []
    coordinator.env = {"BENCHFS_TEST_CRASH": "decided"}
    coordinator.start().wait_ready()
    with ThreadPoolExecutor() as pool:
        call = pool.submit(errno_of, do_exchange, roots[0] / "one", roots[0] / "two")
        assert wait_exit(coordinator.proc, 30) == -signal.SIGKILL
        coordinator.kill()
        participant.kill()
        call.result(patience(60))
    store = Store(participant.store)
    record = store.records()[key(full, "i")]
    if damage == "missing":
        store.delete(key(full, "i"))
    else:
        store.change(full, version=9)
    coordinator.env = {}
    for peer in (participant, coordinator):
        peer.start()
    for peer in (participant, coordinator):
        peer.wait_ready()
    # nobody gets to see half of it, nor has to wait once its end is known
    assert eventually(lambda: "can't be done with this store" in participant.tail(), 30)
    assert f"inode {full:#x} can't be had" in participant.tail()
    assert eventually(lambda: all(errno_of(os.stat, r / "elsewhere" / "full") is None for r in roots), 30)
    start = time.monotonic()
    assert errno_of(os.stat, roots[0] / "two" / "full") == "EIO"
    assert errno_of(os.listdir, roots[0] / "two") == "EIO"
    assert time.monotonic() - start < patience(5)
    # all else goes on
    for root in roots:
        assert (root / "elsewhere" / "full").read_bytes() == b"elsewhere"
        (root / "two" / f"new{root.parent.name}").write_bytes(b"new")
        os.rename(root / "two" / f"new{root.parent.name}", root / "elsewhere" / f"new{root.parent.name}")
    assert [p for peer in cluster.peers for p in peer.stop()] == []
    found = run(BENCHFS, "fsck", *[p.store for p in cluster.peers], check=False).stdout
    assert f"inode {full:#x}" in found and "a change that peer 1 coordinates is unfinished in it" in found
    assert ("about it" if damage == "missing" else "its record can't be read") in found
    # mended, it is done
    store.put(key(full, "i"), record)
    cluster.start()
    assert eventually(lambda: errno_of(picture, roots[0]) is None, 30)
    after = picture(roots[0])
    assert (after["one/x"], after["two/full"]) == (full, before["one/x"])
