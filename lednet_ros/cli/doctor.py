# SPDX-License-Identifier: Apache-2.0
"""lednet_doctor: what this machine has to run the package with, a line each, and what to mend."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import locale
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lednet_ros.common.command import command
from lednet_ros.common.errors import ConfigError, printable

OK, WARN, FAIL = 'ok', 'warn', 'fail'
PROBES = ('opencv', 'cv_bridge', 'torch', 'tensorrt', 'onnxruntime', 'ros', 'checkpoint', 'cache')
PROBE_TIMEOUT_S = 180.0
# By the names they are imported by, and installed by; needed by all that runs a network, or not.
PACKAGES = {'safetensors': 'safetensors', 'yaml': 'PyYAML', 'rich': 'rich', 'PIL': 'pillow',
            'onnx': 'onnx', 'rosbags': 'rosbags', 'matplotlib': 'matplotlib'}
NEEDED = ('safetensors', 'yaml', 'rich', 'PIL')

Facts = Mapping[str, Any]


class Distribution(NamedTuple):
    """What a ROS 2 distribution comes with (REP 2000)."""

    python: tuple[int, int]
    numpy_below: int  # the major version that apt's cv_bridge was not built for
    ends: str


DISTRIBUTIONS = {
    'humble': Distribution((3, 10), 2, 'May 2027'),
    'jazzy': Distribution((3, 12), 2, 'May 2029'),
    'kilted': Distribution((3, 12), 2, 'December 2026'),
    'lyrical': Distribution((3, 14), 3, 'May 2031'),
}
GPU_DEVICES = ('/dev/nvidia0', '/dev/nvhost-gpu', '/dev/nvgpu/igpu0', '/dev/dxg')


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    subject: str
    level: str  # OK, WARN or FAIL
    text: str   # what was found
    remedy: str = ''

    def __str__(self) -> str:
        words = f'{self.text}: {self.remedy}' if self.remedy else self.text
        return f'{self.level:<5}{self.subject:<16}{words}'


def examine(facts: Facts) -> list[Finding]:
    """Judge the facts, one subject after another. A judge that fails is a finding itself."""
    findings = []
    for subject, judge in JUDGES.items():
        try:
            findings += judge(facts)
        except Exception as error:  # facts that nobody thought of must not hide the others
            findings.append(Finding(subject, WARN, f'cannot be judged ({type(error).__name__}: '
                                    f'{error})', 'report this line'))
    return findings


# Facts.

_ROOT = Path('/')
_RELEASES = (  # facts, in which files, and what to read there: the parts of a version
    ('os', 'etc/os-release', r'^PRETTY_NAME=["\']?(.*?)["\']?$'),
    ('l4t', 'etc/nv_tegra_release', r'R(\d+).*REVISION: ([\d.]+)'),
    ('driver', 'proc/driver/nvidia/version', r'\b(\d{3}\.[\d.]+)\b'))


def gather() -> dict[str, Any]:
    """Return what is to be known of this machine, without importing anything heavy here."""
    facts: dict[str, Any] = {'environment': {
        name: value for name, value in os.environ.items()
        if name.startswith(('ROS_', 'RMW_', 'FASTDDS_', 'FASTRTPS_', 'AMENT_', 'CUDA_VISIBLE',
                            'LC_', 'LANG', 'VIRTUAL_ENV'))}}
    for name, find in (('system', _system), ('memory', _memory), ('cpu', _cpu),
                       ('middleware', _middleware)):
        try:
            facts[name] = find()
        except Exception as error:
            facts[name] = {'raised': f'{type(error).__name__}: {error}'}
    with ThreadPoolExecutor(2) as pool:
        facts |= dict(zip(PROBES, pool.map(probe, PROBES), strict=True))
    return facts


def probe(name: str) -> dict[str, Any]:
    """Return what doctor_probe.py finds in a process of its own, or how that process ended."""
    command = [sys.executable, '-m', 'lednet_ros.cli.doctor_probe', name]
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
    except OSError as error:
        return {'raised': f'{sys.executable or "python"} cannot be started ({error.strerror})'}
    try:
        out, err = process.communicate(timeout=PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired as late:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # a driver may hold it for ever
            process.wait(1.0)
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
        return _answer(late.stdout or b'') or {
            'raised': f'no answer within {PROBE_TIMEOUT_S:.0f} s'}
    found = _answer(out)
    if found:  # how it ended after that was not asked
        return found
    last = (err.decode(errors='replace').strip().splitlines() or [''])[-1][:300]
    ended = (f'ended by signal {-process.returncode}' if process.returncode < 0
             else f'ended with code {process.returncode}')
    return {'raised': f'importing it {ended}' + (f' ({last})' if last else '')}


def _answer(out: bytes) -> dict[str, Any] | None:
    """Return the facts that a probe printed, whatever libraries print around them."""
    for line in reversed(out.decode(errors='replace').splitlines()):
        with suppress(ValueError, RecursionError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return None


def _system() -> Facts:
    facts: dict[str, Any] = {
        'python': list(sys.version_info[:3]), 'executable': sys.executable,
        'machine': f'{platform.system()} {platform.machine()}',
        'is_venv': sys.prefix != sys.base_prefix, 'encoding': locale.getpreferredencoding(False),
        'home': os.environ.get('HOME', ''),
        'gpu_devices': [path for path in GPU_DEVICES if os.path.exists(path)]}
    for name, place, pattern in _RELEASES:
        with suppress(OSError):
            found = re.search(pattern, (_ROOT / place).read_text(
                encoding='utf-8', errors='replace'), re.MULTILINE)
            facts[name] = '.'.join(found.groups()) if found else 'unknown'
    facts['missing'] = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    with suppress(importlib.metadata.PackageNotFoundError):
        facts['lednet_ros'] = importlib.metadata.version('lednet_ros')
    return facts


def _memory() -> Facts:
    lines = (_ROOT / 'proc/meminfo').read_text(encoding='utf-8').splitlines()
    kib = {line.split(':')[0]: int(line.split()[1]) for line in lines}
    facts: dict[str, Any] = {
        'total_mb': kib['MemTotal'] / 1024, 'swap_mb': kib.get('SwapTotal', 0) / 1024,
        'available_mb': kib.get('MemAvailable', kib['MemFree']) / 1024, 'shm_mb': 0.0}
    for place in ('sys/fs/cgroup/memory.max', 'sys/fs/cgroup/memory/memory.limit_in_bytes'):
        with suppress(OSError, ValueError):  # 'max', for one
            limit_mb = int((_ROOT / place).read_text(encoding='ascii')) / 2**20
            if limit_mb < facts['total_mb']:
                facts |= {'total_mb': limit_mb, 'is_limited': True,
                          'available_mb': min(limit_mb, facts['available_mb'])}
    with suppress(OSError):
        facts['shm_mb'] = shutil.disk_usage(_ROOT / 'dev/shm').total / 2**20
    return facts


def _cpu() -> Facts:
    from lednet_ros.common.cpu import usable_cores
    return {'cores': os.cpu_count(), 'usable': usable_cores(), 'load': os.getloadavg()[0]}


def _middleware() -> Facts:
    from lednet_ros.nodes.shared.dds_profile import PROFILE_VARIABLES, large_image_environment
    files = [os.environ[name] for name in PROFILE_VARIABLES if os.environ.get(name)]
    return {'lacks': large_image_environment(os.environ),
            'missing_files': [file for file in files if not Path(file).is_file()]}


# Judges, one a subject: facts in, findings out.

def _raised(subject: str, facts: Facts, name: str, remedy: str, level: str = FAIL
            ) -> list[Finding]:
    """Return what the import of a part raised, or how it ended its process; [] if neither."""
    said, library = (facts.get(name, {}).get(key) for key in ('raised', 'library'))
    if said and library in (*PACKAGES, 'numpy'):
        said = f'{library} cannot be loaded ({said})'
        remedy = f'pip install --force-reinstall {PACKAGES.get(library, library)}'
    return [Finding(subject, level, str(said), remedy)] if said else []


def _judge_system(facts: Facts) -> list[Finding]:
    system = facts['system']
    if 'raised' in system:
        return [Finding('system', WARN, system['raised'])]
    version = '.'.join(map(str, system['python']))
    distribution = DISTRIBUTIONS.get(facts['environment'].get('ROS_DISTRO', ''))
    python = f'{version} on {system["machine"]}' + (
        ', in a venv' if system['is_venv'] else '')
    findings = [Finding('lednet_ros', OK, system.get('lednet_ros', 'not installed: run from its '
                                                     'checkout')),
                Finding('system', OK, system.get('os', 'unknown Linux'))]
    if tuple(system['python'][:2]) < (3, 10):
        findings.append(Finding('Python', FAIL, python, 'install Python 3.10 or later'))
    elif distribution and tuple(system['python'][:2]) != distribution.python:
        wanted = '.'.join(map(str, distribution.python))
        findings.append(Finding(
            'Python', WARN, f'{python}, but apt\'s ROS 2 {facts["environment"]["ROS_DISTRO"]} has '
            f'{wanted}', f'make the venv with python{wanted} --system-site-packages'))
    else:
        findings.append(Finding('Python', OK, python))
    if 'utf' not in system['encoding'].lower():
        findings.append(Finding('locale', WARN, f'its encoding is {system["encoding"]}',
                                'set LANG=C.UTF-8, else names may be shown escaped'))
    if system['missing']:
        packages = ' '.join(PACKAGES[name] for name in system['missing'])
        findings.append(Finding(
            'packages', FAIL if set(NEEDED) & set(system['missing']) else WARN,
            f'without {", ".join(system["missing"])}', f'pip install {packages}'))
    if not system['home']:
        findings.append(Finding('home', WARN, 'HOME is not set', 'set it, or engine_cache_dir and '
                                'ROS_LOG_DIR'))
    return findings


def _judge_ros(facts: Facts) -> list[Finding]:
    name = facts['environment'].get('ROS_DISTRO', '')
    ros = facts['ros']
    if ros.get('is_missing') == 'rclpy':
        return [Finding('ROS 2', WARN, 'rclpy is not there: nodes, lednet_demo and lednet_top do '
                        'not run', 'source /opt/ros/<distribution>/setup.bash, or use make demo')]
    failed = _raised('ROS 2', facts, 'ros', 'source ROS 2, then the workspace')
    if failed:
        return failed
    text = f'{name or "from wheels"}, {ros["middleware"]}'
    if name in DISTRIBUTIONS:
        text += f', maintained until {DISTRIBUTIONS[name].ends}'
    if ros.get('refusal'):
        return [Finding('ROS 2', FAIL, f'{text}: {ros["refusal"]}')]
    findings = [Finding('ROS 2', OK, text)]
    missing = ros.get('missing', [])
    if missing:
        packages = ' '.join(f'ros-$ROS_DISTRO-{one.replace("_", "-")}' for one in missing)
        findings.append(Finding('ROS packages', WARN, f'without {", ".join(missing)} some outputs '
                                'or poses from TF are missing', f'apt install {packages}'))
    return findings


def _judge_middleware(facts: Facts) -> list[Finding]:
    middleware = facts['middleware']
    if 'raised' in middleware:
        return [Finding('large images', WARN, middleware['raised'])]
    if facts['ros'].get('is_missing') == 'rclpy':
        return []
    if middleware['missing_files']:
        return [Finding('large images', FAIL, f'{", ".join(middleware["missing_files"])}: is not '
                        'there', 'correct or unset the variable of the Fast DDS profile')]
    if middleware['lacks']:
        setting = ' '.join(f'{k}={v}' for k, v in middleware['lacks'].items())
        return [Finding('large images', WARN, 'this shell has no Fast DDS profile for them: a '
                        'camera driver started here loses large best-effort images',
                        f'export {setting}')]
    return [Finding('large images', OK, 'the middleware is set up for them, or is not Fast DDS')]


def _judge_opencv(facts: Facts) -> list[Finding]:
    failed = _raised('OpenCV', facts, 'opencv', 'install numpy and opencv-python-headless, or '
                     "apt's python3-opencv")
    if failed:
        return failed
    found = facts['opencv']
    text = f'{found["opencv"]}, numpy {found["numpy"]}'
    findings = [Finding('OpenCV', OK, text)]
    if not found['ffmpeg']:
        findings = [Finding('OpenCV', WARN, f'{text}, built without FFmpeg', 'videos may not be '
                            'read or written')]
    name = facts['environment'].get('ROS_DISTRO', '')
    bridge = facts['cv_bridge']
    if bridge.get('problem'):
        findings.append(Finding('cv_bridge', WARN, bridge['problem']))
    elif bridge.get('is_installed'):
        findings.append(Finding('cv_bridge', OK, 'fits this numpy'))
    elif name in DISTRIBUTIONS and int(found['numpy'].split('.')[0]) >= DISTRIBUTIONS[
            name].numpy_below:
        findings.append(Finding('numpy', WARN, f'{found["numpy"]}, but {name}\'s packages are '
                                f'built for numpy below {DISTRIBUTIONS[name].numpy_below}',
                                f"pip install 'numpy<{DISTRIBUTIONS[name].numpy_below}'"))
    return findings


def _judge_gpu(facts: Facts) -> list[Finding]:
    torch, system = facts['torch'], facts['system']
    board = [Finding('Jetson', OK, f'L4T {system["l4t"]}')] if system.get('l4t') else []
    failed = _raised('torch', facts, 'torch', 'install torch by the table of boards in '
                     'docs/install.md')
    if failed:
        return [*failed, *board]
    build = f'for CUDA {torch["cuda"]}' if torch['cuda'] else 'a CPU build'
    findings = [Finding('torch', OK, f'{torch["version"]}, {build}' + (
        f', cuDNN {torch["cudnn"]}' if torch.get('cudnn') else '')), *board]
    if not torch['gpus']:
        why = torch.get('why_no_gpu', 'no CUDA GPU')
        if why == 'no CUDA GPU' and board:
            findings.append(Finding('GPU', FAIL, "none of the Jetson's GPU devices is here",
                                    'in a container, start that with --runtime nvidia'))
        elif why == 'no CUDA GPU':
            findings.append(Finding('GPU', OK, 'none: the network runs on the CPU'))
        else:
            cause, _, remedy = why.partition(': ')
            driver = f', driver {system["driver"]}' if system.get('driver') else ''
            findings.append(Finding('GPU', FAIL, f'{cause}{driver}', remedy))
        return findings
    for gpu in torch['gpus']:
        text = f'{gpu["name"]}, compute capability {gpu["capability"]}'
        if gpu.get('refusal'):
            findings.append(Finding('GPU', FAIL, f'{text}: {gpu["refusal"]}'))
            continue
        text += f', {gpu["free_mb"]:.0f} of {gpu["total_mb"]:.0f} MB free'
        findings.append(Finding('GPU', OK, text) if gpu['free_mb'] >= 1024 else Finding(
            'GPU', WARN, text, 'end what holds its memory, or make the input smaller'))
    return findings


def _judge_tensorrt(facts: Facts) -> list[Finding]:
    found = facts['tensorrt']
    if not facts['torch'].get('gpus'):
        return [Finding('TensorRT', OK, 'not needed without a GPU')]
    if 'raised' in found:
        return [Finding('TensorRT', WARN, str(found['raised']), 'torch runs the network instead')]
    if 'refusal' in found:
        return [Finding('TensorRT', WARN, str(found['refusal']))]
    if found.get('doubt'):
        return [Finding('TensorRT', WARN, found['doubt'], 'it is tried all the same')]
    return [Finding('TensorRT', OK, f'torch_tensorrt {found["torch_tensorrt"]}, TensorRT '
                    f'{found["tensorrt"]}')]


def _judge_onnxruntime(facts: Facts) -> list[Finding]:
    found = facts['onnxruntime']
    if 'raised' in found:
        needed = WARN if not facts['torch'].get('gpus') else OK
        return [Finding('ONNX Runtime', needed, f'{found["raised"]}', 'pip install onnxruntime '
                        'onnx: on a CPU it is three times as fast as torch')]
    return [Finding('ONNX Runtime', OK, found['version'])]


def _judge_checkpoint(facts: Facts) -> list[Finding]:
    failed = _raised('checkpoint', facts, 'checkpoint', 'install the package again')
    if failed:
        # Without torch nothing can read it, which is said above.
        without = facts['checkpoint'].get('is_missing') or facts['torch'].get('raised')
        return [] if without else failed
    found = facts['checkpoint']
    return [Finding('checkpoint', OK, f'{found["name"]}, {found["labels"]}')]


def _judge_cache(facts: Facts) -> list[Finding]:
    cache = facts['cache']
    if 'raised' in cache:
        return [] if cache.get('is_missing') else [
            Finding('engine cache', WARN, str(cache['raised']))]
    if not cache['can_keep']:
        return [Finding('engine cache', WARN, f'{cache["directory"] or "no home directory"}: '
                        'engines cannot be kept, and are built at each start',
                        'give a writable engine_cache_dir')]
    here = {'torch': facts['torch'].get('version'),
            'torch_tensorrt': facts['tensorrt'].get('torch_tensorrt'),
            'tensorrt': facts['tensorrt'].get('tensorrt'),
            'onnxruntime': facts['onnxruntime'].get('version')}
    engines = [engine for engine in cache['engines'] if engine['is_whole']]
    fit = sum(all(here.get(name) == version for name, version in engine['versions'] or ()
                  if name in here) for engine in engines)
    text = (f'{cache["directory"]}: {len(engines)} engines, {fit} of them of these versions, '
            f'{cache["free_mb"]:.0f} MB free')
    damaged = len(cache['engines']) - len(engines)
    if cache['free_mb'] < 500:
        return [Finding('engine cache', WARN, text, 'make room: an engine takes some 10 MB, '
                        'building it more')]
    if damaged:
        return [Finding('engine cache', WARN, f'{text}; {damaged} damaged files, whose engines '
                        'are built anew', 'lednet_compile --prune deletes them, and the others')]
    return [Finding('engine cache', OK, text)]


def _judge_memory(facts: Facts) -> list[Finding]:
    memory = facts['memory']
    if 'raised' in memory:
        return [Finding('memory', WARN, memory['raised'])]
    text = f'{memory["available_mb"]:.0f} of {memory["total_mb"]:.0f} MB available' + (
        ", by the container's limit" if memory.get('is_limited') else '')
    findings = [Finding('memory', OK, text) if memory['available_mb'] >= 1500 else Finding(
        'memory', WARN, text, 'building an engine and loading torch take 1.5 GB: end other '
        'processes or add swap')]
    if memory['shm_mb'] < 128:
        findings.append(Finding(
            '/dev/shm', WARN, f'{memory["shm_mb"]:.0f} MB, where Fast DDS keeps 16 MB for each '
            'participant', 'give the container --shm-size=256m'))
    return findings


def _judge_cpu(facts: Facts) -> list[Finding]:
    cpu = facts['cpu']
    if 'raised' in cpu:
        return [Finding('CPU', WARN, cpu['raised'])]
    text = f'{cpu["usable"]} of {cpu["cores"]} cores, load {cpu["load"]:.1f}'
    if cpu['usable'] < cpu['cores']:
        text += ', by affinity or a quota'
    return [Finding('CPU', OK, text) if cpu['load'] <= cpu['usable'] else Finding(
        'CPU', WARN, text, 'others want the cores too: latency will vary')]


JUDGES: dict[str, Callable[[Facts], list[Finding]]] = {
    'system': _judge_system, 'ROS 2': _judge_ros, 'large images': _judge_middleware,
    'OpenCV': _judge_opencv, 'torch': _judge_gpu, 'TensorRT': _judge_tensorrt,
    'ONNX Runtime': _judge_onnxruntime, 'checkpoint': _judge_checkpoint,
    'engine cache': _judge_cache, 'memory': _judge_memory, 'CPU': _judge_cpu,
}


def _write(path: Path, record: Mapping[str, Any]) -> None:
    """Write JSON without what other commands need for it, which may not be there."""
    try:
        path.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')
    except OSError as error:
        raise ConfigError(f'{path}: cannot be written: {error.strerror}: choose another '
                          '--json') from error


@command('lednet_doctor')
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 where something fails."""
    parser = argparse.ArgumentParser(
        prog='lednet_doctor', description='Look at what this machine has to run lednet_ros with: '
        'a line each, what fails and how to mend it. Paste it into an issue.')
    parser.add_argument('--json', type=Path, metavar='FILE',
                        help='write the findings, and the facts behind them, there too')
    arguments = parser.parse_args(argv)
    facts = gather()
    findings = examine(facts)
    if arguments.json:
        _write(arguments.json, {'findings': [asdict(f) for f in findings], 'facts': facts})
    for finding in findings:
        print(printable(str(finding)))
    count = {level: sum(f.level == level for f in findings) for level in (OK, WARN, FAIL)}
    print(f'{count[OK]} ok, {count[WARN]} to look at, {count[FAIL]} to mend')
    return 1 if count[FAIL] else 0


if __name__ == '__main__':
    sys.exit(main())
