"""A store's records, to be damaged: what is on disk as server/record.h and its
neighbours have it."""
import struct
from pathlib import Path

import pytest

from harness.env import BENCHFS
from harness.procs import run

EDITOR = BENCHFS.parent / "edit-store"
ROOT_INO = 1
INODE_INLINE, INODE_ORPHAN, INODE_EXCLUSIVE = 1, 4, 16
TRUNCATE = 3
NAME, LINK, DROP, MOVE = 1, 2, 3, 4  # steps of changes


def key(ino, kind, tail=b""):
    return struct.pack(">HcQ", ino >> 48, kind.encode(), ino) + tail


def number_key(name):
    return struct.pack(">Hc", 4096, b"s") + name.encode()


def number(value):
    return struct.pack("<B7xQ", 1, value)


def run_record(count, target, width=1):
    return struct.pack("<B3xHHQ", 1, target, width, count)


def dirent(ino, mode):
    return struct.pack("<B3xIQ", 1, mode & 0o170000, ino)


def change_key(kind, session=7, count=1):
    return struct.pack(">HcQQ", 4096, kind.encode(), session, count)


def change_record(n, data, peer=2):
    return struct.pack("<BB4xHq", 1, n, peer, 1) + data


def exclusive(peer):
    """Flags of an inode that a peer has an exclusive lease of."""
    return INODE_EXCLUSIVE | peer << 16


def step(kind, ino):
    return struct.pack("<Q44xB", ino, kind).ljust(320, b"\0")


class Inode:
    """An inode's record, its fields as attributes."""
    FIELDS = ("version flags ino size blocks atime mtime ctime btime mode nlink uid gid rdev "
              "chunk_shift policy attr_flags parent n_blocks symlink_len").split()
    FORMAT = struct.Struct("<B3xIQQQqqqqIIIIIBBHQII")

    def __init__(self, data):
        for name, value in zip(self.FIELDS, self.FORMAT.unpack_from(data)):
            setattr(self, name, value)
        rest = data[self.FORMAT.size:]
        self.targets = [struct.unpack_from("<QH", rest, 16 * i) for i in range(self.n_blocks)]
        self.symlink = rest[16 * self.n_blocks:]

    def pack(self):
        self.n_blocks = len(self.targets)
        return (self.FORMAT.pack(*[getattr(self, name) for name in self.FIELDS]) +
                b"".join(struct.pack("<QH6x", *t) for t in self.targets) + self.symlink)


class Store:
    """The records of a store that nobody uses. Changes happen at once."""

    def __init__(self, path):
        if not EDITOR.exists():
            pytest.skip(f"needs the build's {EDITOR}")
        self.path = Path(path)

    def edit(self, text):
        return run(EDITOR, self.path / "meta", input=text, stdin=None).stdout

    def records(self):
        pairs = (line.split(" ") for line in self.edit("list\n").splitlines())
        return {bytes.fromhex(k): bytes.fromhex(v) for k, v in pairs}

    def put(self, k, value):
        self.edit(f"put {k.hex()} {value.hex()}\n")

    def delete(self, k):
        self.edit(f"delete {k.hex()}\n")

    def inode(self, ino):
        return Inode(self.records()[key(ino, "i")])

    def change(self, ino, **fields):
        inode = self.inode(ino)
        for name, value in fields.items():
            setattr(inode, name, value)
        self.put(key(ino, "i"), inode.pack())

    def dirent_key(self, name):
        [found] = [k for k in self.records() if k[2:3] == b"d" and k[19:] == name.encode()]
        return found

    def keys(self, kind):
        return [k for k in self.records() if k[2:3] == kind.encode()]

    def hold_back(self, slot, ino, end, base, mtime, ctime, target=0):
        """Into the file of what the store's mount has still to tell."""
        with open(self.path / "held-back", "r+b") as f:
            f.seek(64 * (1 + slot))
            f.write(struct.pack("<QQqqqQH6x", ino, end, base, mtime, ctime, 8, target))

    def object(self, ino):
        return self.path / "objects" / f"{ino % 256:02x}" / f"{ino:016x}"
