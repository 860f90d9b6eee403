# SPDX-License-Identifier: Apache-2.0
"""lednet_segment --cluster, on a Ray of this machine with two workers."""

from __future__ import annotations

import filecmp
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

pytest.importorskip('rosbags', reason='needs rosbags')

from recordings import make_bag, make_video, street
from rosbags.rosbag2 import StoragePlugin

from lednet_ros.cli import segment
from lednet_ros.offline.cluster import Cluster, do_on_cluster

FRAMES = 100  # of the video; with 2 workers it is cut into parts
SETTINGS = ('--overlay', '--confidence', '--input-height', '160', '--input-width', '240')


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A long video, a long bag, pictures, and some that are damaged."""
    fleet = tmp_path / 'fleet'
    (fleet / 'photos').mkdir(parents=True)
    make_video(fleet / 'street.mp4', FRAMES)
    make_bag(fleet / 'drive', StoragePlugin.MCAP, 40)
    for i in range(4):
        cv2.imwrite(str(fleet / 'photos' / f'{i}.png'), street(i))
    (fleet / 'photos' / 'bad.png').write_bytes(b'no picture')
    (fleet / 'bad.mp4').write_bytes(b'no film')
    return fleet


def command(*words: object) -> list[str]:
    return [sys.executable, '-m', 'lednet_ros.cli.segment', *map(str, words), *SETTINGS]


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes below one of ours."""
    parents = {}
    for status in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = status.read_text().rpartition(')')[2].split()
        except OSError:
            continue
        parents[int(status.parent.name)] = int(fields[1])
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    yield from below - {pid}


def busy_workers(pid: int) -> list[int]:
    """Return Ray's workers that are in the middle of a job."""
    found = []
    for child in descendants(pid):
        try:
            title = Path(f'/proc/{child}/cmdline').read_bytes()
        except OSError:
            continue
        if title.startswith(b'ray::') and b'run_job' in title:
            found.append(child)
    return found


def kill_one_in_the_middle(process: subprocess.Popen, labels: Path) -> int:
    """Kill a worker once some of the video's labels are there, and not yet all."""
    while process.poll() is None:
        done = len(list(labels.glob('0*.png')))
        if 3 <= done < FRAMES // 2 and (workers := busy_workers(process.pid)):
            os.kill(workers[0], signal.SIGKILL)
            return done
        assert done < FRAMES // 2, 'it was too quick to be killed'
        time.sleep(0.02)
    raise AssertionError(process.communicate())


def files_below(directory: Path) -> list[Path]:
    return sorted(path.relative_to(directory) for path in directory.rglob('*') if path.is_file())


def test_a_worker_that_is_killed_costs_its_part_only_and_results_are_those_of_one_machine(
    fleet, tmp_path
) -> None:
    pytest.importorskip('ray', reason="needs Ray (pip install 'ray>=2.9')")
    alone = subprocess.run(command(fleet, '--output', tmp_path / 'alone'), capture_output=True,
                           text=True)
    process = subprocess.Popen(
        command(fleet, '--output', tmp_path / 'many', '--cluster', '--workers', 2),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    kill_one_in_the_middle(process, tmp_path / 'many' / 'label' / 'street')
    out, said = process.communicate()
    assert process.returncode == alone.returncode == 1, said
    assert said.count('it is run again') == said.count(': its worker ended (') >= 1
    # The same counts: what the killed one has done is not done again, and counted once.
    expected = alone.stdout.splitlines()[-1].replace('/alone', '/many')
    assert out.splitlines()[-1] == expected
    assert 'bad.png: ' in said
    assert 'bad.mp4: cannot be opened as a video' in said
    names = files_below(tmp_path / 'alone')
    assert files_below(tmp_path / 'many') == names  # and nothing half written
    _, other, unread = filecmp.cmpfiles(tmp_path / 'alone', tmp_path / 'many', names,
                                        shallow=False)
    assert (other, unread) == ([], [])
    assert not list(descendants(os.getpid()))

    again = subprocess.run(command(fleet, '--output', tmp_path / 'many'), capture_output=True,
                           text=True)
    assert ': 0 segmented by ' in again.stdout


def test_without_ray_it_is_one_line(fleet, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'ray', None)
    monkeypatch.delenv('RAY_AUTH_TOKEN', raising=False)
    monkeypatch.setenv('no_proxy', 'mine')
    assert segment.main([str(fleet / 'photos'), '--output', str(tmp_path / 'out'), '--cluster',
                         '--input-height', '64', '--input-width', '96']) == 1
    assert "--cluster: Ray is not installed: pip install 'ray>=2.9', or do without" in (
        capsys.readouterr().err.replace('cannot be loaded (import of ray halted; None in '
                                        'sys.modules)', 'is not installed'))
    assert os.environ['no_proxy'] == 'mine'
    assert 'RAY_AUTH_TOKEN' not in os.environ


def test_an_address_that_nobody_answers_at_is_one_line(monkeypatch) -> None:
    pytest.importorskip('ray', reason="needs Ray (pip install 'ray>=2.9')")
    with pytest.raises(Exception, match='--cluster: nonsense: cannot be reached: '):
        do_on_cluster([], None, None, Cluster('nonsense'))


def test_sources_that_pass_for_an_address_are_an_error(fleet, tmp_path, capsys) -> None:
    assert segment.main([str(fleet), '--output', str(tmp_path / 'out'), '--cluster',
                         str(fleet / 'street.mp4')]) == 1
    assert 'street.mp4, which is a file or a directory: give the sources before it' in (
        capsys.readouterr().err)
