"""What the mount tests stand on: clusters of real peers, and system calls
that Python has no name for."""
