"""benchfs fsck: whole stores are found whole, and each kind of damage is named."""
import os
import random
import shutil
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from harness.cluster import Cluster
from harness.env import BENCHFS, need_root, size
from harness.procs import run
from harness.store import (DROP, INODE_INLINE, INODE_ORPHAN, LINK, MOVE, NAME, ROOT_INO, TRUNCATE, Store, change_key,
                           change_record, dirent, exclusive, key, number, number_key, run_record, step)

pytestmark = pytest.mark.core


def fsck(*args, env=None):
    done = run(BENCHFS, "fsck", *args, check=False, env=env)
    assert done.returncode in (0, 1, 2), done
    return done


def problems(*args):
    """The lines but the last, which has the counts."""
    done = fsck(*args)
    lines = done.stdout.splitlines()
    assert done.returncode in (0, 1), done.stderr
    assert lines[-1].endswith(": clean") == (done.returncode == 0)
    return lines[:-1]


def busy_tree(mounts, seed=1):
    """Much of what can be done to names, files and attributes."""
    rng = random.Random(seed)
    for i, mount in enumerate(mounts):
        d = mount / f"d{i}"
        d.mkdir()
        for k in range(40):
            (d / f"f{k}").write_bytes(rng.randbytes(rng.choice([0, 10, 3000, 5000, 100_000])))
        os.truncate(d / "f3", 100)
        os.truncate(d / "f4", 9_000_000)
        os.link(d / "f5", d / "link")
        os.symlink("somewhere", d / "symlink")
        os.mkfifo(d / "fifo")
        os.setxattr(d / "f6", "user.a", b"1")
        os.setxattr(d / "f7", "user.a", b"1")
        os.removexattr(d / "f7", "user.a")
        os.rename(d / "f8", d / "f9")
        os.rename(d / "f10", d / "new")
        (d / "f11").unlink()
        (d / "gone").mkdir()
        (d / "gone").rmdir()
        (d / "sub" / "deep").mkdir(parents=True)
    for i, mount in enumerate(mounts):
        # directories whose names are at another peer
        there = mount / "d0" / f"of{i}"
        there.mkdir()
        (there / "big").write_bytes(rng.randbytes(5_000_000))
        (mount / "d0" / f"brief{i}").mkdir()
        (mount / "d0" / f"brief{i}").rmdir()
        os.setxattr(mount / f"d{i}" / "sub", "benchfs.policy", b"stripe")
        (mount / f"d{i}" / "sub" / "striped").write_bytes(rng.randbytes(13_000_000))
        if i:
            (mount / "d0" / "link").unlink() if i == 1 else None
    return mounts


def stop(cluster):
    """Ends the peers; the stores stay."""
    assert [p for peer in cluster.peers for p in peer.stop()] == []
    return [peer.store for peer in cluster.peers if peer.store]


# ---- whole stores ----

def test_a_store_after_many_operations_is_clean(make_cluster):
    cluster = make_cluster()
    busy_tree(cluster.mounts)
    assert problems(*stop(cluster)) == []


def test_three_stores_are_clean_together_and_each_by_itself(make_cluster):
    cluster = make_cluster(3, transport="tcp,self")
    busy_tree(cluster.mounts)
    stores = stop(cluster)
    assert problems(*stores) == []
    assert problems(*reversed(stores)) == []
    for i, store in enumerate(stores):
        [said] = problems(store)
        others = [str(k) for k in range(3) if k != i]
        assert said.startswith(f"not checked without the stores of peers {', '.join(others)}:")
    [said] = problems(stores[0], stores[2])
    assert said.startswith("not checked without the store of peer 1:")


def test_checking_changes_nothing(make_cluster):
    cluster = make_cluster()
    busy_tree(cluster.mounts)
    [store] = stop(cluster)

    def state():
        return sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in store.rglob("*"))
    before = state()
    assert problems(store) == []
    assert state() == before


