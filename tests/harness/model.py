"""A random model test: the same operations on the file system under test and
on a local directory must have the same results and leave the same tree.

    cd tests && python3 -m harness.model run [--seconds 600] [--seed N] [--config tcp3]
    cd tests && python3 -m harness.model replay FILE [--config tcp3]

An operation is a list [mount, name, argument...] of plain values: `mount` says
through which of the mounts it goes, and paths are relative to the directory of
the run. Operations are made up as the run goes on, from what there is in the
local directory, and recorded: a list of them can be replayed by itself. What
the two worlds answer is reduced to what must be equal (see _describe).

Three kinds of runs: walk() is one process that uses the mounts in turn; several
walks in processes of their own, each in its own directory, run concurrently;
and race() makes several processes do a few operations each in one directory at
the same time, whose results and tree must be those of some order of the same
operations in a local directory."""
import argparse
import contextlib
import errno
import fcntl
import itertools
import json
import os
import random
import shutil
import stat
import sys
import tempfile
import time
import zlib
from pathlib import Path

from harness import posix
from harness.procs import NAMES, Actor

# What spans peers may answer EXDEV, and has then not happened. With False,
# EXDEV is a difference as any other.
TOLERATE_EXDEV = False
# A directory that was removed while it is open may answer ESTALE to changes.
TOLERATE_REMOVED_DIRECTORIES = True

# While the kernel renames something between two directories of a mount, a
# directory that another mount has moved can't be found there where it is now:
# ESTALE, before anything is done. So look at the path, and try again.
TRIES = 50

SLOTS = 5
# In a path, N is a name of 255 bytes and X too long for one.
LONG, TOO_LONG = "n" * 255, "x" * 256
WORDS = ["a", "b", "c", "N"]
OFFSETS = [0, 0, 1, 100, 4000, 4095, 4096, 4097, 8192, 65_530, 65_536, 200_000, 262_140, 1_000_000]
LENGTHS = [0, 1, 10, 100, 4095, 4096, 4097, 10_000, 70_000, 300_000]
MODES = [0o644, 0o600, 0o755, 0o777, 0o700, 0o4755, 0o2755, 0o6711, 0o1777, 0o2777, 0o444, 0]
TARGETS = ["a", "b", "a/b", "b/c", "../a", ".", "c/../a", "x" * 300]
TIMES = [0, 1, 999_999_999, 86_400_000_000_007, 123_456_789_123_456_789]
XATTRS = ["user.a", "user.b", "user." + "n" * 200, "nothing.a", "user.missing"]
OPENS = ["r", "r", "w", "+", "+", "+c", "wc", "+cx", "+ct", "wt", "+a", "wca", "rn", "rd", "+cn"]
# A time before this was set by utimens; later ones are "now".
SET_BY_HAND = 10 ** 18


