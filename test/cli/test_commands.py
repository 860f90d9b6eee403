# SPDX-License-Identifier: Apache-2.0
"""What all commands share: streams that are closed or full, errors in one line, exit codes."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bare_environment import bare_environment

from lednet_ros.cli import console_scripts as commands
from lednet_ros.common.command import command
from lednet_ros.common.errors import ConfigError, DataError, LednetRosError

ROOT = Path(__file__).parents[2]
WORK = """
import argparse, sys
from rich.progress import Progress
from lednet_ros.cli import console_scripts as commands
from lednet_ros.common.command import command
from lednet_ros.common.errors import ConfigError
from lednet_ros.common.progress_bar import progress_bar

@command('work')
def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument('what', nargs='?')
    what = parser.parse_args(argv).what
    with progress_bar() as progress:
        progress.console.print('working')
        for _ in progress.track(range(3)):
            pass
    if what == 'error':
        raise ConfigError('road.png: is none: give one')
    print('found\\n' * (100_000 if what == 'much' else 1))
    open(sys.argv[2], 'w').write('done')
    return 3

sys.exit(main(sys.argv[1:2]))
"""


def work(
    tmp_path: Path, redirection: str, what: str = 'little', python: str = ''
) -> tuple[int, str, bool]:
    """Run a command in a shell: its exit code, what stderr got, whether its work was done."""
    done = tmp_path / 'done'
    (tmp_path / 'work.py').write_text(WORK)
    ran = subprocess.run(
        ['bash', '-c', f'{sys.executable} {python} {tmp_path}/work.py {what} {done} '
         f'{redirection}; exit ${{PIPESTATUS[0]}}'],
        cwd=ROOT, env=bare_environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True,
        timeout=120)
    return ran.returncode, ran.stderr, done.exists()


@pytest.mark.parametrize('redirection', [
    '>&-', '2>&-', '>&- 2>&-', '<&- >&- 2>&-', '2>/dev/full', '2> >(exit)', '>&- 2>/dev/full'])
def test_a_closed_stdout_and_a_stderr_that_fails_do_not_hinder_the_work(
    tmp_path, redirection
) -> None:
    code, said, is_done = work(tmp_path, redirection)
    assert (code, is_done) == (3, True)
    assert 'Traceback' not in said


@pytest.mark.parametrize('python', ['', '-u'], ids=['buffered', 'unbuffered'])
@pytest.mark.parametrize('what', ['little', 'much', '--help'])
def test_a_full_stdout_is_one_line_and_exit_1(tmp_path, what, python) -> None:
    code, said, _ = work(tmp_path, '>/dev/full', what, python)
    assert code == 1
    assert said.splitlines()[-1] == (
        'work: standard output: cannot be written: No space left on device: make room, or send '
        'it elsewhere')
    assert 'Traceback' not in said
    assert 'Exception ignored' not in said


@pytest.mark.parametrize('python', ['', '-u'], ids=['buffered', 'unbuffered'])
@pytest.mark.parametrize('what', ['little', 'much', '--help'])
def test_a_reader_that_has_gone_ends_it_silently_as_sigpipe_would(tmp_path, what, python) -> None:
    code, said, _ = work(tmp_path, '| sleep 0', what, python)
    if what == 'much':  # the rest may have found room in the pipe
        assert code == 141
    assert code in (0, 3, 141)
    assert 'Broken' not in said
    assert 'Traceback' not in said


@pytest.mark.parametrize(('redirection', 'expected'), [
    ('', 'work: road.png: is none: give one'), ('2>&-', ''), ('2>/dev/full', ''),
    ('>/dev/full', 'work: road.png: is none: give one')])
def test_an_error_is_one_line_wherever_it_can_be_said(tmp_path, redirection, expected) -> None:
    code, said, _ = work(tmp_path, redirection, 'error')
    assert code == 1
    assert said.splitlines()[-1:] == ([expected] if expected else [])


def test_an_error_stays_one_line_whatever_characters_it_has(capsys) -> None:
    @command('work')
    def main(argv=None) -> int:
        raise ConfigError('a\nb\x1b[2Jé\udce9.png: is none')

    assert main() == 1
    assert capsys.readouterr().err == 'work: a\\nb\\x1b[2Jé\\udce9.png: is none\n'


def test_an_error_of_several_lines_has_them(capsys) -> None:
    error = DataError('2 pairs cannot be used:', 'a.png: is none', 'b.png: is none')
    assert str(error) == '2 pairs cannot be used:\na.png: is none\nb.png: is none'

    @command('work')
    def main(argv=None) -> int:
        raise error

    assert main() == 1
    assert capsys.readouterr().err == f'work: {error}\n'


@pytest.mark.parametrize(('raised', 'code'), [
    (KeyboardInterrupt(), 130), (LednetRosError('no'), 1), (SystemExit(2), None)])
def test_exit_codes(raised, code) -> None:
    @command('work')
    def main(argv=None) -> int:
        raise raised

    if code is None:
        with pytest.raises(SystemExit):
            main()
    else:
        assert main() == code


def test_too_little_memory_is_one_line(capsys) -> None:
    @command('work')
    def main(argv=None) -> int:
        return int(np.empty((10**9, 10**9), np.uint8).sum())

    assert main() == 1
    assert capsys.readouterr().err.startswith(
        'work: there is too little memory (Unable to allocate ')


def test_what_is_no_user_s_error_keeps_its_traceback() -> None:
    @command('work')
    def main(argv=None) -> int:
        raise OSError('a bug')

    with pytest.raises(OSError, match='a bug'):
        main()


def console_scripts() -> list[str]:
    """Read the entry points of setup.py."""
    [scripts] = [ast.literal_eval(value) for node in ast.walk(
        ast.parse((ROOT / 'setup.py').read_text())) if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == 'console_scripts']
    return scripts


HELP = """
import sys
from lednet_ros.cli import console_scripts as commands
for name in sys.argv[1:]:
    try:
        getattr(commands, name)(['--help'])
    except SystemExit:
        assert 'torch' not in sys.modules, name
    else:
        raise AssertionError(name)
