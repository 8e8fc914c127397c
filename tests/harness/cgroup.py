"""A memory cgroup for one daemon, version 1 or 2, whichever has the controller."""
import os
from pathlib import Path

import pytest

from harness.env import need_root


def _controllers():
    with open("/proc/mounts") as f:
        for line in f:
            _, path, kind, options = line.split()[:4]
            if kind == "cgroup" and "memory" in options.split(","):
                yield Path(path), "memory.limit_in_bytes"
            if kind == "cgroup2" and "memory" in (Path(path) / "cgroup.subtree_control").read_text().split():
                yield Path(path), "memory.max"


class MemoryLimit:
    def __init__(self, name, limit):
        need_root("memory cgroups")
        for top, knob in _controllers():
            self.path = top / name
            try:
                self.path.mkdir()
                (self.path / knob).write_text(str(limit))
            except OSError as e:
                pytest.skip(f"needs a memory cgroup that can be made: {e}")
            break
        else:
            pytest.skip("needs a memory cgroup controller")

    @property
    def prefix(self):
        """argv that makes a command run inside."""
        return ["sh", "-c", f"echo $$ > {self.path}/cgroup.procs && exec \"$@\"", "sh"]

    def close(self):
        if self.path.exists():
            os.rmdir(self.path)
