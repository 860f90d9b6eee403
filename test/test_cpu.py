# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import pytest

from lednet_ros.cpu import set_up_threads, usable_cores

V2 = '31 24 0:27 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate'
V1 = '33 25 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct'


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)))


def machine(tmp_path, group: str, mount: str, files: dict[str, str]):
    """Make /proc and /sys of a process in a cgroup."""
    (tmp_path / 'proc/self').mkdir(parents=True)
    (tmp_path / 'proc/self/cgroup').write_text(f'4:memory:/else\n{group}\n')
    (tmp_path / 'proc/self/mountinfo').write_text(
        f'22 28 0:20 / /proc rw - proc proc rw\n{mount}\n')
    for name, text in files.items():
        path = tmp_path / 'sys/fs/cgroup' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(('group', 'mount', 'files', 'cores'), [
    ('0::/', V2.format(root='/'), {'cpu.max': '200000 100000\n'}, 2),
    ('0::/', V2.format(root='/'), {'cpu.max': 'max 100000\n'}, 8),
    ('0::/', V2.format(root='/'), {'cpu.max': '50000 100000\n'}, 1),
    ('0::/', V2.format(root='/'), {'cpu.max': '150000 100000\n'}, 2),
    ('0::/a/b', V2.format(root='/'),
     {'a/cpu.max': '300000 100000', 'a/b/cpu.max': 'max 100000'}, 3),
    ('0::/a/b', V2.format(root='/a'), {'b/cpu.max': '400000 100000'}, 4),
    ('0::/', V2.format(root='/'), {'cpu.max': 'nonsense'}, 8),
    ('0::/gone', V2.format(root='/'), {'cpu.max': '200000 100000'}, 2),
    ('5:cpu,cpuacct:/docker/1', V1.format(root='/docker/1'), {
        'cpu,cpuacct/cpu.cfs_quota_us': '300000', 'cpu,cpuacct/cpu.cfs_period_us': '100000'}, 3),
    ('5:cpu,cpuacct:/', V1.format(root='/'), {
        'cpu,cpuacct/cpu.cfs_quota_us': '-1', 'cpu,cpuacct/cpu.cfs_period_us': '100000'}, 8),
    ('5:cpuset:/', V1.format(root='/'), {}, 8),
], ids=['v2', 'v2 without', 'half', 'one and a half', 'parent', 'namespace', 'nonsense', 'moved',
        'v1', 'v1 without', 'other'])
def test_the_quota_of_the_process_and_of_what_it_lies_in_counts(
    tmp_path, group, mount, files, cores
) -> None:
    assert usable_cores(machine(tmp_path, group, mount, files)) == cores


def test_without_cgroups_affinity_counts(tmp_path, monkeypatch) -> None:
    assert usable_cores(tmp_path) == 8
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {3})
    assert usable_cores(tmp_path) == 1


@pytest.mark.parametrize('theirs', [{}, {'OMP_WAIT_POLICY': 'ACTIVE'}, {'GOMP_SPINCOUNT': '7'}])
def test_what_the_user_has_set_stays(theirs) -> None:
    environment = dict(theirs)
    set_up_threads(environment)
    assert theirs.items() <= environment.items()
    assert ('GOMP_SPINCOUNT' in environment) == (theirs.keys() != {'OMP_WAIT_POLICY'})


def test_commands_and_nodes_set_it_before_torch_is_loaded() -> None:
    """OpenMP reads it once."""
    code = ('import os, sys\n'
            'from lednet_ros.cli import command\n'
            "@command('x')\n"
            'def main(argv=None):\n'
            "    assert 'torch' not in sys.modules\n"
            "    print(os.environ['GOMP_SPINCOUNT'])\n"
            '    return 0\n'
            'sys.exit(main())')
    environment = {k: v for k, v in os.environ.items() if not k.startswith(('OMP', 'GOMP'))}
    done = subprocess.run([sys.executable, '-c', code], env=environment, text=True,
                          capture_output=True)
    assert done.stdout == '10000\n', done.stderr
