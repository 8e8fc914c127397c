"""Where the program is, how patient to be, and what this machine can do."""
import os
import shutil
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]
BENCHFS = Path(os.environ.get("BENCHFS", SOURCE / "build" / "benchfs")).resolve()
SANITIZED = bool(os.environ.get("BENCHFS_SANITIZED"))
SOAK = bool(os.environ.get("BENCHFS_SOAK"))
ROOT = os.geteuid() == 0


def patience(seconds):
    """A time limit, longer where the program is slowed down by sanitizers."""
    return seconds * (4 if SANITIZED else 1)


def size(ci, soak, sanitized=None):
    """How much of something a test does in CI, by hand, and under sanitizers."""
    if SOAK:
        return soak
    return sanitized if SANITIZED and sanitized is not None else ci


def need_root(why):
    if not ROOT:
        pytest.skip(f"needs root: {why}")


def need_program(*names):
    for name in names:
        if not shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            pytest.skip(f"needs the program '{name}'")


def why_no_fuse():
    """None where a mount can be made, else what is missing."""
    if not os.path.exists("/dev/fuse"):
        return "needs /dev/fuse"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs read and write access to /dev/fuse"
    if not ROOT and not shutil.which("fusermount3"):
        return "needs the program 'fusermount3'"
    return None
