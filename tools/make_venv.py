# SPDX-License-Identifier: Apache-2.0
"""
Make or reuse a venv for a make target: `python3 tools/make_venv.py demo|test|docs|gpu`.

Runs with any Python 3, so that an unsupported one gets a clear line instead of a traceback.
"""

import argparse
import contextlib
import glob
import hashlib
import os
import platform
import shutil
import subprocess
import sys

SUPPORTED = ((3, 10), (3, 13))  # what real ROS 2 has wheels for
ROS = ('jazzy', 'kilted', 'none')
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REQUIREMENTS = os.path.join(ROOT, 'requirements')


def python_version(python):
    """Return a Python's (major, minor), or None if it does not run."""
    code = 'import sys, venv; print(*sys.version_info[:2])'
    try:
        out = subprocess.run([python, '-c', code], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, env=clean_environment(), check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return tuple(int(v) for v in out.stdout.split())


def clean_environment():
    """Return the environment without what another venv's ROS wheels leave to their children."""
    return {k: v for k, v in os.environ.items() if k != '_ROS_WHEELS_BOOTSTRAP_COMPLETE'}


def interpreters():
    """Yield Pythons to try, this one first: those on the PATH, and pyenv's, the newest first."""
    yield sys.executable
    pyenv = os.environ.get('PYENV_ROOT') or os.path.expanduser('~/.pyenv')
    for minor in range(SUPPORTED[1][1], SUPPORTED[0][1] - 1, -1):
        name = 'python3.{}'.format(minor)
        yield name
        yield from sorted(glob.glob(os.path.join(pyenv, 'versions', '3.{}*'.format(minor), 'bin',
                                                 name)))


def find_python(version=None):
    """Return a Python of this (major, minor), or of any supported one; None if there is none."""
    for python in interpreters():
        found = python_version(python)
        if found and (found == version if version else SUPPORTED[0] <= found <= SUPPORTED[1]):
            return python
    return None


CLIPS = ['clip.txt', 'clip_fallback.txt']  # the first that can be had


class Venv:
    """One venv and what is to be in it."""

    def __init__(self, place, target, ros, with_tensorrt=True):
        self.place = os.path.abspath(place)
        self.python = os.path.join(self.place, 'bin', 'python')
        files = ['base.txt', 'demo.txt', 'constraints.txt']
        if ros != 'none':
            files.append('ros-{}.txt'.format(ros))
        if target in ('test', 'gpu'):
            files.append('test.txt')
        if target == 'docs':
            files.append('docs.txt')
        if target == 'gpu':
            files.append('gpu.txt')
        elif target == 'test' and with_tensorrt:
            files.append('tensorrt_check.txt')
        self.files = files
        self.ros = ros
        self.alone = ['cityscapes.txt'] if target in ('test', 'gpu') else []  # without its needs
        self.stamp = os.path.join(self.place, '.ready-for-' + target)

    def is_made(self):
        """
        Return whether it is there, runs, and was made in this place for this ROS.

        Moved, its scripts would run another place's code; two distributions do not mix.
        """
        version = python_version(self.python)
        if version is None or not SUPPORTED[0] <= version <= SUPPORTED[1]:
            return False
        if not os.path.exists(os.path.join(self.place, '.ros-' + self.ros)):
            return False
        with open(os.path.join(self.place, 'pyvenv.cfg')) as file:
            return any(line.rstrip().endswith(' ' + self.place) for line in file)

    def fingerprint(self):
        """Return a hash that changes with the requirement files and the venv's Python."""
        digest = hashlib.sha256(repr((python_version(self.python), self.files)).encode())
        for name in self.files + self.alone + CLIPS + [os.path.join('..', 'setup.py')]:
            with open(os.path.join(REQUIREMENTS, name), 'rb') as file:
                digest.update(file.read())
        return digest.hexdigest()

    def is_ready(self):
        """Return whether all that is wanted was installed before."""
        if not (self.is_made() and os.path.exists(self.stamp)):
            return False
        with open(self.stamp) as file:
            return file.read() == self.fingerprint()

    def make(self, python):
        """Make it anew, empty. End the program if that fails."""
        shutil.rmtree(self.place, ignore_errors=True)
        if subprocess.call([python, '-m', 'venv', self.place], env=clean_environment()):
            sys.exit('lednet_ros: {} -m venv failed: install the venv package of your Python '
                     '(python3-venv)'.format(python))
        with open(os.path.join(self.place, '.ros-' + self.ros), 'w'):
            pass

    def fill(self):
        """Install what is wanted."""
        wanted = []
        for name in self.files:
            if name == 'constraints.txt' and python_version(self.python) < (3, 11):
                continue  # they are versions of Python 3.11's
            wanted += ['-c' if name == 'constraints.txt' else '-r',
                       os.path.join('requirements', name)]
        self.pip(*wanted)
        for name in self.alone:
            self.pip('--no-deps', '-r', os.path.join('requirements', name))
        if not any(self.has('--no-deps', '-r', os.path.join('requirements', name))
                   for name in CLIPS):
            print('lednet_ros: no street clip can be had: make demo needs a SOURCE')
        self.pip('--no-deps', '--no-build-isolation', '-e', '.')
        with open(self.stamp, 'w') as file:
            file.write(self.fingerprint())

    def has(self, *arguments):
        """Run the venv's pip; the user's own index settings hold. Return whether it did it."""
        command = [self.python, '-m', 'pip', 'install', '--disable-pip-version-check', *arguments]
        return subprocess.call(command, cwd=ROOT, env=clean_environment()) == 0

    def pip(self, *arguments):
        """Install, or end the program."""
        if not self.has(*arguments):
            sys.exit('lednet_ros: pip failed, see above: mend it and run make again, it goes on '
                     'where it stopped')


def check_machine():
    """End the program where ROS 2 has no wheels."""
    machine = '{} {}'.format(platform.system(), platform.machine())
    if machine != 'Linux x86_64':
        sys.exit(
            'lednet_ros: {} is not supported here: ROS 2 comes as wheels for Linux x86_64 only; '
            "build with colcon beside apt's ROS 2 (README, 'Install it on a robot')".format(
                machine))


@contextlib.contextmanager
def only_one():
    """Wait while another make sets up a venv of this checkout; keep others out meanwhile."""
    import fcntl

    with open(__file__) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('lednet_ros: waiting for another make, which sets up a venv here', flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# Of each target: its venv, and what is said before it is made. That for a GPU is apart: TensorRT
# and TensorRT-RTX bring the same folder, torch_tensorrt.
PLACES = {'demo': '.venv', 'test': '.venv', 'docs': '.venv', 'gpu': '.venv-gpu'}
DOWNLOADS = {
    '.venv': 'about 0.5 GB with a CPU build of torch, about 3 GB with the CUDA build\nthat pip '
             "takes by default (to choose, set PIP_EXTRA_INDEX_URL to PyTorch's CPU wheel index). "
             'Takes 2 to 10 minutes.',
    '.venv-gpu': "about 3 GB, torch's CUDA build, and some GB more of TensorRT's libraries, "
                 "which\ncome from NVIDIA's own package index: where pip does not find them, set "
                 'PIP_EXTRA_INDEX_URL to it. Needs a driver\nfor CUDA 13: 580 or newer.'}


def main(argv=None):
    """Bring a target's venv to what it needs; quick when it is already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('target', choices=sorted(PLACES))
    parser.add_argument('--ros', choices=ROS, default='jazzy')
    arguments = parser.parse_args(argv)
    check_machine()
    place = PLACES[arguments.target]
    venv = Venv(os.path.join(ROOT, place), arguments.target, arguments.ros)
    try:
        with only_one():
            set_up(venv, place)
    except KeyboardInterrupt:
        print('\nlednet_ros: interrupted: run make again, it goes on where it stopped',
              file=sys.stderr)
        sys.exit(130)


def set_up(venv, place):
    """Make and fill what is not ready."""
    if venv.is_ready():
        return
    if not venv.is_made():
        python = find_python()
        if python is None:
            here, low, high = ('.'.join(map(str, v)) for v in (sys.version_info[:2], *SUPPORTED))
            sys.exit('lednet_ros: Python {} is not supported here: install Python {} to {}, or '
                     'set PYTHON to one'.format(here, low, high))
        print('lednet_ros: making {} with Python {}. To download: {}'.format(
            place, '.'.join(map(str, python_version(python))), DOWNLOADS[place]), flush=True)
        venv.make(python)
    venv.fill()


if __name__ == '__main__':
    main()
