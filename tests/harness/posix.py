"""System calls and constants that Python's os module does not have."""
import ctypes
import fcntl
import mmap
import os
import struct

import pytest

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
libc.syncfs.argtypes = [ctypes.c_int]

AT_FDCWD = -100
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 0x01, 0x02, 0x08, 0x10, 0x20
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38


def _check(result, path=None):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result


def renameat2(old, new, flags):
    _check(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags), os.fspath(old))


def tmpfile(directory, flags=os.O_RDWR, mode=0o600):
    """A descriptor of a file without a name; kernels before 6.1 have none on FUSE."""
    try:
        return os.open(directory, os.O_TMPFILE | flags, mode)
    except OSError as e:
        if [int(n) for n in os.uname().release.split(".")[:2]] < [6, 1]:
            pytest.skip(f"no O_TMPFILE on FUSE here: {e}")
        raise


def give_name(fd, path):
    """To what is open. Only with a directory does Python ask for the link to be followed."""
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd)


def handle_of(path):
    """What name_to_handle_at(2) says of a path: its bytes."""
    handle = ctypes.create_string_buffer(struct.pack("Ii128x", 128, 0))
    _check(libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), handle, ctypes.byref(ctypes.c_int()), 0), path)
    return handle.raw


def open_handle(mount_fd, handle, flags):
    return _check(libc.open_by_handle_at(mount_fd, handle, flags))


def fallocate(fd, mode, offset, length):
    _check(libc.fallocate(fd, mode, offset, length))


def syncfs(fd):
    _check(libc.syncfs(fd))


def _flock(kind, start, length):
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def getlk(fd, kind, start=0, length=0):
    """What F_GETLK answers: (type, start, length, pid)."""
    answer = fcntl.fcntl(fd, fcntl.F_GETLK, _flock(kind, start, length))
    kind, _, start, length, pid = struct.unpack("hhqqi4x", answer)
    return kind, start, length, pid


def ofd_lock(fd, kind, start=0, length=0, wait=False):
    fcntl.fcntl(fd, F_OFD_SETLKW if wait else F_OFD_SETLK, _flock(kind, start, length))


def aligned(data):
    """The bytes in a page-aligned buffer, for O_DIRECT."""
    buffer = mmap.mmap(-1, max(len(data), mmap.PAGESIZE))
    buffer[:len(data)] = data
    return memoryview(buffer)[:len(data)]


def pread_direct(fd, length, offset):
    buffer = memoryview(mmap.mmap(-1, length))
    got = os.preadv(fd, [buffer], offset)
    return bytes(buffer[:got])


class Barrier:
    """Where processes meet: a pthread barrier in a file that they map."""

    def __init__(self, path):
        with open(path, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), mmap.PAGESIZE)
        self._at = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    @staticmethod
    def make(path, count):
        """A new one for so many processes; its path."""
        with open(path, "xb") as f:
            f.truncate(mmap.PAGESIZE)
        shared = ctypes.create_string_buffer(64)
        libc.pthread_barrierattr_init(shared)
        libc.pthread_barrierattr_setpshared(shared, 1)
        barrier = Barrier(path)
        assert libc.pthread_barrier_init(ctypes.c_void_p(barrier._at), shared, count) == 0
        return os.fspath(path)

    def wait(self):
        libc.pthread_barrier_wait(ctypes.c_void_p(self._at))


class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_uint16), ("type", ctypes.c_uint8),
                ("name", ctypes.c_char * 256)]


class Listing:
    """opendir(3) and its relatives."""

    def __init__(self, path):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.opendir.restype = ctypes.c_void_p
        self.libc.readdir.restype = ctypes.POINTER(Dirent)
        self.libc.telldir.restype = ctypes.c_long
        self.dir = ctypes.c_void_p(self.libc.opendir(os.fsencode(path)))
        assert self.dir.value

    def entry(self):
        entry = self.libc.readdir(self.dir)
        return entry.contents if entry else None

    def read(self):
        entry = self.entry()
        return entry.name.decode() if entry else None

    def tell(self):
        return self.libc.telldir(self.dir)

    def seek(self, where):
        self.libc.seekdir(self.dir, ctypes.c_long(where))

    def rewind(self):
        self.libc.rewinddir(self.dir)

    def rest(self):
        return [name for name in iter(self.read, None) if name not in (".", "..")]

    def close(self):
        self.libc.closedir(self.dir)
