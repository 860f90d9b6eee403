# SPDX-License-Identifier: Apache-2.0
"""lednet_top and lednet_latency_report beside a node, as over ssh."""
import itertools
import json
import queue
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rich.console import Console

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from sensor_msgs.msg import Image

from lednet_ros.monitor import latency_report, top
from lednet_ros.monitor.top import Board, main

SMALL = {'input_height': 64, 'input_width': 96, 'diagnostics.period_s': 0.2}


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-m', f'lednet_ros.monitor.{module}', *arguments],
                          capture_output=True, text=True)


def test_top_and_the_report_tell_of_a_live_node_and_write_json(graph, tmp_path) -> None:
    pytest.importorskip('matplotlib', reason='needs matplotlib')
    (tmp_path / 'images').mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{i}.png'), pixels)
    graph.start('lednet_ros.nodes.segment.segment_node', SMALL)
    graph.start('lednet_ros.nodes.image_source_node', {
        'source': str(tmp_path / 'images'), 'rate_hz': 10.0})
    graph.subscribe('/segment/label', Image).wait(3)
    shown = run('top', '--once')
    assert shown.returncode == 0, shown.stderr
    for words in ('segment', 'onnxruntime cpu fp32', 'transport', 'total', 'image', 'active'):
        assert words in shown.stdout
    written = run('top', '--once', '--json')
    report = json.loads(written.stdout.splitlines()[0])
    assert report['node'] == 'segment'
    assert report['engine']['values']['backend'] == 'onnxruntime'
    assert float(report['latency']['values']['total_p95_ms']) > 0
    assert report['cameras']['image']['values']['state'] == 'active'
    output = tmp_path / 'report.html'
    done = run('latency_report', '--seconds', '3', '--output', str(output))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split(': ')[1].split(' labels')[0]) > 5
    assert '<img' in output.read_text()


def test_what_others_report_is_shown_as_it_is_and_ends_nothing() -> None:
    words = '[/x]'
    array = SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0)),
        status=[SimpleNamespace(name=f'{words}: {task}', level=0, message=words, values=[
            SimpleNamespace(key=key, value=words)
            for key in ('input', 'size', 'state', 'inference_p50_ms')])
            for task in ('engine', 'latency', f'camera {words}')])
    board = Board('')
    board.take(array, now_s=0.0)
    console = Console(width=100)
    with console.capture() as shown:
        console.print(board.draw(now_s=0.0))
    # The title, three messages, an input, and the camera: its line's name, and of its row four.
    assert shown.get().count(words) == 9


def test_why_images_were_dropped_is_shown() -> None:
    def status(name: str, **values: str) -> SimpleNamespace:
        return SimpleNamespace(name=f'segment: {name}', level=0, message='', values=[
            SimpleNamespace(key=key, value=value) for key, value in values.items()])

    board = Board('')
    board.take(SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0)),
        status=[status('engine'), status('latency'), status(
            'camera image', dropped='7', dropped_newer='5', dropped_rate_limit='2',
            dropped_abandoned='0')]), now_s=0.0)
    console = Console(width=80)
    with console.capture() as shown:
        console.print(board.draw(now_s=0.0))
    assert '5 dropped: a newer one came before its turn' in shown.get()
    assert '2 dropped: sooner than max_rate_hz allows' in shown.get()
    assert 'after the node' not in shown.get()


def test_in_a_pipe_each_report_is_written_as_it_comes(monkeypatch, capsys) -> None:
    array = SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0)),
        status=[SimpleNamespace(name=f'segment: {name}', level=0, message=message, values=[])
                for name, message in (('engine', 'compiled'), ('latency', ''))])
    arrivals = iter([array, array])

    def get(timeout: float) -> SimpleNamespace:
        for message in arrivals:
            return SimpleNamespace(message=message)
        raise KeyboardInterrupt

    @contextmanager
    def listening(name: str):
        yield SimpleNamespace(arrivals=SimpleNamespace(get=get), listen_to=lambda *_: None)

    monkeypatch.setattr('lednet_ros.monitor.graph_listener.listening', listening)
    assert main(['--node', '/segment']) == 0  # as ROS writes it
    said = capsys.readouterr()
    assert said.out.count('compiled') == 2
    assert said.err == ''


def test_in_a_pipe_it_says_once_that_nobody_reports(monkeypatch, capsys) -> None:
    now_s = itertools.count()

    def get(timeout: float) -> SimpleNamespace:
        if next(now_s) > 40:
            raise KeyboardInterrupt
        raise queue.Empty

    @contextmanager
    def listening(name: str):
        yield SimpleNamespace(arrivals=SimpleNamespace(get=get), listen_to=lambda *_: None)

    monkeypatch.setattr('lednet_ros.monitor.graph_listener.listening', listening)
    monkeypatch.setattr(top, 'time', SimpleNamespace(monotonic=lambda: float(next(now_s))))
    assert main(['--json']) == 0
    assert capsys.readouterr().err.count('waiting for a segmentation node on /diagnostics') == 1


@pytest.mark.parametrize('command', [main, latency_report.main], ids=['top', 'report'])
@pytest.mark.parametrize('given', ['nan', 'inf', '-1', '0', 'soon'])
def test_a_time_that_is_none_is_refused(command, given, capsys) -> None:
    """One that never ends, above all."""
    option = '--within' if command is main else '--seconds'
    with pytest.raises(SystemExit):
        command([f'{option}={given}'])
    assert f'{given!r}: give a number above 0' in capsys.readouterr().err


@pytest.mark.usefixtures('graph')
def test_top_says_so_when_nobody_reports() -> None:
    silent = run('top', '--once', '--within', '1')
    assert silent.returncode == 1
    assert 'no segmentation node reported on /diagnostics' in silent.stderr
