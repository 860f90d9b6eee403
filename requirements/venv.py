# SPDX-License-Identifier: Apache-2.0
"""Make or reuse .venv for a make target: `python3 requirements/venv.py demo|test`.

Runs with any Python 3, so that an unsupported one gets a clear line instead of a traceback.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys

SUPPORTED = ((3, 11), (3, 13))  # what real ROS 2 and the pinned numpy have wheels for
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
VENV = os.path.join(ROOT, '.venv')
PYTHON = os.path.join(VENV, 'bin', 'python')


def python_version(python):
    """Give a Python's (major, minor), or None if it does not run."""
    code = 'import sys, venv; print(*sys.version_info[:2])'
    try:
        out = subprocess.run([python, '-c', code], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, env=clean_environment(), check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return tuple(int(v) for v in out.stdout.split())


def clean_environment():
    """The environment without what another venv's ROS wheels leave to their children."""
    return {k: v for k, v in os.environ.items() if k != '_ROS_WHEELS_BOOTSTRAP_COMPLETE'}


def find_python():
    """Give a supported Python: this one, else the newest on the PATH."""
    for python in [sys.executable, 'python3.13', 'python3.12', 'python3.11']:
        version = python_version(python)
        if version and SUPPORTED[0] <= version <= SUPPORTED[1]:
            return python
    here, low, high = ('.'.join(map(str, v)) for v in (sys.version_info[:2], *SUPPORTED))
    sys.exit(f'lednet_ros: Python {here} is not supported here: install Python {low} to {high}, '
             'or set PYTHON to one')


def is_moved():
    """Whether .venv was made in another place, where its scripts would run that one's code."""
    with open(os.path.join(VENV, 'pyvenv.cfg')) as file:
        return not any(line.rstrip().endswith(' ' + VENV) for line in file)


def fingerprint(files):
    """Give a hash that changes with the requirement files and the venv's Python."""
    digest = hashlib.sha256(repr(python_version(PYTHON)).encode())
    for name in files:
        with open(os.path.join(HERE, name), 'rb') as file:
            digest.update(file.read())
    return digest.hexdigest()


def pip(*arguments):
    """Run the venv's pip; the user's own index settings hold. Ends the program if it fails."""
    command = [PYTHON, '-m', 'pip', 'install', '--disable-pip-version-check', *arguments]
    if subprocess.call(command, cwd=ROOT, env=clean_environment()):
        sys.exit('lednet_ros: pip failed, see above: mend it and run make again, it goes on where '
                 'it stopped')


def main(target):
    """Bring .venv to what the target needs; quick when it is already."""
    machine = f'{platform.system()} {platform.machine()}'
    if machine != 'Linux x86_64':
        sys.exit(f'lednet_ros: {machine} is not supported here: ROS 2 comes as wheels for Linux '
                 "x86_64 only; build with colcon beside apt's ROS 2 (README, 'On a robot')")
    files = ['constraints.txt', 'base.txt', 'ros.txt', 'demo.txt', 'clip.txt']
    files += ['tensorrt_check.txt', 'test.txt', 'cityscapes.txt'] if target == 'test' else []
    files += ['../setup.py']
    stamp = os.path.join(VENV, '.ready-for-' + target)
    version = python_version(PYTHON)
    if version is None or not SUPPORTED[0] <= version <= SUPPORTED[1] or is_moved():
        python = find_python()
        print('lednet_ros: making .venv. To download: about 0.4 GB with a CPU build of torch, '
              'about 3 GB with the CUDA build\nthat pip takes by default (to choose, set '
              "PIP_EXTRA_INDEX_URL to PyTorch's CPU wheel index). Takes 2 to 10 minutes.",
              flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        if subprocess.call([python, '-m', 'venv', VENV], env=clean_environment()):
            sys.exit(f'lednet_ros: {python} -m venv failed: install the venv package of your '
                     'Python (python3-venv)')
    wanted = fingerprint(files)
    if os.path.exists(stamp):
        with open(stamp) as file:
            if file.read() == wanted:
                return
    pip('-r', os.path.join('requirements', target + '.txt'))
    for name in ['clip.txt', 'cityscapes.txt']:
        if name in files:
            pip('--no-deps', '-r', os.path.join('requirements', name))
    pip('--no-deps', '--no-build-isolation', '-e', '.')
    with open(stamp, 'w') as file:
        file.write(wanted)


if __name__ == '__main__':
    main(sys.argv[1])
