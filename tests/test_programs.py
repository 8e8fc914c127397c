"""Programs that people run, on three peers, from all three mounts in turn."""
import os
import sqlite3
from contextlib import closing

import pytest

from harness.env import SANITIZED, need_program, size
from harness.procs import run

pytestmark = [pytest.mark.configs("tcp3"), pytest.mark.limit(300)]
MIB = 1 << 20
INCLUDE = size("/usr/include", "/usr/include", sanitized="/usr/include/linux")


@pytest.mark.soak
def test_cp_a_of_a_tree_and_diff_r(tree):
    need_program("diff")
    run("cp", "-a", INCLUDE, tree.turn("copy"), timeout=250)
    run("diff", "-r", "--no-dereference", INCLUDE, tree.turn("copy"), timeout=250)
    run("rm", "-rf", tree.turn("copy"), timeout=250)
    assert os.listdir(tree.turn()) == []


def git(where, *args, **kwargs):
    return run("git", "-C", where, "-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false", *args,
               env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}, timeout=120, **kwargs)


@pytest.fixture
def repository(tmp_path):
    """Forty commits over a few dozen files."""
    need_program("git")
    where = tmp_path / "repository"
    where.mkdir()
    git(where, "init", "-q", "-b", "main")
    for i in range(40):
        for k in range(i % 5 + 1):
            path = where / f"dir{k}" / f"file{i % 12}.c"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"int line_{i}_{n};\n" for n in range(50 * (k + 1))))
        git(where, "add", "-A")
        git(where, "commit", "-q", "-m", f"commit {i}")
    return where


def test_git_clone_commit_fsck_and_gc(tree, repository):
    run("git", "clone", "-q", "--no-local", repository, tree.turn("clone"), timeout=120)
    for i in range(6):
        here = tree.turn("clone")
        (here / f"new{i}").write_text("x" * 1000 * i)
        git(here, "add", "-A")
        git(here, "commit", "-q", "-m", f"on the mount {i}")
    git(tree.turn("clone"), "fsck", "--full", "--strict")
    git(tree.turn("clone"), "gc", "-q", "--aggressive", "--prune=now")
    git(tree.turn("clone"), "fsck", "--full")
    git(tree.turn("clone"), "checkout", "-q", "HEAD~20")
    assert git(tree.turn("clone"), "status", "--porcelain").stdout == ""
    assert git(tree.turn("clone"), "log", "--oneline", "main").stdout.count("\n") == 46


def test_git_branches_merge_and_rebase(tree, repository):
    run("git", "clone", "-q", repository, tree.turn("clone"), timeout=120)
    git(tree.turn("clone"), "checkout", "-q", "-b", "side", "HEAD~3")
    (tree.turn("clone") / "side").write_text("x")
    git(tree.turn("clone"), "add", "-A")
    git(tree.turn("clone"), "commit", "-q", "-m", "side")
    git(tree.turn("clone"), "rebase", "-q", "main")
    git(tree.turn("clone"), "checkout", "-q", "main")
    git(tree.turn("clone"), "merge", "-q", "--no-ff", "-m", "merge", "side")
    git(tree.turn("clone"), "fsck", "--full")


def test_tar_and_untar(tree):
    source = "/usr/include/linux"
    run("tar", "-C", source, "-cf", tree.turn("archive.tar"), ".", timeout=120)
    tree.turn("out").mkdir()
    run("tar", "-C", tree.turn("out"), "-xpf", tree.turn("archive.tar"), timeout=200)
    run("diff", "-r", "--no-dereference", source, tree.turn("out"), timeout=120)
    run("tar", "-C", tree.turn("out"), "-df", tree.turn("archive.tar"), timeout=200)


def write_project(where, modules=24):
    """A C library, a program that uses all of it, and a Makefile."""
    where.mkdir()
    (where / "src").mkdir()
    (where / "include").mkdir()
    for i in range(modules):
        (where / "include" / f"m{i}.h").write_text(f"#pragma once\nint m{i}(int x);\n")
        used = f"m{i - 1}(x)" if i else "x"
        (where / "src" / f"m{i}.c").write_text(
            f"#include <stdio.h>\n#include <stdlib.h>\n#include \"m{i}.h\"\n"
            + (f"#include \"m{i - 1}.h\"\n" if i else "") + f"int m{i}(int x) {{ return {used} + {i}; }}\n")
    (where / "src" / "main.c").write_text(
        f"#include <stdio.h>\n#include \"m{modules - 1}.h\"\nint main(void) {{ printf(\"%d\\n\", m{modules - 1}(0)); return 0; }}\n")
    (where / "Makefile").write_text(
        "OBJECTS = $(patsubst src/%.c,obj/%.o,$(filter-out src/main.c,$(wildcard src/*.c)))\n"
        "prog: obj/main.o libm.a\n\t$(CC) -o $@ $^\n"
        "libm.a: $(OBJECTS)\n\tar rcs $@ $^\n"
        "obj/%.o: src/%.c\n\t@mkdir -p obj\n\t$(CC) -Iinclude -MMD -O1 -c -o $@ $<\n"
        "clean:\n\trm -rf obj libm.a prog\n-include obj/*.d\n")