def pattern(tag, length):
    return (b"%04d" % tag * (length // 4 + 1))[:length]


def digest(data):
    return f"{len(data)}:{zlib.crc32(data):08x}"


def _describe(st, links=True):
    """What of a stat must be the same everywhere."""
    kind = stat.S_IFMT(st.st_mode)
    size = None if stat.S_ISDIR(kind) else st.st_size
    mtime = st.st_mtime_ns if st.st_mtime_ns < SET_BY_HAND else "now"
    return [oct(kind), oct(stat.S_IMODE(st.st_mode)), st.st_nlink if links else None, st.st_uid, st.st_gid, size, mtime]


def _open_flags(words):
    flags = {"r": os.O_RDONLY, "w": os.O_WRONLY, "+": os.O_RDWR}[words[0]] | os.O_NONBLOCK | os.O_CLOEXEC
    more = {"c": os.O_CREAT, "x": os.O_EXCL, "t": os.O_TRUNC, "a": os.O_APPEND, "n": os.O_NOFOLLOW, "d": os.O_DIRECTORY}
    for letter in words[1:]:
        flags |= more[letter]
    return flags


def _segments(fd):
    """Walks SEEK_DATA and SEEK_HOLE; "ok" when they order, end at the size,
    and holes read as zeros."""
    size = os.fstat(fd).st_size
    at = 0
    while at < size:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
            data = size
        if data < at or os.pread(fd, data - at, at).strip(b"\0"):
            return f"data in a hole {at}..{data}"
        if data >= size:
            break
        at = os.lseek(fd, data, os.SEEK_HOLE)
        if not data < at <= size:
            return f"data at {data} ends at {at} of {size}"
    try:
        os.lseek(fd, size, os.SEEK_DATA)
    except OSError as e:
        return "ok" if e.errno == errno.ENXIO else NAMES[e.errno]
    return "data beyond the end"


def _settled(call, *args):
    """call(*args), again while a directory can't be found in its new place."""
    for _ in range(TRIES - 1):
        try:
            return call(*args)
        except OSError as e:
            if e.errno != errno.ESTALE:
                raise
    return call(*args)


def _raise(error):
    raise error


def _at(root, path):
    return f"{root}/{path.replace('N', LONG).replace('X', TOO_LONG)}"


class NoFile(Exception):
    """The slot has no open file."""


class World:
    """A directory in which operations are done, known by one path or more, and
    the files that they hold open."""

    def __init__(self, roots):
        self.roots = [os.fspath(r) for r in roots]
        self.fds = {}
        self.opened = {}  # slot: the path of the world it was opened by
        self.looked = {}

    def do(self, op):
        mount, name, *args = op
        root = self.roots[mount % len(self.roots)]
        for tries in range(TRIES, 0, -1):
            try:
                return getattr(self, f"do_{name}")(root, *args)
            except NoFile:
                return "no file"
            except OSError as e:
                paths = [a for a in args if isinstance(a, str)]
                if e.errno != errno.ESTALE or not paths or tries == 1:
                    return NAMES[e.errno]
                for path in paths:
                    os.path.lexists(_at(root, path))
        return None

    def close(self):
        for fd in [*self.fds.values(), *self.looked.values()]:
            os.close(fd)
        self.fds.clear()
        self.looked.clear()

    def fd(self, slot):
        if slot not in self.fds:
            raise NoFile
        return self.fds[slot]

    def holds_removed_directory(self, op):
        """Is the operation one on an open directory that has no name any more?"""
        slots = [a for kind, a in zip(OPERATIONS.get(op[1], ())[1:], op[2:]) if kind == "slot"]
        opened = [os.fstat(self.fds[slot]) for slot in slots if slot in self.fds]
        return any(stat.S_ISDIR(st.st_mode) and st.st_nlink == 0 for st in opened)

    # ---- names ----

    def do_mkdir(self, root, path, mode):
        os.mkdir(_at(root, path), mode)

    def do_rmdir(self, root, path):
        os.rmdir(_at(root, path))

    def do_unlink(self, root, path):
        os.unlink(_at(root, path))

    def do_rename(self, root, old, new, flags):
        posix.renameat2(_at(root, old), _at(root, new), flags)

    def do_link(self, root, old, new):
        os.link(_at(root, old), _at(root, new), follow_symlinks=False)

    def do_look(self, root, path):
        fd = os.open(_at(root, path), os.O_PATH | os.O_NOFOLLOW)
        if root in self.looked:
            os.close(self.looked[root])
        self.looked[root] = fd

    def do_link_looked(self, root, new):
        posix.give_name(self.looked[root], _at(root, new))

    def do_link_open(self, root, slot, new):
        fd = self.fd(slot)
        # through the mount that has it open
        posix.give_name(fd, _at(self.opened[slot], new))

    def do_symlink(self, root, target, path):
        os.symlink(target, _at(root, path))

    def do_readlink(self, root, path):
        return os.readlink(_at(root, path))

    def do_mkfifo(self, root, path, mode):
        os.mkfifo(_at(root, path), mode)

    def do_create(self, root, path, mode):
        os.close(os.open(_at(root, path), _open_flags("wcn"), mode))

    def do_create_excl(self, root, path, mode):
        os.close(os.open(_at(root, path), _open_flags("wcx"), mode))

    def do_list(self, root, path):
        with os.scandir(_at(root, path)) as entries:
            return sorted([e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False), e.is_symlink()]
                          for e in entries)

    # ---- attributes ----

    def do_stat(self, root, path):
        return _describe(os.stat(_at(root, path)))

    def do_lstat(self, root, path):
        return _describe(os.lstat(_at(root, path)))

    def do_kind(self, root, path):
        return oct(stat.S_IFMT(os.lstat(_at(root, path)).st_mode))

    def do_chmod(self, root, path, mode):
        os.chmod(_at(root, path), mode)

    def do_chown(self, root, path, ids, follow):
        os.chown(_at(root, path), *ids, follow_symlinks=follow)

    def do_utimens(self, root, path, mtime, follow):
        os.utime(_at(root, path), ns=(0, mtime), follow_symlinks=follow)

    def do_truncate(self, root, path, size):
        os.truncate(_at(root, path), size)

    def do_setxattr(self, root, path, name, value, flags):
        os.setxattr(_at(root, path), name, value.encode(), flags)

    def do_getxattr(self, root, path, name):
        return os.getxattr(_at(root, path), name).decode()

    def do_listxattr(self, root, path):
        return sorted(n for n in os.listxattr(_at(root, path), follow_symlinks=False) if n.startswith("user."))

    def do_removexattr(self, root, path, name):
        os.removexattr(_at(root, path), name)

    # ---- open files ----

    def do_open(self, root, path, flags, mode, slot):
        self.do_close(root, slot)
        fd = os.open(_at(root, path), _open_flags(flags), mode)
        # What is in a fifo is each kernel mount's own.
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.close(fd)
            return "fifo"
        self.fds[slot], self.opened[slot] = fd, root
        return _describe(os.fstat(fd))

    def do_tmpfile(self, root, path, mode, slot, linkable):
        self.do_close(root, slot)
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC | (0 if linkable else os.O_EXCL)
        self.fds[slot], self.opened[slot] = os.open(_at(root, path), flags, mode), root
        return _describe(os.fstat(self.fds[slot]))

    def do_close(self, root, slot):
        if slot in self.fds:
            os.close(self.fds.pop(slot))

    def do_read(self, root, slot, length):
        return digest(os.read(self.fd(slot), length))

    def do_pread(self, root, slot, offset, length):
        return digest(os.pread(self.fd(slot), length, offset))

    def do_write(self, root, slot, tag, length):
        fd = self.fd(slot)
        # After an append the kernel has the position from the size it last heard of.
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:
            os.fstat(fd)
        return os.write(fd, pattern(tag, length))

    def do_pwrite(self, root, slot, offset, tag, length):
        return os.pwrite(self.fd(slot), pattern(tag, length), offset)

    def do_seek(self, root, slot, offset, whence):
        fd = self.fd(slot)
        # What a directory's offsets mean is its file system's own.
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return "no regular file"
        return os.lseek(fd, offset, whence)

    def do_segments(self, root, slot):
        fd = self.fd(slot)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return "no regular file"
        # Where holes begin and end is the file system's own, so put it back.
        here = os.lseek(fd, 0, os.SEEK_CUR)
        try:
            return _segments(fd)
        finally:
            os.lseek(fd, here, os.SEEK_SET)

    def do_ftruncate(self, root, slot, size):
        os.ftruncate(self.fd(slot), size)

    def do_fallocate(self, root, slot, mode, offset, length):
        posix.fallocate(self.fd(slot), mode, offset, length)

    def do_copy(self, root, source, target, length, at, to):
        # The kernel cuts the length at the size it last heard of, and does not
        # ask; that two mounts have the same file open it can't know either.
        one, other = os.fstat(self.fd(source)), os.fstat(self.fd(target))
        if one.st_ino == other.st_ino and abs(at - to) < length:
            return "overlap"
        return os.copy_file_range(self.fd(source), self.fd(target), length, at, to)

    def do_fsync(self, root, slot):
        os.fsync(self.fd(slot))

    def do_fstat(self, root, slot):
        return _describe(os.fstat(self.fd(slot)))

    def do_fchmod(self, root, slot, mode):
        os.fchmod(self.fd(slot), mode)

    def do_fsetxattr(self, root, slot, name, value):
        os.setxattr(self.fd(slot), name, value.encode())

    def do_flist(self, root, slot):
        return sorted(os.listdir(self.fd(slot)))

    # ---- the whole ----

    def tree(self, mount=0, times=True):
        """Everything below: {path: what it is}. Names of one file are a group."""
        return _settled(_tree, self.roots[mount % len(self.roots)], times)


def _tree(root, times):
    found, groups = {}, {}
    for directory, dirs, files in os.walk(root, onerror=_raise):
        for name in sorted([*dirs, *files]):
            path = os.path.join(directory, name)
            found[os.path.relpath(path, root)] = _portrait(path, groups, times)
    found["."] = _portrait(root, groups, times)
    for inode, paths in groups.items():
        for path in paths:
            found[os.path.relpath(path, root)].append(sorted(os.path.relpath(p, root) for p in paths))
    return found


def _portrait(path, groups, times):
    st = os.lstat(path)
    what = _describe(st)
    if not times:
        what[-1] = None
    if not stat.S_ISDIR(st.st_mode):
        groups.setdefault(st.st_ino, []).append(path)
    if stat.S_ISLNK(st.st_mode):
        what.append(os.readlink(path))
    elif stat.S_ISREG(st.st_mode):
        with open(path, "rb") as f:
            what.append(digest(f.read()))
    names = sorted(n for n in os.listxattr(path, follow_symlinks=False) if n.startswith("user."))
    what.append([[n, os.getxattr(path, n, follow_symlinks=False).decode()] for n in names])
    return what


# ---- making operations up ----

class Generator:
    """Draws operations that are likely to do something, given what there is."""

    def __init__(self, rng, reference, mounts):
        self.rng = rng
        self.reference = reference
        self.mounts = mounts
        self.count = 0
        self.look()

    def look(self):
        """What there is in the local directory now."""
        root = self.reference.roots[0]
        self.dirs, self.files = [""], []
        for directory, dirs, files in os.walk(root):
            below = os.path.relpath(directory, root)
            prefix = "" if below == "." else below.replace(LONG, "N") + "/"
            self.dirs += [prefix + d.replace(LONG, "N") for d in dirs]
            self.files += [prefix + f.replace(LONG, "N") for f in files]

    def next(self):
        self.count += 1
        name = self.rng.choices(NAMES_OF_OPS, WEIGHTS)[0]
        return [self.count % self.mounts, name, *(getattr(self, f"some_{kind}")() for kind in OPERATIONS[name][1:])]

    def some_new(self):
        shallow = [d for d in self.dirs if d.count("/") < 2]
        parent = self.rng.choice(shallow)
        path = f"{parent}/{self.rng.choice(WORDS)}" if parent else self.rng.choice(WORDS)
        return self._odd(path)

    def some_any(self):
        there = self.files + self.dirs[1:]
        return self._odd(self.rng.choice(there)) if there and self.rng.random() < 0.9 else self.some_new()

    def some_file(self):
        return self._odd(self.rng.choice(self.files)) if self.files and self.rng.random() < 0.85 else self.some_any()

    def some_dir(self):
        return self._odd(self.rng.choice(self.dirs) or ".") if self.rng.random() < 0.9 else self.some_any()

    def _odd(self, path):
        if self.rng.random() < 0.96:
            return path
        return self.rng.choice([path + "/", path + "/.", path + "/..", f"{path}/../{path}", path + "X", path + "/a"])

    def some_slot(self):
        taken = list(self.reference.fds)
        return self.rng.choice(taken) if taken and self.rng.random() < 0.97 else self.rng.randrange(SLOTS)

    def some_free(self):
        return self.rng.randrange(SLOTS)

    def some_offset(self):
        return self.rng.choice(OFFSETS) if self.rng.random() < 0.8 else self.rng.randrange(400_000)

    def some_length(self):
        return self.rng.choice(LENGTHS) if self.rng.random() < 0.7 else self.rng.randrange(12_000)

    def some_tag(self):
        return self.count % 10_000

    def some_mode(self):
        return self.rng.choice(MODES)

    def some_owners(self):
        return self.rng.choice([(-1, -1), (-1, 0), (0, -1), (0, 0), (1000, -1), (-1, 1000), (1000, 65534)])

    def some_yes(self):
        return self.rng.random() < 0.7

    def some_time(self):
        return self.rng.choice(TIMES)

    def some_target(self):
        return self.rng.choice(TARGETS)

    def some_flags(self):
        return self.rng.choice(OPENS)

    def some_rename(self):
        return self.rng.choice([0, 0, 0, posix.RENAME_NOREPLACE, posix.RENAME_EXCHANGE])

    def some_xattr(self):
        return self.rng.choice(XATTRS[:3] if self.rng.random() < 0.8 else XATTRS)

    def some_value(self):
        return self.rng.choice(["", "v", "%d" % self.count, "w" * 500])

    def some_xflags(self):
        return self.rng.choice([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])

    def some_whence(self):
        return self.rng.choice([os.SEEK_SET, os.SEEK_END])

    def some_falloc(self):
        return self.rng.choice([0, posix.KEEP_SIZE, posix.KEEP_SIZE | posix.PUNCH_HOLE,
                                posix.ZERO_RANGE, posix.ZERO_RANGE | posix.KEEP_SIZE])


# name: (weight, kinds of its arguments)
OPERATIONS = {
    "mkdir": (8, "new", "mode"), "rmdir": (4, "dir"), "unlink": (5, "file"), "rename": (9, "any", "new", "rename"),
    "link": (5, "file", "new"), "symlink": (3, "target", "new"), "readlink": (2, "file"), "mkfifo": (1, "new", "mode"),
    "create_excl": (4, "new", "mode"), "list": (4, "dir"), "stat": (6, "any"), "lstat": (6, "any"),
    "chmod": (4, "any", "mode"), "chown": (4, "any", "owners", "yes"), "utimens": (4, "any", "time", "yes"),
    "truncate": (4, "file", "offset"), "setxattr": (4, "any", "xattr", "value", "xflags"), "getxattr": (3, "any", "xattr"),
    "listxattr": (2, "any"), "removexattr": (2, "any", "xattr"),
    "open": (12, "any", "flags", "mode", "free"), "tmpfile": (3, "dir", "mode", "free", "yes"),
    "link_open": (5, "slot", "new"), "close": (2, "slot"), "read": (4, "slot", "length"),
    "pread": (7, "slot", "offset", "length"), "write": (8, "slot", "tag", "length"),
    "pwrite": (8, "slot", "offset", "tag", "length"), "seek": (3, "slot", "offset", "whence"), "segments": (3, "slot"),
    "ftruncate": (4, "slot", "offset"), "fallocate": (5, "slot", "falloc", "offset", "length"),
    "copy": (4, "slot", "slot", "length", "offset", "offset"), "fsync": (1, "slot"), "fstat": (5, "slot"),
    "fchmod": (2, "slot", "mode"), "fsetxattr": (1, "slot", "xattr", "value"), "flist": (1, "slot"),
}
NAMES_OF_OPS = list(OPERATIONS)
WEIGHTS = [OPERATIONS[name][0] for name in NAMES_OF_OPS]
MOVES_NAMES = {"mkdir", "rmdir", "unlink", "rename", "link", "symlink", "mkfifo", "create_excl", "open", "link_open"}


# ---- comparing ----

class Arena:
    """Where runs take place: a directory below every mount, and a local one."""
    numbers = itertools.count()

    def __init__(self, mounts, local):
        self.mounts = [os.fspath(m) for m in mounts]
        self.local = os.fspath(local)

    @contextlib.contextmanager
    def fresh(self, stripe):
        """Two empty worlds, alike. Their directories have one more above, for `..`."""
        name = f"run{os.getpid()}-{next(self.numbers)}"
        first = f"{self.mounts[0]}/{name}"
        os.mkdir(first)
        if stripe:
            os.setxattr(first, "benchfs.policy", b"stripe")
            os.setxattr(first, "benchfs.chunk_size", b"65536")
        for base in (self.mounts[-1], self.local):
            os.makedirs(f"{base}/{name}/top")
        subject = World([f"{m}/{name}/top" for m in self.mounts])
        reference = World([f"{self.local}/{name}/top"])
        try:
            yield subject, reference
        finally:
            subject.close()
            reference.close()
            shutil.rmtree(f"{self.local}/{name}")
            _settled(shutil.rmtree, first)


def step(subject, reference, op):
    """One operation in both worlds: None, or how they differ."""
    got = subject.do(op)
    if TOLERATE_EXDEV and got == "EXDEV" and op[1] in ("rename", "link"):
        return None
    removed = reference.holds_removed_directory(op)
    want = reference.do(op)
    if TOLERATE_REMOVED_DIRECTORIES and removed and _fits_removed(op, got):
        return None
    return None if got == want else f"{got} instead of {want}"


def _fits_removed(op, got):
    """What a directory without a name may answer: refused changes show later."""
    if op[1] == "fstat":
        return got[0] == oct(stat.S_IFDIR) and got[2] == 0
    return op[1] != "flist" and got in ("ESTALE", "ENOENT")


def compare_trees(subject, reference):
    want = reference.tree()
    for mount in range(len(subject.roots)):
        got = subject.tree(mount)
        for path in sorted({*want, *got}):
            if got.get(path) != want.get(path):
                what = f"{path} on mount {mount} is {got.get(path)} instead of {want.get(path)}"
                return what.replace(LONG, "N")
    return None


def replay(arena, ops, stripe):
    """Does the operations; None, or where and how the worlds differ."""
    with arena.fresh(stripe) as (subject, reference):
        for number, op in enumerate(ops):
            difference = step(subject, reference, op)
            if difference:
                return f"operation {number} {op}: {difference}"
        return compare_trees(subject, reference)


def shrink(fails, ops, seconds=30):
    """A short list of operations that still fails: pieces are left out, big
    ones first, as long as time allows."""
    end = time.monotonic() + seconds
    size = max(1, len(ops) // 2)
    while time.monotonic() < end:
        at, before = 0, len(ops)
        while at < len(ops) and time.monotonic() < end:
            without = ops[:at] + ops[at + size:]
            if fails(without):
                ops = without
            else:
                at += size
        if size == 1 and len(ops) == before:
            break
        size = max(1, size // 2)
    return ops


class Failure(dict):
    """What is needed to see it again; goes from process to process as JSON."""

    def __str__(self):
        return (f"{self['difference']}\nseed {self['seed']}, {len(self['ops'])} operations. To see it again, from tests/:\n"
                f"python3 -m harness.model replay - <<'end'\n{json.dumps(dict(self))}\nend")


def shrunk(arena, failure):
    """The same failure from fewer operations, where they alone bring it about."""
    def fails(some):
        return replay(arena, some, failure["stripe"])

    if fails(failure["ops"]):
        failure["ops"] = shrink(fails, failure["ops"])
        failure["difference"] = f"{failure['difference']}; at last {fails(failure['ops'])}"
    return failure


def walk(mounts, local, seed, count, check_every=150, shrinking=True):
    """`count` random operations through the mounts in turn. None, or a Failure."""
    rng = random.Random(f"model {seed}")
    stripe = seed % 2 == 1
    arena = Arena(mounts, local)
    ops = []

    def run():
        with arena.fresh(stripe) as (subject, reference):
            generator = Generator(rng, reference, len(mounts))
            for number in range(1, count + 1):
                ops.append(generator.next())
                difference = step(subject, reference, ops[-1])
                if difference:
                    return f"{ops[-1]}: {difference}"
                if ops[-1][1] in MOVES_NAMES:
                    generator.look()
                if number % check_every == 0 or number == count:
                    difference = compare_trees(subject, reference)
                    if difference:
                        return difference
        return None

    difference = run()
    if not difference:
        return None
    failure = Failure(seed=seed, stripe=stripe, difference=difference, ops=ops)
    return shrunk(arena, failure) if shrinking else failure


def walk_together(mounts, local, seeds, count, timeout=60):
    """A walk per seed, each in a process of its own, at the same time."""
    local = Path(local)
    crowd = [Actor() for _ in seeds]
    try:
        for i, (one, seed) in enumerate(zip(crowd, seeds)):
            turned = [os.fspath(m) for m in [*mounts[i % len(mounts):], *mounts[:i % len(mounts)]]]
            one.do("from harness import model")
            one.start(f"model.walk({turned!r}, {os.fspath(local)!r}, {seed}, {count}, shrinking=False)")
        found = [one.result(timeout) for one in crowd]
    finally:
        for one in crowd:
            one.end()
    for failure in filter(None, found):
        return shrunk(Arena(mounts, local), Failure(failure))  # alone, to see whether it takes the others
    return None


# ---- many at once in one directory ----

RACE_NAMES = ["a", "b", "c"]
RACES = ["create", "create_excl", "mkdir", "rmdir", "unlink", "unlink", "rename", "rename", "rename", "link", "symlink", "kind"]


def _race_op(rng, mount):
    name = rng.choice(RACES)
    one, other = rng.sample(RACE_NAMES, 2)
    if name == "rename":
        return [mount, name, one, other, rng.choice([0, 0, posix.RENAME_NOREPLACE, posix.RENAME_EXCHANGE])]
    if name == "link":
        return [mount, name, one, other]
    if name == "symlink":
        return [mount, name, "target", one]
    return [mount, name, one] + ([0o644] if name in ("create", "create_excl", "mkdir") else [])


def race_program(seed, number, workers):
    """What there is at first, and what each worker then does."""
    rng = random.Random(f"race {seed} {number}")
    setup = [[number, rng.choice(["create_excl", "create_excl", "mkdir"]), name, 0o644]
             for name in RACE_NAMES if rng.random() < 0.6]
    return setup, [[_race_op(rng, w) for _ in range(rng.choice([1, 2, 2]))] for w in range(workers)]


def race_worker(roots, index, workers, barrier, seed, rounds):
    """One of the workers: its results of every round and the tree it then saw."""
    meet = posix.Barrier(barrier)
    seen = []
    for number in range(rounds):
        setup, programs = race_program(seed, number, workers)
        base = f"race{seed}-{number}"
        world = World([f"{r}/{base}" for r in roots])
        if index == 0:
            os.mkdir(world.roots[number % len(roots)])
            for op in setup:
                world.do(op)
        meet.wait()
        results = [world.do(op) for op in programs[index]]
        meet.wait()
        seen.append([results, world.tree(index, times=False)])
    return seen


def race_explained(local, setup, programs, results, tree):
    """Is there an order of the operations with these results and this tree?
    A link may be two: it gives a name to what it has looked up before, whatever
    that is called by then, on a local file system too."""
    if _some_order_explains(local, setup, programs, results, tree):
        return True
    apart = [_links_apart(program, got) for program, got in zip(programs, results)]
    return [program for program, _ in apart] != programs and \
        _some_order_explains(local, setup, [p for p, _ in apart], [r for _, r in apart], tree)


def _links_apart(program, results):
    """The same with each link that was made as two operations."""
    pairs = [([[op[0], "look", op[2]], [op[0], "link_looked", op[3]]], [None, None]) if op[1] == "link" and got is None
             else ([op], [got]) for op, got in zip(program, results)]
    return [op for ops, _ in pairs for op in ops], [got for _, some in pairs for got in some]


def _some_order_explains(local, setup, programs, results, tree):
    calls = {(w, i): (op, results[w][i], [other for v, p in enumerate(programs) if v != w for other in p])
             for w, program in enumerate(programs) for i, op in enumerate(program)}
    failed = {at for at, call in calls.items() if _may_fail_anyway(*call)}
    perhaps = [at for at, call in calls.items() if _may_have_done_nothing(*call)]
    nothing = [failed.union(some) for n in range(len(perhaps) + 1) for some in itertools.combinations(perhaps, n)]
    return any(_order_explains(local, setup, [(calls[at], at in left_out) for at in order], tree)
               for left_out in nothing for order in _orders(programs))


def _orders(programs):
    """All orders of all operations that keep those of each worker in theirs."""
    owners = [w for w, program in enumerate(programs) for _ in program]
    for order in sorted(set(itertools.permutations(owners))):
        counters = [itertools.count() for _ in programs]
        yield [(w, next(counters[w])) for w in order]


def _order_explains(local, setup, calls, tree):
    base = tempfile.mkdtemp(dir=local)
    os.chmod(base, 0o755)
    world = World([base])
    try:
        for op in setup:
            world.do(op)
        return all(left_out or world.do(op) == got for (op, got, _), left_out in calls) and world.tree(times=False) == tree
    finally:
        world.close()
        shutil.rmtree(base)


def _may_fail_anyway(op, got, others):
    """The kernel looks the names of a rename or link up one after the other
    before it asks for the whole, and fails by what it saw then. With names that
    others change meanwhile through other mounts that fits no single moment; a
    local file system does so with link, too. Nothing has happened then."""
    if op[1] not in ("rename", "link") or not isinstance(got, str):
        return False
    return any(name in other[2:4] for name in op[2:4] for other in others if other[1] != "kind")


def _may_have_done_nothing(op, got, others):
    """Likewise it may see one file under both names, before and after another
    rename or link of the two. Then a rename does nothing and calls it done."""
    return op[1] == "rename" and got is None and \
        any(other[1] in ("rename", "link") and {*other[2:4]} == {*op[2:4]} for other in others)


def race(mounts, local, seed, rounds, workers=3, timeout=60):
    """None, or what can't have been."""
    local = Path(local)
    barrier = posix.Barrier.make(local / f"barrier{seed}", workers)
    crowd = [Actor() for _ in range(workers)]
    try:
        for i, one in enumerate(crowd):
            one.do("from harness import model")
            one.start(f"model.race_worker({[os.fspath(m) for m in mounts]!r}, {i}, {workers}, {barrier!r}, {seed}, {rounds})")
        seen = [one.result(timeout) for one in crowd]
    finally:
        for one in crowd:
            one.end()
    for number in range(rounds):
        setup, programs = race_program(seed, number, workers)
        results = [seen[w][number][0] for w in range(workers)]
        trees = [seen[w][number][1] for w in range(workers)]
        story = f"seed {seed}, round {number}: at first {setup}, then {list(zip(programs, results))}"
        if any(tree != trees[0] for tree in trees):
            return f"{story}: the mounts see different trees {trees}"
        if not race_explained(local, setup, programs, results, trees[0]):
            return f"{story}, which no order explains, nor {trees[0]}"
    return None


# ---- by hand ----

def _with_cluster(config, action):
    from harness.cluster import CONFIGS
    with tempfile.TemporaryDirectory(prefix="benchfs-model-") as base:
        cluster = CONFIGS[config](f"{base}/cluster")
        local = Path(base, "local")
        local.mkdir()
        try:
            cluster.start()
            return action(cluster.mounts, local)
        finally:
            for problem in cluster.stop():
                print(problem, file=sys.stderr)


def search(mounts, local, seed, seconds, say=lambda text: None):
    """All kinds of runs with one seed after the other until time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        say(f"seed {seed}")
        failure = walk(mounts, local, seed, 2000) or \
            walk_together(mounts, local, [seed * 10 + i + 1 for i in range(3)], 1000, timeout=600) or \
            race(mounts, local, seed, 200, timeout=600)
        if failure:
            return failure
        seed += 1
    return None


def main():
    parser = argparse.ArgumentParser(prog="harness.model")
    parser.add_argument("what", choices=["run", "replay"])
    parser.add_argument("file", nargs="?", type=argparse.FileType(), default=sys.stdin)
    parser.add_argument("--config", default="tcp3")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--seconds", type=float, default=600)
    args = parser.parse_args()
    if args.what == "run":
        failure = _with_cluster(args.config, lambda mounts, local: search(mounts, local, args.seed, args.seconds, print))
    else:
        wanted = json.load(args.file)
        failure = _with_cluster(args.config, lambda mounts, local:
                                replay(Arena(mounts, local), wanted["ops"], wanted["stripe"]))
    print(failure or "no difference")
    sys.exit(1 if failure else 0)


if __name__ == "__main__":
    main()