def test_orphans_and_truncations_that_a_crash_left_are_no_problems(make_cluster):
    cluster = make_cluster(fsck=False)
    peer = cluster.peers[0]
    (peer.mount / "f").write_bytes(os.urandom(5_000_000))
    fd = os.open(peer.mount / "f", os.O_RDONLY)
    (peer.mount / "f").unlink()
    peer.kill()
    try:
        os.close(fd)
    except OSError:
        pass
    done = fsck(peer.store)
    assert done.returncode == 0 and " 1 orphans" in done.stdout


@pytest.mark.parametrize("n", [1, 3])
def test_stores_in_use_are_clean(make_cluster, n):
    cluster = make_cluster(n, transport="tcp,self" if n > 1 else None)
    busy_tree(cluster.mounts)
    for mount in cluster.mounts:
        assert problems("--online", mount) == []


def test_peers_without_mounts_are_checked_through_a_client(make_cluster):
    cluster = make_cluster(2, serve=True, clients=1, transport="tcp,self")
    (cluster.mounts[0] / "d").mkdir()
    (cluster.mounts[0] / "d" / "f").write_bytes(bytes(6_000_000))
    assert problems("--online", cluster.mounts[0]) == []


def test_a_damaged_store_fails_the_test_that_it_belongs_to(program, tmp_path):
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start()
        [store] = stop(cluster)
        Store(store).change(ROOT_INO, size=5)
    finally:
        said = cluster.stop()
    assert len(said) == 1 and "it counts 5 names and has 0" in said[0]


def churn(mount, number, until):
    """Creates, moves, links, grows and removes until it is told to stop."""
    rng = random.Random(number)
    mine = mount / f"churn{number}"
    mine.mkdir()
    (mine / "a").mkdir()
    (mine / "b").mkdir()
    (mount / "shared").mkdir(exist_ok=True)
    i = 0
    while not until.is_set():
        i += 1
        name = f"{number}-{i}"
        path = mine / "a" / name
        path.write_bytes(b"x" * rng.choice([0, 100, 5000, 70_000]))
        os.link(path, mine / "b" / name)
        os.rename(path, mine / "b" / f"{name}-moved")
        (mount / "shared" / name).mkdir()
        os.setxattr(mine / "b" / name, "user.x", b"y")
        if rng.random() < 0.5:
            (mount / "shared" / name).rmdir()
        os.truncate(mine / "b" / name, rng.choice([0, 10, 100_000]))
        (mine / "b" / f"{name}-moved").unlink()
        if rng.random() < 0.9:
            (mine / "b" / name).unlink()


@pytest.mark.limit(120)
@pytest.mark.parametrize("n", [1, 3])
def test_nothing_is_found_wrong_with_stores_in_use_while_they_change(make_cluster, n):
    cluster = make_cluster(n, transport="tcp,self" if n > 1 else None)
    until = threading.Event()
    failed = []

    def work(*args):
        try:
            churn(*args)
        except BaseException as e:
            failed.append(e)
    threads = [threading.Thread(target=work, args=(cluster.mounts[i % n], i, until)) for i in range(3)]
    for t in threads:
        t.start()
    try:
        for i in range(size(10, 200, sanitized=4)):
            assert problems("--online", cluster.mounts[i % n]) == []
    finally:
        until.set()
        for t in threads:
            t.join()
    assert failed == []


# ---- what can't be checked ----

def test_a_store_in_use_is_refused_with_what_to_do(make_cluster):
    peer = make_cluster().peers[0]
    done = fsck(peer.store)
    assert done.returncode == 2 and not done.stdout
    assert str(peer.pid) in done.stderr and "--online" in done.stderr


def test_what_is_no_store_is_refused(make_cluster, tmp_path):
    cluster = make_cluster()
    peer = cluster.peers[0]
    for args in ([tmp_path], [tmp_path / "missing"], ["--online", tmp_path], ["--online", peer.mount / "x"]):
        done = fsck(*args)
        assert done.returncode == 2 and str(args[-1]) in done.stderr and len(done.stderr.splitlines()) == 1


def test_stores_of_two_clusters_and_one_store_twice_are_refused(make_cluster):
    one, two = stop(make_cluster()), stop(make_cluster())
    done = fsck(*one, *two)
    assert done.returncode == 2 and "both of peer 0" in done.stderr
    three = stop(make_cluster(3, transport="tcp,self"))
    done = fsck(three[1], *one)
    assert done.returncode == 2 and "not of one cluster" in done.stderr


