"""Runs a command in a terminal of 24 lines of 80; prints what the terminal receives.

Carriage returns are printed as zero bytes, since who reads text drops them.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

ROWS, COLUMNS = 24, 80

master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
environ = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
child = subprocess.Popen(
    sys.argv[1:], stdin=slave, stdout=slave, stderr=slave, env=environ
)
os.close(slave)
while True:
    try:
        received = os.read(master, 65536)
    except OSError:  # as Linux says that the last writer is gone
        break
    if not received:
        break
    os.write(1, received.replace(b"\r", b"\0"))
sys.exit(child.wait())
