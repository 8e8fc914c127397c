"""Ports for peers. A block of ports is claimed by binding an abstract Unix
socket of its name, which the kernel gives to one process only and takes back
when that ends; so parallel runs never meet. The blocks lie below the range
that the kernel takes ports of outgoing connections from."""
import socket

FIRST, LAST, BLOCK = 20000, 32000, 32


class Ports:
    def __init__(self):
        self._held = []
        self._free = []

    def _claim(self):
        for start in range(FIRST, LAST, BLOCK):
            guard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                guard.bind(f"\0benchfs-test-ports-{start}")
            except OSError:
                guard.close()
                continue
            self._held.append(guard)
            self._free += [p for p in range(start, start + BLOCK) if _bindable(p)]
            return
        raise RuntimeError("every block of test ports is taken")

    def take(self, n):
        while len(self._free) < n:
            self._claim()
        taken, self._free = self._free[:n], self._free[n:]
        return taken


def _bindable(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


ports = Ports()
