# SPDX-License-Identifier: Apache-2.0
"""Threads: no more than there are cores, and none that waits long."""
import os
import subprocess
import sys
from types import SimpleNamespace

import cv2
import pytest

from lednet_ros.common import cpu
from lednet_ros.common.cpu import set_up_threads, usable_cores

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
    ('2:cpu:/a\n0::/b', V1.format(root='/') + '\n' + V2.format(root='/').replace(
        'cgroup rw', 'cgroup/unified rw'),
     {'cpu,cpuacct/a/cpu.cfs_quota_us': '400000', 'cpu,cpuacct/a/cpu.cfs_period_us': '100000',
      'unified/b/cpu.max': '300000 100000'}, 3),
    ('0::/../outside', V2.format(root='/docker/1'), {'cpu.max': '200000 100000'}, 2),
], ids=['v2', 'v2 without', 'half', 'one and a half', 'parent', 'namespace', 'nonsense', 'moved',
        'v1', 'v1 without', 'other', 'both', 'outside'])
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


@pytest.mark.parametrize(('quota', 'theirs', 'told', 'set_to'), [
    (3, {}, '3', [3]), (3, {'OMP_NUM_THREADS': '5'}, '5', []), (8, {}, None, [])],
    ids=['quota', 'quota and theirs', 'no quota'])
def test_torch_heeds_a_quota_though_it_was_imported_before(
    monkeypatch, quota, theirs, told, set_to
) -> None:
    counts: list[int] = []
    monkeypatch.setitem(sys.modules, 'torch', SimpleNamespace(set_num_threads=counts.append))
    monkeypatch.setattr(cpu, 'usable_cores', lambda: quota)
    environment = dict(theirs)
    set_up_threads(environment)
    assert environment.get('OMP_NUM_THREADS') == told
    assert counts == set_to


def segmenter() -> None:
    from lednet_ros.segmentation import Segmenter, SegmenterConfig
    Segmenter(config=SegmenterConfig(backend='torch', device='cpu', input_height=64,
                                     input_width=96)).close()


def ground() -> None:
    from lednet_ros.projection import Ground, Traversability
    Ground(Traversability.load('camvid'))


@pytest.mark.parametrize('make', [segmenter, ground])
def test_opencv_heeds_a_quota_unless_the_user_says_otherwise(monkeypatch, make) -> None:
    count = cv2.getNumThreads()
    monkeypatch.setattr(cpu, 'usable_cores', lambda: 3)
    try:
        cv2.setNumThreads(5)
        monkeypatch.setenv('OPENCV_FOR_THREADS_NUM', '5')
        make()
        assert cv2.getNumThreads() == 5
        monkeypatch.delenv('OPENCV_FOR_THREADS_NUM')
        make()
        assert cv2.getNumThreads() == 3
        cv2.setNumThreads(2)
        make()
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(count)


def test_the_package_sets_it_up_before_it_loads_any_library() -> None:
    """OpenMP and onnxruntime read it once."""
    code = ('import os, sys\n'
            'import lednet_ros\n'
            "print({'torch', 'onnxruntime', 'numpy'} & set(sys.modules))\n"
            "print(os.environ['GOMP_SPINCOUNT'], os.environ['ORT_DISABLE_TELEMETRY'])")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(('OMP', 'GOMP', 'ORT'))}
    done = subprocess.run([sys.executable, '-c', code], env=environment, text=True,
                          capture_output=True)
    assert done.stdout == f'set()\n{cpu.SPIN_COUNT} 1\n', done.stderr
