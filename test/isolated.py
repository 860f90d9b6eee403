# SPDX-License-Identifier: Apache-2.0
"""Run commands where whatever they ask the network for is noticed, and each file they leave.

    unshare --net --mount python test/isolated.py PLACE < [[HOME, word, ...], ...] as JSON

In a network of its own with a resolver of its own, and with PLACE/tmp and PLACE/cwd for the
temporary and the working directory, PLACE/shm for /dev/shm, and for the home, as each command
says, PLACE/home or PLACE/sealed, which is empty and read-only. Prints a JSON list: for each
command its exit code, what it wrote, the names that it asked for, how often it tried to reach
another computer, and the files that it left or changed.
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
DIRECTORIES = ('home', 'sealed', 'tmp', 'cwd', 'shm')


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


def without_route() -> int:
    """Return how often anybody here has tried to reach another computer, by its address."""
    heads, values = (line.split() for line in Path('/proc/net/snmp').read_text().splitlines()
                     if line.startswith('Ip:'))
    count = int(values[heads.index('OutNoRoutes')])
    try:
        lines = Path('/proc/net/snmp6').read_text().splitlines()
    except OSError:  # no IPv6
        return count
    return count + int(dict(line.split() for line in lines)['Ip6OutNoRoutes'])


def files(place: Path) -> dict[str, int]:
    """Return each file or empty directory below ours, and when it was changed, in ns."""
    return {str(path.relative_to(place)): path.stat().st_mtime_ns
            for name in DIRECTORIES for path in (place / name).rglob('*')
            if not path.is_dir() or not any(path.iterdir())}


def mount(*arguments: str | Path) -> None:
    """Mount, in this process's own view of the file system."""
    subprocess.run(['mount', *map(str, arguments)], check=True)


def main(place: Path) -> None:
    names: list[str] = []
    resolver = place / 'resolv.conf'
    resolver.write_text('nameserver 127.0.0.1\n')
    mount('--bind', resolver, '/etc/resolv.conf')
    answer_queries(names)
    for name in DIRECTORIES:
        (place / name).mkdir()
    mount('--bind', place / 'shm', '/dev/shm')
    mount('--bind', place / 'sealed', place / 'sealed')
    mount('-o', 'remount,bind,ro', place / 'sealed')
    environment = {k: v for k, v in os.environ.items() if not k.startswith(
        ('XDG_', 'ORT_', 'MPL', 'TORCH', 'ROS_LOG', 'ROS_HOME', 'ROS_DOMAIN'))}
    environment['TMPDIR'] = str(place / 'tmp')
    found = []
    for home, *command in json.load(sys.stdin):
        before, tried = files(place), without_route()
        names.clear()
        done = subprocess.run(command, cwd=place / 'cwd', text=True, stdin=subprocess.DEVNULL,
                              env={**environment, 'HOME': str(place / home)},
                              capture_output=True, check=False)
        found.append({
            'code': done.returncode, 'said': done.stdout + done.stderr,
            'names': sorted(set(names)), 'addresses': without_route() - tried,
            'files': sorted(k for k, v in files(place).items() if before.get(k) != v)})
    print(json.dumps(found))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
