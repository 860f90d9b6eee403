# SPDX-License-Identifier: Apache-2.0
"""
Run the tests on every pair of Python and ROS 2 that this machine can have, and print a table.

    python3 tools/test_matrix.py [--only 3.12] [pytest's own arguments]

Each pair has a venv of its own in .venv-matrix/, some GB each with a CUDA build of torch.
"""

import argparse
import os
import re
import subprocess
import sys
import time

from make_venv import ROOT, Venv, check_machine, clean_environment, find_python, python_version

PLACE = os.path.join(ROOT, '.venv-matrix')
# Humble's, Rolling's of the wheels, Ubuntu 24.04's, and the newest with the newest.
PAIRS = (((3, 10), 'jazzy'), ((3, 11), 'jazzy'), ((3, 12), 'jazzy'), ((3, 13), 'kilted'))
WITHOUT_ROS = ((3, 14), (3, 13), (3, 12), (3, 11), (3, 10))  # the newest that is here


def pairs():
    """Yield (version, distribution, Python's path or None)."""
    for version, ros in PAIRS:
        yield version, ros, find_python(version)
    for version in WITHOUT_ROS:
        python = find_python(version)
        if python:
            yield version, 'none', python
            return


def run(version, ros, python, arguments):
    """Run the tests on one pair. Return (versions as text, pytest's last line, its exit code)."""
    venv = Venv(os.path.join(PLACE, '{}.{}-{}'.format(*version, ros)), 'test', ros,
                with_tensorrt=False)
    if not venv.is_ready():
        if not venv.is_made() or python_version(venv.python) != version:
            venv.make(python)
        venv.fill()
    words = [venv.python, '-m', 'pytest', '-q', '-m', 'not full and not gpu', *arguments]
    environment = dict(clean_environment(), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')
    log = os.path.join(PLACE, '{}.{}-{}.log'.format(*version, ros))
    with open(log, 'wb') as file:
        code = subprocess.call(words, cwd=ROOT, env=environment, stdout=file,
                               stderr=subprocess.STDOUT)
    with open(log, encoding='utf-8', errors='replace') as file:
        ends = [line for line in file if re.search(r'\b(passed|failed|error)', line)]
    names = ('numpy', 'cv2', 'torch')
    show = 'import {}; print({})'.format(
        ', '.join(names), ', '.join(name + '.__version__' for name in names))
    versions = subprocess.run([venv.python, '-c', show], stdout=subprocess.PIPE,
                              env=clean_environment(), check=False).stdout.decode().split()
    return versions or ['?'] * 3, (ends or ['no tests ran'])[-1].strip(' =\n'), code


def main(argv=None):
    """Print a row a pair; exit with 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', metavar='VERSION', help='one Python, such as 3.12')
    known, rest = parser.parse_known_args(argv)
    check_machine()
    rows, failed = [], False
    for version, ros, python in pairs():
        name = '{}.{}'.format(*version)
        if known.only not in (None, name):
            continue
        if python is None:
            rows.append('| {} | {} | | | | not on this machine |'.format(name, ros))
            continue
        began_s = time.time()
        print('lednet_ros: Python {} with ROS {}: running'.format(name, ros), flush=True)
        versions, said, code = run(version, ros, python, rest)
        failed = failed or code != 0
        rows.append('| {} | {} | {} | {} |'.format(name, ros, ' | '.join(versions), said))
        print('{} ({:.0f} s)'.format(rows[-1], time.time() - began_s), flush=True)
    print('| Python | ROS 2 | numpy | OpenCV | torch | tests |\n|---|---|---|---|---|---|')
    print('\n'.join(rows))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
