# SPDX-License-Identifier: Apache-2.0
"""Run commands where each name they ask for is heard and each file they leave is seen.

    unshare --net --mount python test/isolated.py PLACE < [[command, ...], ...] as JSON

In a network of its own with a resolver of its own, and with PLACE/home, PLACE/tmp and PLACE/cwd
for the home, the temporary and the working directory. Prints a JSON list: for each command its
exit code, what it wrote, the names that it asked for, and the files that it left or changed.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

SIOCSIFFLAGS, UP, LOOPBACK, RUNNING, MULTICAST = 0x8914, 0x1, 0x8, 0x40, 0x1000


def answer_queries(names: list[str]) -> None:
    """Be the only resolver: note each name, and say that there is none of it."""
    asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    flags = struct.pack('16sh14s', b'lo', UP | LOOPBACK | RUNNING | MULTICAST, b'')
    fcntl.ioctl(asked, SIOCSIFFLAGS, flags)
    asked.bind(('127.0.0.1', 53))

    def listen() -> None:
        while True:
            query, address = asked.recvfrom(4096)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode('ascii', 'replace'))
                at += 1 + query[at]
            names.append('.'.join(labels))
            asked.sendto(query[:2] + b'\x81\x83' + query[4:6] + bytes(6) + query[12:], address)

    threading.Thread(target=listen, daemon=True).start()


def files(place: Path) -> dict[str, int]:
    """Return each file below the three directories and when it was changed, in ns."""
    return {str(path.relative_to(place)): path.stat().st_mtime_ns
            for name in ('home', 'tmp', 'cwd') for path in (place / name).rglob('*')
            if path.is_file()}


def main(place: Path) -> None:
    names: list[str] = []
    resolver = place / 'resolv.conf'
    resolver.write_text('nameserver 127.0.0.1\n')
    subprocess.run(['mount', '--bind', str(resolver), '/etc/resolv.conf'], check=True)
    answer_queries(names)
    for name in ('home', 'tmp', 'cwd'):
        (place / name).mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(
        ('XDG_', 'ORT_', 'MPL', 'TORCH', 'ROS_LOG', 'ROS_HOME', 'ROS_DOMAIN'))}
    environment |= {'HOME': str(place / 'home'), 'TMPDIR': str(place / 'tmp')}
    found = []
    for command in json.load(sys.stdin):
        before = files(place)
        names.clear()
        done = subprocess.run(command, cwd=place / 'cwd', env=environment, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)
        found.append({
            'code': done.returncode, 'said': done.stdout + done.stderr,
            'names': sorted(set(names)),
            'files': sorted(k for k, v in files(place).items() if before.get(k) != v)})
    print(json.dumps(found))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
