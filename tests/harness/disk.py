"""Small file systems of their own, in a file on a loop device."""
import os
import subprocess

import pytest

from harness.env import need_program, need_root
from harness.procs import run


class SmallDisk:
    def __init__(self, directory, mib):
        need_root("loop devices")
        need_program("mkfs.ext4", "mount", "umount")
        self.image = directory / "image"
        self.path = directory / "disk"
        self.path.mkdir(parents=True)
        with open(self.image, "wb") as f:
            f.truncate(mib << 20)
        run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", self.image)
        done = run("mount", "-o", "loop", self.image, self.path, check=False)
        if done.returncode != 0:
            pytest.skip(f"needs loop devices: {done.stderr.strip()}")

    def free(self):
        info = os.statvfs(self.path)
        return info.f_bavail * info.f_frsize

    def close(self):
        done = run("umount", self.path, check=False)
        if done.returncode != 0:
            subprocess.run(["umount", "-l", str(self.path)])
        self.image.unlink()
        return [] if done.returncode == 0 else [f"the small disk stayed busy: {done.stderr}"]