def test_make_of_a_c_project_builds_rebuilds_and_cleans(tree):
    need_program("make", "cc", "ar")
    write_project(tree.turn("project"))
    run("make", "-j2", "-C", tree.turn("project"), timeout=200)
    assert run(tree.turn("project", "prog")).stdout == f"{sum(range(24))}\n"
    # Nothing to do from another mount: times are the same everywhere.
    run("make", "-q", "-C", tree.turn("project"))
    with open(tree.turn("project", "include", "m5.h"), "a") as f:
        f.write("/* changed */\n")
    done = run("make", "-C", tree.turn("project"), timeout=200)
    assert done.stdout.count(" -c ") == 2
    run("make", "-C", tree.turn("project"), "clean")
    assert not tree.turn("project", "obj").exists()


@pytest.mark.soak
def test_sqlite_transactions_from_all_mounts(tree):
    count = size(1_000, 10_000, sanitized=200)
    tree.turn("db").touch()
    connections = [sqlite3.connect(p, isolation_level=None, timeout=30) for p in tree.all("db")]
    connections[0].execute("create table t (n integer primary key, text)")
    for i in range(count):
        c = connections[i % len(connections)]
        c.execute("begin immediate")
        c.execute("insert into t values (?, ?)", (i, "x" * (i % 500)))
        if i % 10 == 9:
            c.execute("update t set text = 'changed' where n = ?", (i // 2,))
        c.execute("rollback" if i % 7 == 6 else "commit")
    wanted = len([i for i in range(count) if i % 7 != 6])
    for c in connections:
        assert c.execute("select count(*) from t").fetchone() == (wanted,)
        assert c.execute("pragma integrity_check").fetchone() == ("ok",)
        c.close()


def test_sqlite_writers_at_the_same_time_lose_nothing(tree, actor):
    tree.turn("db").touch()
    with closing(sqlite3.connect(tree.turn("db"))) as c:
        c.execute("create table t (who, n)")
    crowd = [actor() for _ in range(3)]
    each = size(40, 400, sanitized=15)
    for i, one in enumerate(crowd):
        one.do("import sqlite3\n"
               "def work():\n"
               f"  c = sqlite3.connect({str(tree.turn('db'))!r}, timeout=100, isolation_level=None)\n"
               f"  for n in range({each}):\n"
               "    c.execute('begin immediate')\n"
               f"    c.execute('insert into t values (?, ?)', ({i}, n))\n"
               "    c.execute('commit')\n")
        one.start("work()")
    for one in crowd:
        one.result(200)
    with closing(sqlite3.connect(tree.turn("db"))) as c:
        assert c.execute("select count(distinct who * 100000 + n) from t").fetchone() == (3 * each,)
        assert c.execute("pragma integrity_check").fetchone() == ("ok",)


@pytest.mark.configs("one", "tcp3")
def test_sqlite_with_a_write_ahead_log_on_one_mount(tree):
    path = tree.turn("db")
    c = sqlite3.connect(path, isolation_level=None)
    assert c.execute("pragma journal_mode=wal").fetchone() == ("wal",)
    c.execute("create table t (n)")
    for i in range(200):
        c.execute("insert into t values (?)", (i,))
    other = sqlite3.connect(path)
    assert other.execute("select count(*) from t").fetchone() == (200,)
    other.close()
    c.close()


def test_rsync_a_copies_and_then_finds_nothing_to_do(tree):
    need_program("rsync")
    run("rsync", "-aHX", "/usr/include/linux/", tree.turn("copy"), timeout=250)
    done = run("rsync", "-aHXin", "--delete", "/usr/include/linux/", tree.turn("copy"), timeout=250)
    assert done.stdout == ""
    victim = next(p for p in tree.turn("copy").iterdir() if p.is_file())
    victim.write_text("changed")
    (tree.turn("copy") / "extra").touch()
    done = run("rsync", "-aHXic", "--delete", "/usr/include/linux/", tree.turn("copy"), timeout=250)
    assert victim.name in done.stdout and "extra" in done.stdout
    run("diff", "-r", "/usr/include/linux", tree.turn("copy"), timeout=250)


FIO = [("psync", 0, "512"), ("psync", 0, "4k"), ("psync", 0, "1m"), ("psync", 1, "4k"), ("psync", 1, "68k"),
       ("mmap", 0, "4k"), ("mmap", 0, "64k"), ("libaio", 1, "4k"), ("libaio", 1, "256k"),
       ("io_uring", 0, "16k"), ("io_uring", 1, "64k")]


@pytest.mark.soak
@pytest.mark.configs("one", "tcp3")
@pytest.mark.parametrize("engine,direct,block", FIO, ids=[f"{e}-{'direct' if d else 'buffered'}-{b}" for e, d, b in FIO])
def test_fio_random_writes_verify(tree, engine, direct, block):
    need_program("fio")
    amount = {"512": size("2m", "32m", "256k")}.get(block, size("16m", "256m", "2m"))
    common = ["--name=job", f"--bs={block}", f"--size={amount}", f"--ioengine={engine}", f"--direct={direct}", "--iodepth=8",
              "--rw=randwrite", "--verify=crc32c", "--verify_fatal=1", "--randseed=42", "--end_fsync=1", "--output-format=terse", "--verify_state_save=0"]
    try:
        run("fio", *common, "--do_verify=1", f"--filename={tree.turn('f')}", timeout=250)
    except AssertionError as e:
        if engine == "io_uring" and "io_uring_queue_init" in str(e):
            pytest.skip("needs io_uring for fio")
        raise
    # What one mount wrote, another verifies.
    run("fio", *common, "--verify_only=1", f"--filename={tree.turn('f')}", timeout=250)


@pytest.mark.soak
@pytest.mark.parametrize("limit", [size(192, 512) * MIB], ids=["limited"])
@pytest.mark.skipif(SANITIZED, reason="needs a build without sanitizers, which take memory of their own")
def test_a_big_file_goes_through_a_daemon_with_little_memory(memory_limit, make_cluster, limit, figure):
    group = memory_limit(limit)
    root = make_cluster(prefix=group.prefix).mounts[0]
    amount = size(512, 8192)
    base = os.urandom(MIB - 8)
    with open(root / "f", "wb", buffering=0) as f:
        for i in range(amount):
            assert f.write(i.to_bytes(8, "little") + base) == MIB
        os.fsync(f.fileno())
    with open(root / "f", "rb", buffering=0) as f:
        for i in range(amount):
            assert f.read(MIB) == i.to_bytes(8, "little") + base
    figure("MiB written and read", amount)


@pytest.mark.soak
def test_many_files_in_one_directory(tree, actor):
    count = size(5_000, 100_000, sanitized=600)
    tree.turn("d").mkdir()
    crowd = [actor() for _ in range(3)]
    for i, one in enumerate(crowd):
        one.do(f"os.chdir({str(tree.turn('d'))!r})\n"
               "def make(a, b, step):\n"
               "  for i in range(a, b, step):\n"
               "    with open(f'file-{i}', 'w') as f: f.write(str(i))\n"
               "def take(a, b, step):\n"
               "  for i in range(a, b, step): os.unlink(f'file-{i}')\n")
        one.start(f"make({i}, {count}, 3)")
    for one in crowd:
        one.result(3000)
    wanted = {f"file-{i}" for i in range(count)}
    for path in tree.all("d"):
        names = os.listdir(path)
        assert len(names) == count and set(names) == wanted
    listed = run("ls", "-l", tree.turn("d"), timeout=600).stdout.splitlines()
    assert len(listed) == count + 1
    assert tree.turn("d", f"file-{count - 1}").read_text() == str(count - 1)
    for i, one in enumerate(crowd):
        one.start(f"take({i}, {count}, 3)")
    for one in crowd:
        one.result(3000)
    assert os.listdir(tree.turn("d")) == []
    tree.turn("d").rmdir()


def test_shell_scripts_pipes_and_locks(tree):
    here = tree.turn()
    script = ("set -e; for i in 1 2 3; do echo $i >> list; done; sort -r list > sorted; "
              "test \"$(cat sorted)\" = \"$(printf '3\\n2\\n1')\"; mkfifo p; (cat list > p &) ; "
              "test \"$(wc -l < p)\" = 3; flock lock -c 'echo locked > done'; test -s done; "
              "find . -type f | wc -l; ln -s list l; test -L l; cp -p list list2; cmp list list2; "
              "touch -d '2001-02-03 04:05:06' list2; test list -nt list2; truncate -s 1M big; "
              "test $(stat -c %s big) = 1048576; split -b 100k big part.; cat part.* | cmp - big; rm -r part.*")
    run("sh", "-c", script, cwd=here)


def test_dd_with_odd_block_sizes(tree, tmp_path):
    (tmp_path / "source").write_bytes(os.urandom(3 * MIB + 17))
    for block in ("13", "4097", "1000003", "7M"):
        if block == "13":
            run("dd", f"if={tmp_path}/source", f"of={tree.turn('f')}", "bs=13", "count=3000")
            assert tree.turn("f").read_bytes() == (tmp_path / "source").read_bytes()[:39_000]
            continue
        run("dd", f"if={tmp_path}/source", f"of={tree.turn('f')}", f"bs={block}")
        run("cmp", tmp_path / "source", tree.turn("f"))


def test_gzip_and_sort_of_a_big_file(tree):
    need_program("gzip", "sort", "shuf")
    run("sh", "-c", "seq 1 200000 > numbers && shuf numbers > mixed && gzip -k mixed", cwd=tree.turn())
    run("sh", "-c", "gunzip -c mixed.gz | cmp - mixed", cwd=tree.turn())
    run("sh", "-c", "sort -n -S 1M -T . mixed > sorted && cmp sorted numbers", cwd=tree.turn())