"""


def test_help_does_not_wait_for_torch() -> None:
    names = [script.partition(' = ')[0] for script in console_scripts()]
    subprocess.run([sys.executable, '-c', HELP, *(n for n in names if n.startswith('lednet_'))],
                   cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT)}, check=True,
                   stdout=subprocess.DEVNULL)


def test_every_command_is_loaded_when_it_is_called_and_shares_it() -> None:
    scripts = [script.partition(' = ') for script in console_scripts()]
    assert scripts
    for name, _, place in scripts:
        assert place == f'lednet_ros.cli.console_scripts:{name}'
        assert hasattr(getattr(commands, name), '__wrapped__')


WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(',')))  # as if none of them were there
from lednet_ros.cli import console_scripts as commands
arguments = {'lednet_segment': ['x.png', '--output', 'y'], 'lednet_export': ['--output', 'x.onnx'],
             'lednet_select': ['x.png', '--count', '1', '--output', 'y'],
             'lednet_train': ['--data', 'x', '--output', 'y'],
             'lednet_evaluate': ['--data', 'x', '--checkpoint', 'y']}
for name in sys.argv[2].split(','):
    print(name, getattr(commands, name)(arguments.get(name, [])))
"""
NODES = ['segment_node', 'ground_node', 'semantic_cloud_node', 'image_source_node']
NEED_TORCH = ['segment_node', 'lednet_benchmark', 'lednet_segment', 'lednet_train',
              'lednet_evaluate', 'lednet_compile', 'lednet_select', 'lednet_export']


@pytest.mark.slow
@pytest.mark.parametrize(('missing', 'names', 'words'), [
    (['torch'], NEED_TORCH, "torch: is not installed: install PyTorch's build for this machine"),
    (['cv2'], [*NEED_TORCH, 'ground_node', 'lednet_demo'],
     'cv2: is not installed: pip install opencv-python-headless'),
    (['rclpy', 'diagnostic_msgs', 'sensor_msgs'],
     [*NODES, 'lednet_demo', 'lednet_top', 'lednet_latency_report'],
     'is not installed: this command needs ROS 2: source its setup.bash'),
], ids=['torch', 'cv2', 'rclpy'])
def test_a_library_that_is_not_installed_is_one_line(tmp_path, missing, names, words) -> None:
    if 'rclpy' not in missing and importlib.util.find_spec('rclpy') is None:
        names = [name for name in names if name not in NODES]  # they miss that before
    ran = subprocess.run(
        [sys.executable, '-c', WITHOUT, ','.join(missing), ','.join(names)], cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True)
    assert ran.stdout.splitlines() == [f'{name} 1' for name in names], ran.stderr
    lines = ran.stderr.splitlines()
    assert [line.partition(': ')[0] for line in lines] == names
    assert [line for line in lines if words not in line] == []


@pytest.mark.parametrize(('error', 'said'), [
    (ImportError('libGL.so.1: cannot open shared object file', name='cv2'),
     'work: cv2: cannot be loaded: libGL.so.1: cannot open shared object file: pip install '),
    (ModuleNotFoundError("No module named 'onnx'", name='onnx.helper'),
     'work: onnx: is not installed: pip install onnx'),
    (ImportError("cannot import name 'f'", name='lednet_ros.common.command'), None),
    (ImportError('of no library'), None),
])
def test_a_library_that_cannot_be_loaded_is_one_line_and_a_fault_of_ours_is_not(
    capsys, error, said
) -> None:
    @command('work')
    def main(argv=None) -> int:
        raise error

    if said is None:
        with pytest.raises(ImportError):
            main()
    else:
        assert main() == 1
        assert capsys.readouterr().err.startswith(said)


def test_text_files_are_utf_8_whatever_the_locale() -> None:
    """Where it is not said, Python takes the locale's encoding, which in a container is ASCII."""
    unsaid = []
    for file in sorted((ROOT / 'lednet_ros').rglob('*.py')):
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Call) and not any(k.arg == 'encoding' for k in node.keywords):
                name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
                modes = [a.value for a in node.args if isinstance(a, ast.Constant)
                         and isinstance(a.value, str) and set(a.value) <= set('rwax+t')]
                if ((isinstance(node.func, ast.Attribute) and name in ('read_text', 'write_text'))
                        or (name in ('open', 'fdopen') and modes)
                        or (isinstance(node.func, ast.Name) and name == 'open'
                            and len(node.args) == 1)
                        or any(k.arg == 'text' for k in node.keywords)):
                    unsaid.append(f'{file.relative_to(ROOT)}:{node.lineno}')
    assert not unsaid
