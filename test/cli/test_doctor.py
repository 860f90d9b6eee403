# SPDX-License-Identifier: Apache-2.0
"""Each finding from stand-ins of the facts; and the command itself on this machine."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from lednet_ros.cli import doctor
from lednet_ros.cli.doctor import FAIL, OK, WARN, examine

ROOT = Path(__file__).parents[2]
GPU = {'name': 'Orin', 'capability': '8.7', 'free_mb': 5000.0, 'total_mb': 7600.0}
GOOD: dict[str, Any] = {
    'environment': {'ROS_DISTRO': 'jazzy'},
    'system': {'python': [3, 12, 3], 'executable': '/usr/bin/python3', 'machine': 'Linux x86_64',
               'is_venv': True, 'encoding': 'UTF-8', 'home': '/home/robot', 'gpu_devices': [],
               'os': 'Ubuntu 24.04', 'missing': [], 'lednet_ros': '0.1.0'},
    'memory': {'total_mb': 16e3, 'available_mb': 8e3, 'swap_mb': 0.0, 'shm_mb': 8e3},
    'cpu': {'cores': 8, 'usable': 8, 'load': 0.5},
    'middleware': {'lacks': {}, 'missing_files': []},
    'opencv': {'numpy': '1.26.4', 'opencv': '4.6.0', 'ffmpeg': True, 'opencv_place': '/usr'},
    'cv_bridge': {'is_installed': True, 'problem': ''},
    'torch': {'version': '2.13.0', 'cuda': '13.0', 'gpus': [GPU], 'cudnn': 91000},
    'tensorrt': {'torch_tensorrt': '2.13.0', 'tensorrt': '11.0.0'},
    'onnxruntime': {'version': '1.32.0', 'providers': ['CPUExecutionProvider']},
    'ros': {'rclpy': '/opt', 'middleware': 'rmw_fastrtps_cpp'},
    'checkpoint': {'name': 'lednet-camvid.safetensors', 'labels': 'camvid'},
    'cache': {'directory': '/home/robot/.cache/lednet_ros', 'can_keep': True, 'free_mb': 9e4,
              'engines': [{'kind': 'onnx', 'versions': [['onnxruntime', '1.32.0']],
                           'is_whole': True},
                          {'kind': 'onnx', 'versions': [['onnxruntime', '1.20.0']],
                           'is_whole': True}]},
}


def with_(part: str, **changes: Any) -> dict[str, Any]:
    """Return the good facts with one part changed; or raised, and then it has no other fact."""
    facts = copy.deepcopy(GOOD)
    facts[part] = changes if 'raised' in changes else {**facts[part], **changes}
    return facts


def test_a_machine_that_has_all_is_all_ok() -> None:
    findings = examine(GOOD)
    assert [f for f in findings if f.level != OK] == []
    assert {f.subject for f in findings} >= {'Python', 'ROS 2', 'torch', 'GPU', 'TensorRT',
                                             'OpenCV', 'cv_bridge', 'engine cache', 'CPU'}
    assert any('2 engines, 1 of them of these versions' in f.text for f in findings)


@pytest.mark.parametrize(('facts', 'subject', 'level', 'words'), [
    (with_('system', python=[3, 9, 1]), 'Python', FAIL, 'install Python 3.10'),
    (with_('system', python=[3, 11, 1]), 'Python', WARN, "apt's ROS 2 jazzy has 3.12"),
    (with_('system', encoding='ANSI_X3.4-1968'), 'locale', WARN, 'LANG=C.UTF-8'),
    (with_('system', home=''), 'home', WARN, 'HOME is not set'),
    (with_('system', missing=['safetensors']), 'packages', FAIL, 'pip install safetensors'),
    (with_('system', missing=['rosbags']), 'packages', WARN, 'pip install rosbags'),
    (with_('ros', raised='ModuleNotFoundError: rclpy', is_missing='rclpy'), 'ROS 2', WARN,
     'source /opt/ros'),
    (with_('ros', raised='ImportError: librmw.so'), 'ROS 2', FAIL, 'librmw.so'),
    (with_('ros', refusal="ROS_DOMAIN_ID is 'x': give a number"), 'ROS 2', FAIL, 'ROS_DOMAIN_ID'),
    (with_('ros', missing=['vision_msgs']), 'ROS packages', WARN,
     'apt install ros-$ROS_DISTRO-vision-msgs'),
    (with_('middleware', lacks={'FASTRTPS_DEFAULT_PROFILES_FILE': '/p.xml'}), 'large images', WARN,
     'export FASTRTPS_DEFAULT_PROFILES_FILE=/p.xml'),
    (with_('middleware', missing_files=['/gone.xml']), 'large images', FAIL, '/gone.xml'),
    (with_('opencv', raised="ModuleNotFoundError: No module named 'cv2'"), 'OpenCV', FAIL,
     'opencv-python-headless'),
    (with_('opencv', ffmpeg=False), 'OpenCV', WARN, 'without FFmpeg'),
    (with_('cv_bridge', problem='cv_bridge was built for numpy 1 and this is 2.4'), 'cv_bridge',
     WARN, 'built for numpy 1'),
    (with_('torch', raised='importing it ended by signal 11'), 'torch', FAIL, 'signal 11'),
    (with_('torch', raised='SystemError: no', library='numpy'), 'torch', FAIL,
     'numpy cannot be loaded (SystemError: no): pip install --force-reinstall numpy'),
    (with_('ros', raised='ImportError: no', library='yaml'), 'ROS 2', FAIL, 'reinstall PyYAML'),
    (with_('torch', gpus=[], why_no_gpu='no CUDA GPU'), 'GPU', OK, 'runs on the CPU'),
    (with_('torch', gpus=[], why_no_gpu='an NVIDIA GPU, but torch 2.13 is a CPU build: install a '
           'CUDA build of torch'), 'GPU', FAIL, 'CPU build: install a CUDA build'),
    (with_('torch', gpus=[{**GPU, 'refusal': 'torch has no code for it: install'}]), 'GPU', FAIL,
     'no code for it'),
    (with_('torch', gpus=[{**GPU, 'free_mb': 300.0}]), 'GPU', WARN, '300 of 7600 MB free'),
    ({**with_('tensorrt'), 'tensorrt': {'refusal': 'tensorrt: torch_tensorrt is not installed'}},
     'TensorRT', WARN, 'is not installed'),
    (with_('tensorrt', raised='no answer within 180 s'), 'TensorRT', WARN, 'no answer'),
    (with_('checkpoint', raised='CheckpointError: damaged'), 'checkpoint', FAIL, 'damaged'),
    (with_('cache', can_keep=False), 'engine cache', WARN, 'writable engine_cache_dir'),
    (with_('cache', free_mb=3.0), 'engine cache', WARN, 'make room'),
    (with_('cache', engines=[{'versions': None, 'is_whole': False}, *GOOD['cache']['engines']]),
     'engine cache', WARN, '2 engines, 1 of them of these versions, 90000 MB free; 1 damaged'),
    (with_('tensorrt', doubt='TensorRT 11.2: made for TensorRT 11.0'), 'TensorRT', WARN,
     'made for TensorRT 11.0: it is tried'),
    (with_('memory', available_mb=700.0), 'memory', WARN, '1.5 GB'),
    (with_('memory', total_mb=2e3, available_mb=2e3, is_limited=True), 'memory', OK,
     "2000 MB available, by the container's limit"),
    (with_('memory', shm_mb=64.0), '/dev/shm', WARN, '--shm-size'),
    (with_('cpu', usable=2, load=0.1), 'CPU', OK, '2 of 8 cores'),
    (with_('cpu', load=9.0), 'CPU', WARN, 'latency will vary'),
], ids=lambda v: v if isinstance(v, str) else '')
def test_what_is_amiss_is_found_with_its_remedy(facts, subject, level, words) -> None:
    [finding] = [f for f in examine(facts) if f.subject == subject]
    assert finding.level == level
    assert words in str(finding)
    assert '\n' not in str(finding)


def test_without_a_gpu_onnxruntime_is_missed_and_numpy_2_fits_no_jazzy() -> None:
    facts = with_('torch', gpus=[], why_no_gpu='no CUDA GPU')
    facts['onnxruntime'] = {'raised': "ModuleNotFoundError: No module named 'onnxruntime'"}
    facts['opencv']['numpy'], facts['cv_bridge'] = '2.4.6', {'is_installed': False}
    levels = {f.subject: f.level for f in examine(facts)}
    assert (levels['ONNX Runtime'], levels['numpy']) == (WARN, WARN)


def test_a_board_and_a_driver_are_named() -> None:
    facts = with_('system', l4t='36.4.3', driver='535.54')
    facts['torch'] = {**facts['torch'], 'gpus': [], 'why_no_gpu':
                      'an NVIDIA GPU, but its driver does not fit CUDA 13.0: update the driver'}
    said = '\n'.join(map(str, examine(facts)))
    assert 'L4T 36.4.3' in said
    assert 'does not fit CUDA 13.0, driver 535.54: update the driver' in said
    facts['torch'] = {'raised': 'OSError: libcudart.so: cannot open shared object file'}
    assert 'L4T 36.4.3' in '\n'.join(map(str, examine(facts)))
    facts['torch'] = {**GOOD['torch'], 'gpus': [], 'why_no_gpu': 'no CUDA GPU'}
    [gpu] = [f for f in examine(facts) if f.subject == 'GPU']
    assert (gpu.level, gpu.remedy) == (FAIL, 'in a container, start that with --runtime nvidia')


@pytest.mark.parametrize(('release', 'tegra', 'meminfo', 'found'), [
    (b'NAME=x\n', b'# R36 (release), REVISION: 4.3, GCID: 1',
     b'MemTotal: 4096 kB\nMemFree: 1024 kB', ('unknown', '36.4.3', 4.0, 1.0)),
    (b"PRETTY_NAME='Board \xff'", b'\xfe\xff\x00', b'MemTotal: 4096 kB\nMemAvailable: 2048 kB\n'
     b'MemFree: 0 kB\n', ('Board \ufffd', 'unknown', 4.0, 2.0))], ids=['terse', 'no text'])
def test_files_of_the_system_that_say_little_hide_nothing(
    tmp_path, monkeypatch, release, tegra, meminfo, found
) -> None:
    for place, content in {'etc/os-release': release, 'etc/nv_tegra_release': tegra,
                           'proc/meminfo': meminfo, 'sys/fs/cgroup/memory.max': b'max'}.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(content)
    monkeypatch.setattr(doctor, '_ROOT', tmp_path)
    system, memory = doctor._system(), doctor._memory()
    assert (system['os'], system['l4t'], memory['total_mb'], memory['available_mb']) == found
    (tmp_path / 'sys/fs/cgroup/memory.max').write_text(str(2 ** 20))
    assert doctor._memory()['available_mb'] == 1.0


def test_facts_that_nobody_thought_of_hide_no_other_finding() -> None:
    facts = copy.deepcopy(GOOD)
    facts['cpu'] = {'cores': 'many'}
    facts['torch'] = {}
    findings = examine(facts)
    assert [f.level for f in findings if f.subject in ('CPU', 'torch')] == [WARN, WARN]
    assert any(f.subject == 'memory' for f in findings)


@pytest.mark.parametrize(('code', 'within_s', 'words'), [
    ('import os, signal; os.kill(os.getpid(), signal.SIGSEGV)', 300.0, 'ended by signal 11'),
    ('raise SystemExit("no way")', 300.0, 'ended with code 1 (no way)'),
    ('print("no JSON")', 300.0, 'ended with code 0'),
    ('import time; time.sleep(600)', 1.0, 'no answer within 1 s')],
    ids=['crash', 'exit', 'nonsense', 'hang'])
def test_a_library_that_breaks_its_process_breaks_no_report(
    tmp_path, monkeypatch, code, within_s, words
) -> None:
    python = tmp_path / 'python'
    python.write_text(f'#!{sys.executable}\n{code}\n')
    python.chmod(0o755)
    monkeypatch.setattr(doctor.sys, 'executable', str(python))
    monkeypatch.setattr(doctor, 'PROBE_TIMEOUT_S', within_s)
    assert words in doctor.probe('torch')['raised']


@pytest.mark.parametrize(('then', 'within_s'), [
    ('print(5)', 300.0), ('os.kill(os.getpid(), signal.SIGSEGV)', 300.0),
    ('time.sleep(600)', 1.0)], ids=['prints', 'crashes', 'hangs'])
def test_what_a_library_does_after_the_answer_spoils_no_answer(
    tmp_path, monkeypatch, then, within_s
) -> None:
    python = tmp_path / 'python'
    python.write_text(f"#!{sys.executable}\nimport os, signal, time\nprint('hello')\n"
                      f"print('{{\"version\": \"2.8\"}}', flush=True)\n{then}\n")
    python.chmod(0o755)
    monkeypatch.setattr(doctor.sys, 'executable', str(python))
    monkeypatch.setattr(doctor, 'PROBE_TIMEOUT_S', within_s)
    assert doctor.probe('torch') == {'version': '2.8'}


def test_what_can_only_build_engines_or_does_not_fit_is_no_tensorrt(monkeypatch) -> None:
    from lednet_ros.cli import doctor_probe
    from lednet_ros.segmentation.backends import tensorrt
    torch = tensorrt.torch.__version__
    number = '.'.join(torch.split('.')[:2])
    monkeypatch.setattr(tensorrt, 'import_torch_tensorrt',
                        lambda: types.SimpleNamespace(__version__=f'{number}.0'))
    for stand_in, said in (
            ({'__version__': '1.4', '_package_name': 'tensorrt_rtx'}, 'for the tests'),
            ({'__version__': '8.6.1'}, 'do not work together')):
        monkeypatch.setitem(sys.modules, 'tensorrt', types.SimpleNamespace(**stand_in))
        assert said in doctor_probe.tensorrt_facts()['refusal']


def test_a_gpu_that_is_full_is_not_torch_s_fault(monkeypatch) -> None:
    import torch

    from lednet_ros.cli import doctor_probe

    def full(*_: object) -> None:
        raise RuntimeError('CUDA error: out of memory')

    for name, stand_in in {
            'is_available': lambda: True, 'device_count': lambda: 1, 'mem_get_info': full,
            'get_device_properties': lambda _: types.SimpleNamespace(
                name='Orin', major=8, minor=7),
            'get_device_capability': lambda _: (8, 7), 'get_arch_list': list}.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    [gpu] = doctor_probe.torch_facts()['gpus']
    assert gpu['name'] == 'Orin'
    assert 'out of memory' in gpu['refusal']
    assert 'end other programs' in gpu['refusal']


def test_damaged_engines_are_counted_apart(tmp_path, monkeypatch) -> None:
    from lednet_ros.cli import doctor_probe
    from lednet_ros.segmentation.backends.engine_cache import EngineCache, EngineKey
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    cache = EngineCache()
    for height in range(5):
        key = EngineKey('onnx', 'w', 's', height, 8, 'fp32', False, 'cpu', (('torch', '2'),))
        cache.fetch(key, lambda: b'engine', lambda engine: engine)
    cut, odd, bare, aside, _ = sorted((tmp_path / 'lednet_ros').glob('*.engine'))
    cut.write_bytes(cut.read_bytes()[:-1])
    odd.write_bytes(odd.read_bytes().replace(b'[["torch", "2"]]', b'5'))
    bare.write_bytes(b'')
    aside.rename(aside.with_suffix('.bad'))
    engines = doctor_probe.cache_facts()['engines']
    assert sorted(e['is_whole'] for e in engines) == [False] * 4 + [True]


def test_of_a_broken_library_that_another_needs_the_first_is_blamed(tmp_path) -> None:
    broken = tmp_path / 'numpy' / '__init__.py'
    broken.parent.mkdir()
    broken.write_text('raise SystemError("no multiarray")')
    done = run({**os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{ROOT}'},
               '-m', 'lednet_ros.cli.doctor_probe', 'opencv')
    assert json.loads(done.stdout)['library'] == 'numpy'


def test_what_torch_is_needed_for_is_not_blamed_for_it() -> None:
    facts = with_('torch', raised='importing it ended with code 134')
    facts['checkpoint'] = {'raised': 'importing it ended with code 134'}
    assert {f.subject for f in examine(facts) if f.level == FAIL} == {'torch'}


def test_a_middleware_that_is_not_there_is_told_in_its_own_words() -> None:
    pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
    done = run({**os.environ, 'RMW_IMPLEMENTATION': 'rmw_nobodys_cpp'},
               '-m', 'lednet_ros.cli.doctor_probe', 'ros')
    found = json.loads(done.stdout)
    assert found['refusal'].startswith("RMW_IMPLEMENTATION is 'rmw_nobodys_cpp': ")
    assert found['middleware'] == 'rmw_nobodys_cpp'


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, text=True,
                          capture_output=True)


def test_the_report_of_this_machine_is_true(tmp_path) -> None:
    done = run({**os.environ}, '-m', 'lednet_ros.cli.doctor', '--json', str(tmp_path / 'x.json'))
    found = json.loads((tmp_path / 'x.json').read_text())
    assert done.returncode == any(f['level'] == FAIL for f in found['findings']), done.stderr
    import torch
    assert f'{torch.__version__}, ' in done.stdout
    assert done.stdout.splitlines()[-1].endswith(' to mend')
    assert done.stderr == ''


def test_without_home_ros_and_all_that_pip_installs_it_says_so() -> None:
    """As in a bare container: -S leaves out what is installed."""
    done = run({'PATH': '/usr/bin'}, '-S', '-c', (
        'import sys; from lednet_ros.cli import doctor; '
        'doctor.probe = lambda name: {"raised": "ModuleNotFoundError: No module named '
        "'x'\", \"is_missing\": 'rclpy' if name == 'ros' else 'x'}; sys.exit(doctor.main([]))"))
    assert done.returncode == 1, done.stderr
    assert 'fail torch' in done.stdout
    assert 'HOME is not set' in done.stdout
    assert 'rclpy is not there' in done.stdout
    assert done.stderr == ''