def test_a_peer_that_is_down_is_named(make_cluster):
    cluster = make_cluster(3, transport="tcp,self")
    cluster.peers[2].kill()
    done = fsck("--online", cluster.mounts[0])
    assert done.returncode == 2 and "peer 2" in done.stderr


@pytest.fixture
def open_to_all():
    """A directory that other users reach."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield path


def test_only_root_and_who_mounted_may_check_in_use(open_to_all, make_cluster):
    need_root("acts as another user")
    cluster = make_cluster(start=False)
    cluster.peers[0].mount = Path(open_to_all) / "mnt"
    cluster.peers[0].mount.mkdir()
    mount = cluster.start().mounts[0]
    done = run("setpriv", "--reuid=65534", "--clear-groups", BENCHFS, "fsck", "--online", mount, check=False)
    assert done.returncode == 2 and "not permitted" in done.stderr
    assert problems("--online", mount) == []


# ---- damage ----

class Damaged:
    """A copy of a store with a small tree in it, to be damaged."""

    def __init__(self, path, ino):
        self.store = Store(path)
        self.ino = ino

    def found(self):
        return problems(self.store.path)


@pytest.fixture(scope="module")
def whole(program, tmp_path_factory):
    """A store with a small tree in it, and name -> inode number."""
    cluster = Cluster(tmp_path_factory.mktemp("whole"), fsck=False)
    try:
        root = cluster.start().mounts[0]
        for name in ("d", "d/sub", "other"):
            (root / name).mkdir()
        (root / "d" / "small").write_bytes(b"small")
        (root / "d" / "big").write_bytes(os.urandom(9_000_000))
        (root / "d" / "two").write_bytes(b"two")
        os.link(root / "d" / "two", root / "other" / "two")
        os.symlink("target", root / "d" / "symlink")
        os.setxattr(root / "d" / "small", "user.x", b"y")
        names = ["d", "d/sub", "other", "d/small", "d/big", "d/two", "d/symlink"]
        ino = {name: (root / name).lstat().st_ino for name in names}
        [path] = stop(cluster)
        assert problems(path) == []
        yield path, ino
    finally:
        cluster.stop()


@pytest.fixture
def damaged(whole, tmp_path):
    path, ino = whole
    return Damaged(shutil.copytree(path, tmp_path / "store"), ino)


def expect(damaged, *wanted):
    """Each wanted (inode's name, words) has its line, which names the inode."""
    found = damaged.found()
    for name, words in wanted:
        start = f"inode {damaged.ino.get(name, name):#x}" if name else "store of peer 0"
        assert any(line.startswith(start) and words in line for line in found), (name, words, found)
    assert len(found) == len(wanted), found
    numbers = [int(line.split()[1].rstrip(":"), 16) if line.startswith("inode") else 0 for line in found]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("name,fields,words", [
    ("d/small", {"nlink": 2}, "its link count is 2, and it has 1 name"),
    ("d/two", {"nlink": 1}, "its link count is 1, and it has 2 names"),
    ("d", {"nlink": 7}, "its link count is 7, and with 1 directories in it should be 3"),
    ("d", {"size": 9}, "it counts 9 names and has 5"),
    ("d/sub", {"parent": ROOT_INO}, "its name is in directory"),
    ("d/small", {"flags": 0, "blocks": 0}, "its data is in objects, and it has inline data"),
    ("d/small", {"size": 2}, "it has 5 bytes of inline data, and its size is 2"),
    ("d/symlink", {"size": 3}, "it is a symbolic link of 6 bytes and its size is 3"),
    ("d/small", {"attr_flags": 0}, "extended attributes and is not marked"),
    ("d/big", {"blocks": 1}, "it counts 1 blocks"),
    ("d/small", {"flags": INODE_INLINE | INODE_ORPHAN}, "it is marked as an orphan and has no record"),
    ("d/small", {"flags": INODE_INLINE | exclusive(5)}, "peer 5 has an exclusive lease of it, and there is no such peer"),
    ("d/big", {"flags": exclusive(0)}, "peer 0, its home, has an exclusive lease of it"),
    ("d/symlink", {"flags": exclusive(1)}, "it is no file, and peer 1 has an exclusive lease of it"),
    ("d/small", {"version": 9}, "its record can't be read"),
    ("d/big", {"chunk_shift": 63}, "its record can't be read"),
])
def test_a_wrong_field_of_an_inode_is_named(damaged, name, fields, words):
    damaged.store.change(damaged.ino[name], **fields)
    expect(damaged, (name, words))


def test_the_path_is_said_where_names_lead(damaged):
    damaged.store.change(damaged.ino["d/small"], nlink=5)
    [line] = damaged.found()
    assert line.startswith(f"inode {damaged.ino['d/small']:#x} '/d/small': ")


@pytest.mark.parametrize("name,shown", [(b"gr\xc3\xb6\xc3\x9fe \"1\"", 'gr\u00f6\u00dfe "1"'), (b"\x1b[2J\n", "\\033[2J\\n"), (b"\xff", "\\377")])
def test_no_name_breaks_the_lines(make_cluster, name, shown):
    cluster = make_cluster(fsck=False)
    path = os.path.join(os.fsencode(cluster.mounts[0]), name)
    open(path, "w").close()
    ino = os.stat(path).st_ino
    [store] = stop(cluster)
    Store(store).change(ino, nlink=9)
    assert problems(store) == [f"inode {ino:#x} '/{shown}': its link count is 9, and it has 1 name"]


def test_a_type_that_is_none_is_named(damaged):
    inode = damaged.store.inode(damaged.ino["d/small"])
    damaged.store.change(damaged.ino["d/small"], mode=inode.mode | stat.S_IFMT(0o170000))
    expect(damaged, ("d/small", "of no type of file"), ("d", "says type 0100000"))


def test_an_inode_without_a_record_is_named(damaged):
    damaged.store.delete(key(damaged.ino["d/small"], "i"))
    expect(damaged, ("d/small", "there is no such inode, but 2 other records of it"), ("d", "the name 'small' in it leads to"),
           ("", "the count of inodes says 8, and there are 7"))


def test_a_name_that_is_lost_is_named(damaged):
    damaged.store.delete(damaged.store.dirent_key("small"))
    expect(damaged, ("d/small", "no name leads to it, and its link count is 1"), ("d", "it counts 5 names and has 4"))


def test_a_name_that_leads_nowhere_is_named(damaged):
    damaged.store.put(damaged.store.dirent_key("small"), dirent(0x1234, stat.S_IFREG))
    expect(damaged, ("d", "the name 'small' in it leads to inode 0x1234, which is not there"),
           ("d/small", "no name leads to it"))


def test_a_name_of_the_wrong_type_is_named(damaged):
    damaged.store.put(damaged.store.dirent_key("small"), dirent(damaged.ino["d/small"], stat.S_IFDIR))
    expect(damaged, ("d", "the name 'small' in it says type 040000"), ("d", "should be 4"))


def test_a_name_that_can_not_be_read_is_named(damaged):
    damaged.store.put(damaged.store.dirent_key("small"), b"\x01")
    expect(damaged, ("d", "the record of the name 'small' in it can't be read"), ("d/small", "no name leads to it"))


def test_a_name_under_the_wrong_hash_is_named(damaged):
    record = damaged.store.dirent_key("small")
    value = damaged.store.records()[record]
    damaged.store.delete(record)
    damaged.store.put(record[:11] + bytes(8) + record[19:], value)
    expect(damaged, ("d", "the key of a name in it makes no sense"), ("d/small", "no name leads to it"))


def test_a_directory_with_two_names_is_named(damaged):
    other = damaged.ino["other"]
    taken = damaged.store.dirent_key("sub")
    damaged.store.put(key(other, "d", taken[11:]), dirent(damaged.ino["d/sub"], stat.S_IFDIR))
    damaged.store.change(other, size=2, nlink=3)
    expect(damaged, ("d/sub", "it is a directory and has 2 names"))


def test_a_circle_of_directories_is_named(damaged):
    """d is moved into d/sub, and away from the root."""
    store, d, sub = damaged.store, damaged.ino["d"], damaged.ino["d/sub"]
    record = store.dirent_key("d")
    store.delete(record)
    store.put(key(sub, "d", record[11:]), dirent(d, stat.S_IFDIR))
    store.change(sub, size=1, nlink=3)
    store.change(d, parent=sub)
    store.change(ROOT_INO, size=1, nlink=3)
    [line] = damaged.found()
    assert line.startswith(f"inode {min(d, sub):#x}") and "circle" in line


def test_names_in_what_is_no_directory_are_named(damaged):
    damaged.store.put(key(damaged.ino["d/symlink"], "d", damaged.store.dirent_key("big")[11:]), dirent(damaged.ino["d/two"], stat.S_IFREG))
    expect(damaged, ("d/symlink", "it is no directory and has 1 names in it"), ("d/two", "it has 3 names"))


def test_an_object_without_an_inode_is_named(damaged):
    path = damaged.store.object(0x2345)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    expect(damaged, (0x2345, "there is no such inode, and peer 0 has an object of it"))


def test_an_object_of_a_file_that_knows_of_none_is_named(damaged):
    path = damaged.store.object(damaged.ino["d/small"])
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    expect(damaged, ("d/small", "peer 0 has an object of it, which its record does not know of"))


def test_an_object_that_is_lost_is_named(damaged):
    damaged.store.object(damaged.ino["d/big"]).unlink()
    expect(damaged, ("d/big", "blocks on peer 0, where it has no object"))


def test_an_object_beyond_its_chunks_is_named(damaged):
    os.truncate(damaged.store.object(damaged.ino["d/big"]), 1 << 40)
    expect(damaged, ("d/big", f"has {1 << 40} bytes, and its chunks there end at"))


def test_what_is_no_object_is_named(damaged):
    (damaged.store.path / "objects" / "00").mkdir(exist_ok=True)
    (damaged.store.path / "objects" / "00" / "note.txt").write_text("hello")
    expect(damaged, ("", "objects/00/note.txt is no object"))


def test_what_is_no_directory_of_objects_is_named(damaged):
    (damaged.store.path / "objects" / "old").mkdir()
    expect(damaged, ("", "objects/old is no directory of objects"))


@pytest.mark.parametrize("value,words", [
    (b"\x07", "a record of its chunk map can't be read"),
    (run_record(0, 0), "a record of its chunk map can't be read"),
    (run_record(1 << 60, 0), "a record of its chunk map can't be read"),
    (run_record(1, 5), "chunks on a peer that there is not"),
    (run_record(1, 0, 9), "chunks on a peer that there is not"),
])
def test_a_wrong_chunk_map_is_named(damaged, value, words):
    big = damaged.ino["d/big"]
    for k in damaged.store.keys("c"):
        damaged.store.delete(k)
    damaged.store.put(key(big, "c", bytes(8)), value)
    expect(damaged, ("d/big", words), ("d/big", "its record has blocks on peer 0, and none of its chunks is there"),
           ("d/big", "its chunks there end at 0"))


def test_chunks_that_overlap_are_named(damaged):
    damaged.store.put(key(damaged.ino["d/big"], "c", (1).to_bytes(8, "big")), run_record(1, 0))
    expect(damaged, ("d/big", "chunk 1 is in its chunk map twice"))


def test_chunks_at_a_peer_that_the_record_does_not_know_are_named(damaged):
    damaged.store.change(damaged.ino["d/big"], targets=[], blocks=0)
    expect(damaged, ("d/big", "chunks on peer 0, which its record does not know of"),
           ("d/big", "peer 0 has an object of it, which its record does not know of"))


@pytest.mark.parametrize("kind,tail,value,words", [
    ("o", b"", b"\x01" + bytes(7), "it has links and a record as an orphan"),
    ("t", bytes([99]), b"\x01", "an intent of an unknown kind: 99"),
    ("t", bytes([TRUNCATE]), b"\x01", "an intent to truncate it, and it has no objects"),
    ("x", b"", b"\x01", "an extended attribute of it can't be read"),
    ("x", b"user.y", b"\x09", "an extended attribute of it can't be read"),
    ("l", b"", b"\x01", "the record of a lock on it can't be read"),
    ("l", bytes(8) + b"\x00" + bytes(16), b"\x09" + bytes(15), "the record of a lock on it can't be read"),
])
def test_a_record_too_many_is_named(damaged, kind, tail, value, words):
    damaged.store.put(key(damaged.ino["d/small"], kind, tail), value)
    found = damaged.found()
    assert any(line.startswith(f"inode {damaged.ino['d/small']:#x}") and words in line for line in found), found


def test_an_unfinished_change_is_named_and_not_what_it_leaves_for_later(damaged):
    damaged.store.delete(damaged.store.dirent_key("small"))
    damaged.store.change(damaged.ino["d"], size=4)
    damaged.store.put(change_key("p"), change_record(1, step(DROP, damaged.ino["d/small"])))
    expect(damaged, ("", "a change that peer 2 coordinates is unfinished in it"))
    # of a process that was killed
    damaged.store.put(number_key("running"), b"\x01")
    expect(damaged)


@pytest.mark.parametrize("kind", [NAME, LINK, MOVE])
def test_an_inode_that_is_lost_and_an_unfinished_change_is_about_is_named(damaged, kind):
    damaged.store.put(number_key("running"), b"\x01")
    damaged.store.put(change_key("p"), change_record(1, step(kind, damaged.ino["d/small"])))
    expect(damaged)
    damaged.store.put(change_key("p"), change_record(2, step(kind, 0x1234) + step(DROP, 0x1235)))
    expect(damaged, (0x1234, "there is no such inode, and unfinished change 0000000000000007.1 is about it"))


def test_a_decision_that_is_kept_is_no_problem(damaged):
    damaged.store.put(change_key("q"), change_record(1, bytes(2)))
    expect(damaged)


@pytest.mark.parametrize("kind,value", [
    ("p", b""), ("p", change_record(0, b"")), ("p", change_record(2, step(DROP, 16))), ("p", change_record(9, bytes(9 * 320))),
    ("q", b"\x01"), ("q", change_record(0, b"")), ("q", change_record(1, bytes(3))),
])
def test_a_record_of_a_change_that_makes_no_sense_is_named(damaged, kind, value):
    damaged.store.put(change_key(kind), value)
    expect(damaged, ("", "can't be read"))


def test_an_orphan_without_its_record_is_named(damaged):
    small = damaged.ino["d/small"]
    damaged.store.delete(damaged.store.dirent_key("small"))
    damaged.store.change(damaged.ino["d"], size=4)
    damaged.store.change(small, nlink=0)
    expect(damaged, ("d/small", "no record as an orphan: it stays for ever"))


def test_a_wrong_count_of_inodes_is_named(damaged):
    damaged.store.put(number_key("inodes"), number(3))
    expect(damaged, ("", "the count of inodes says 3, and there are 8"))


def test_a_counter_of_inode_numbers_below_one_in_use_is_named(damaged):
    damaged.store.put(number_key("next-inode"), number(17))
    expect(damaged, ("", "the counter of inode numbers is at 17, and "))


@pytest.mark.parametrize("name", ["inodes", "next-inode"])
def test_a_number_that_can_not_be_read_is_named(damaged, name):
    damaged.store.put(number_key(name), b"\x01")
    assert any("can't be read" in line for line in damaged.found())


@pytest.mark.parametrize("record,words", [
    (b"\x00\x00Z", "records of an unknown type 0x5a are in slot 0"),
    (b"\x00\x05Zabcdefgh", "records of an unknown type 0x5a are in slot 5"),
    (b"\x03", "there is a record in no slot"),
    (b"\x10\x00m12345678", "the record of a session can't be read"),
    (b"\xff\xffi12345678", "an unknown record of type 0x69 is behind the last slot"),
])
def test_a_record_that_has_no_place_is_named(damaged, record, words):
    damaged.store.put(record, b"\x01")
    expect(damaged, ("", words))


def test_a_record_in_a_slot_that_is_not_its_own_is_named(damaged):
    damaged.store.put(b"\x00\x07i" + (1 << 48 | 5).to_bytes(8, "big"), b"\x01")
    expect(damaged, (1 << 48 | 5, "in slot 7, which is not its own"), ("", "the count of inodes"))


def test_no_root_is_named(damaged):
    damaged.store.delete(key(ROOT_INO, "i"))
    assert f"inode {ROOT_INO:#x} '/': there is no root" in damaged.found()


# ---- damage that takes several stores to see ----

@pytest.fixture(scope="module")
def whole_three(program, tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("three"), 3, transport="tcp,self", fsck=False)
    try:
        mounts = cluster.start().mounts
        (mounts[1] / "away").mkdir()
        (mounts[1] / "away" / "big").write_bytes(os.urandom(9_000_000))
        (mounts[2] / "away" / "far").write_bytes(os.urandom(9_000_000))
        inos = {name: (mounts[0] / name).stat().st_ino for name in ("away", "away/big", "away/far")}
        paths = stop(cluster)
        assert problems(*paths) == []
        yield paths, inos
    finally:
        cluster.stop()


@pytest.fixture
def three(whole_three, tmp_path):
    paths, inos = whole_three
    return [Store(shutil.copytree(path, tmp_path / f"store{i}")) for i, path in enumerate(paths)], inos


def test_a_directory_whose_name_is_lost_at_another_peer_is_named(three):
    stores, inos = three
    stores[0].delete(stores[0].dirent_key("away"))
    stores[0].change(ROOT_INO, size=0, nlink=2)
    [line] = problems(*[s.path for s in stores])
    assert line.startswith(f"inode {inos['away']:#x}") and "no name leads to it" in line
    # that store alone can't know
    assert [line for line in problems(stores[1].path) if "not checked" not in line] == []


def test_a_name_whose_inode_is_lost_at_another_peer_is_named(three):
    stores, inos = three
    stores[1].delete(key(inos["away"], "i"))
    found = problems(*[s.path for s in stores])
    assert any("the name 'away' in it leads to inode" in line and line.startswith("inode 0x1 '/'") for line in found), found
    assert [line for line in problems(stores[0].path) if "not checked" not in line] == []


def test_an_object_of_an_inode_that_is_lost_at_another_peer_is_named(three):
    stores, inos = three
    far = inos["away/far"]
    assert stores[2].object(far).exists()
    for k in stores[1].records():
        if k[3:11] == far.to_bytes(8, "big"):
            stores[1].delete(k)
    found = problems(*[s.path for s in stores])
    assert f"inode {far:#x} '/away/far': there is no such inode, and peer 2 has an object of it" in [
        line.replace(f"{far:#x}:", f"{far:#x} '/away/far':") for line in found], found


def test_an_object_that_is_lost_at_another_peer_is_named(three):
    stores, inos = three
    stores[2].object(inos["away/far"]).unlink()
    [line] = problems(*[s.path for s in stores])
    assert line.startswith(f"inode {inos['away/far']:#x} '/away/far'") and "blocks on peer 2, where it has no object" in line
    assert [line for line in problems(stores[1].path) if "not checked" not in line] == []


def make_longer(path):
    path.write_bytes(path.read_bytes() + b"x")


def make_short(path):
    os.truncate(path, 5000)


def change_magic(path):
    path.write_bytes(b"X" + path.read_bytes()[1:])


def make_a_link(path):
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("damage", [make_longer, make_short, change_magic, make_a_link])
def test_a_damaged_file_of_what_is_held_back_is_named(three, damage):
    stores, _ = three
    damage(stores[2].path / "held-back")
    assert problems(*[s.path for s in stores]) == ["store of peer 2: held-back is no file of sizes held back, or of another version"]


def test_no_file_of_what_is_held_back_and_an_empty_one_are_no_problem(three):
    stores, _ = three
    (stores[0].path / "held-back").unlink()
    (stores[1].path / "held-back").write_bytes(b"")
    (stores[2].path / "held-back").write_bytes(bytes(10_000))
    assert problems(*[s.path for s in stores]) == []


@pytest.mark.parametrize("fields", [{"target": 3}, {"end": 1 << 63}, {"mtime": -1 << 63}, {"ino": 5000 << 48 | 5}])
def test_what_is_held_back_and_makes_no_sense_is_named(three, fields):
    stores, inos = three
    held = {"ino": inos["away/far"], "end": 1, "base": 1, "mtime": 2, "ctime": 2, **fields}
    stores[2].hold_back(4095, **held)
    assert problems(*[s.path for s in stores]) == [
        f"store of peer 2: what is held back in slot 4095 of held-back makes no sense: inode {held['ino']:#x}"]


def test_what_is_held_back_of_what_is_no_file_is_named(three):
    stores, inos = three
    stores[0].hold_back(7, inos["away"], 1, 1, 2, 2)
    assert problems(*[s.path for s in stores]) == [
        f"inode {inos['away']:#x} '/away': it is no file, and peer 0 holds a size of it back"]


def test_what_is_held_back_of_a_file_that_does_not_know_is_named(three):
    stores, inos = three
    far = inos["away/far"]
    inode = stores[1].inode(far)

    def found(**fields):
        held = {"ino": far, "end": 10 << 20, "base": inode.mtime, "mtime": inode.mtime + 9, "ctime": inode.ctime + 9, "target": 2}
        stores[2].hold_back(0, **{**held, **fields})
        return problems(*[s.path for s in stores])

    # nothing is, the home has it, a lease that is over, an inode that is gone
    for fields in ({"mtime": inode.mtime}, {"ctime": inode.ctime}, {"base": inode.mtime - 1}, {"ino": 0x1234}):
        assert found(**fields) == [], fields
    lost = [f"inode {far:#x} '/away/far': peer 2 holds back that it has {10 << 20} bytes, and nothing says that it is to be asked"]
    assert found() == lost
    stores[1].change(far, flags=exclusive(0))
    assert found() == lost
    stores[1].change(far, flags=exclusive(2))
    assert found() == []
    # without the home's store nobody knows
    stores[1].change(far, flags=0)
    assert [line for line in problems(stores[2].path) if "not checked" not in line] == []


def test_damage_is_found_in_use(make_cluster):
    cluster = make_cluster(3, transport="tcp,self", fsck=False)
    (cluster.mounts[1] / "d").mkdir()
    (cluster.mounts[1] / "d" / "f").write_bytes(b"x")
    ino = (cluster.mounts[1] / "d" / "f").stat().st_ino
    stop(cluster)
    Store(cluster.peers[1].store).change(ino, nlink=3)
    cluster.start()
    for mount in cluster.mounts:
        assert problems("--online", mount) == [f"inode {ino:#x} '/d/f': its link count is 3, and it has 1 name"]


# ---- hostile bytes ----

def test_random_damage_never_crashes_or_hangs_the_check(damaged, tmp_path):
    """Bytes of random records, changed, cut, doubled and moved."""
    env = {**os.environ, "ASAN_OPTIONS": "abort_on_error=1", "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1"}
    records = damaged.store.records()
    keys = sorted(records)
    for seed in range(size(25, 2000, sanitized=25)):
        rng = random.Random(seed)
        commands = []
        for _ in range(rng.choice([1, 3, 20])):
            k = rng.choice(keys)
            value = bytearray(records[k])
            new = bytearray(k)
            for _ in range(rng.choice([1, 2, 8])):
                where = new if rng.random() < 0.2 else value
                if where:
                    where[rng.randrange(len(where))] = rng.choice([0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)])
            if rng.random() < 0.1:
                value = value[:rng.randrange(len(value) + 1)]
            if rng.random() < 0.05:
                new = new[:rng.randrange(1, len(new) + 1)]
            commands.append(f"put {new.hex()} {value.hex()}\n")
        copy = tmp_path / "copy"
        shutil.copytree(damaged.store.path, copy)
        Store(copy).edit("".join(commands))
        done = fsck(copy, env=env)
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, (seed, done.stderr)
        shutil.rmtree(copy)
