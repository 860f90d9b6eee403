# SPDX-License-Identifier: Apache-2.0
"""What installing the package brings: by pip in a bare environment, by rosdep on a robot."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {'cv2': 'opencv-python-headless', 'yaml': 'PyYAML', 'PIL': 'pillow'}
# torch: which build fits is the machine's matter. The rest is ROS's, of rosbags, or in an extra.
NOT_OF_PIP = {
    'torch', 'torch_tensorrt', 'tensorrt', 'rclpy', 'cv_bridge', 'tf2_ros', 'ament_index_python',
    'rcl_interfaces', 'builtin_interfaces', 'tensorboard', 'pycocotools',
    'lz4', 'zstandard', 'backports', 'compression',
    'av', 'ray'}
REQUIREMENTS = """
import importlib.util, json, sys
from distutils.core import run_setup
found, absent = importlib.util.find_spec, sys.argv[1].split(',')
importlib.util.find_spec = lambda name, *more: None if name in absent else (
    found(name, *more) or 'as if it were there')
print(json.dumps(run_setup('setup.py', stop_after='init').install_requires))
"""


def requirements(absent: str) -> list[str]:
    """Return what setup.py asks pip for, where some modules cannot be found."""
    done = subprocess.run(
        [sys.executable, '-c', f'import setuptools\n{REQUIREMENTS}', absent], cwd=ROOT, text=True,
        capture_output=True, check=True)
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return [name.partition('>')[0] for name in names]


def imported() -> set[str]:
    """Return what the package imports anywhere."""
    modules = set()
    for file in (ROOT / 'lednet_ros').rglob('*.py'):
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            names = ([alias.name for alias in node.names] if isinstance(node, ast.Import) else
                     [node.module or ''] if isinstance(node, ast.ImportFrom) else [])
            modules |= {name.partition('.')[0] for name in names}
    return modules - {'', 'lednet_ros', '__future__', *sys.stdlib_module_names}


@pytest.mark.parametrize(('board', 'needs'), [
    ('jetpack6', {'dllist', 'packaging', 'typing-extensions'}),
    ('jetpack7', {'dllist', 'packaging', 'typing-extensions', 'filelock', 'psutil'})])
def test_a_jetson_gets_what_torch_tensorrt_needs_but_tensorrt(board: str, needs: set[str]) -> None:
    """By the metadata of its wheels (2.8; 2.9 and 2.12): there it is installed by --no-deps."""
    text = (ROOT / 'requirements' / f'robot-{board}.txt').read_text(encoding='utf-8')
    assert needs <= {re.split('[=<> ]', line)[0] for line in text.splitlines()}


def test_in_a_bare_environment_pip_brings_all_that_is_imported_but_torch_and_ros() -> None:
    needed = {DISTRIBUTIONS.get(name, name) for name in imported()
              if name not in NOT_OF_PIP and not name.endswith('_msgs')}
    assert 'opencv-python-headless' in needed
    assert needed <= {*requirements('cv2,onnxruntime')}


@pytest.mark.parametrize(('absent', 'name'), [
    ('onnxruntime', 'opencv-python-headless'), ('cv2', 'onnxruntime')])
def test_a_library_that_is_there_without_pip_s_metadata_is_not_asked_for(absent, name) -> None:
    """As apt's OpenCV: pip would call it missing, and a second one would hide it."""
    assert name not in requirements(absent)


def test_rosdep_brings_no_window_to_a_robot() -> None:
    depends = [element.text or '' for element in ElementTree.parse(
        ROOT / 'package.xml').getroot() if element.tag.endswith('depend')]
    assert 'rclpy' in depends
    assert not [name for name in depends if name.startswith(('rviz', 'rqt'))]


def test_every_source_file_names_its_licence() -> None:
    folders = ('lednet_ros', 'launch', 'benchmarks', 'tools', 'test', 'docs')
    files = [path for folder in folders for path in (ROOT / folder).rglob('*.py')]
    assert len(files) > 200
    licence = '# SPDX-License-Identifier: Apache-2.0'
    assert [path for path in files if path.stat().st_size and licence not in path.read_text(
        encoding='utf-8').splitlines()[:2]] == []
