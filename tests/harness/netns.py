"""Network namespaces joined by a bridge. Each lives as long as a `cat` that
reads from a pipe of ours, so nothing stays behind however the tests end."""
import subprocess

import pytest

from harness.env import need_program, need_root
from harness.procs import run, wait_exit


class Namespace:
    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; exec cat"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self.holder.stdout.readline() != b"ready\n":
            self.close()
            pytest.skip("needs network namespaces (unshare --net fails)")

    @property
    def prefix(self):
        """argv that makes a command run in the namespace."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def ip(self, *args):
        run(*self.prefix, "ip", *args)

    def close(self):
        self.holder.stdin.close()
        if wait_exit(self.holder, 5) is None:
            self.holder.kill()
            self.holder.wait()
        self.holder.stdout.close()
        self.holder.stderr.close()


class Network:
    """n machines, as far as the network is concerned: machine i has the
    address 10.77.0.(i + 1)."""

    def __init__(self, n):
        need_root("network namespaces")
        need_program("ip", "nsenter", "unshare")
        self.hub = Namespace()
        self.nodes = [Namespace() for _ in range(n)]
        try:
            self._wire()
        except AssertionError as e:
            self.close()
            pytest.skip(f"needs veth pairs and a bridge: {e}")

    def _wire(self):
        self.hub.ip("link", "add", "bridge", "type", "bridge")
        self.hub.ip("link", "set", "bridge", "up")
        for i, node in enumerate(self.nodes):
            self.hub.ip("link", "add", f"port{i}", "type", "veth", "peer", "name", "eth0", "netns", str(node.holder.pid))
            self.hub.ip("link", "set", f"port{i}", "master", "bridge", "up")
            node.ip("link", "set", "lo", "up")
            node.ip("addr", "add", f"{self.address(i)}/24", "dev", "eth0")
            node.ip("link", "set", "eth0", "up")

    def address(self, i):
        return f"10.77.0.{i + 1}"

    def cut(self, i):
        self.hub.ip("link", "set", f"port{i}", "down")

    def join(self, i):
        self.hub.ip("link", "set", f"port{i}", "up")

    def close(self):
        for space in [*self.nodes, self.hub]:
            space.close()
