# SPDX-License-Identifier: Apache-2.0
"""Films: in H.264 where PyAV is here, else as OpenCV writes them."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lednet_ros.images.film import lack_of_h264, open_film

PICTURE = np.full((47, 63, 3), (200, 60, 20), np.uint8)


@pytest.fixture
def opencv_alone(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'av', None)


def write(path: Path, pictures: int = 5) -> None:
    film = open_film(path, 12.5, *PICTURE.shape[:2])
    for i in range(pictures):
        film.add(np.roll(PICTURE, i, 1))
    film.close()


def test_it_is_h264_of_yuv_420_with_its_index_in_front(tmp_path) -> None:
    av = pytest.importorskip('av', reason='needs PyAV (pip install av)')
    write(tmp_path / 'film.mp4')
    with av.open(str(tmp_path / 'film.mp4')) as film:
        [stream] = film.streams
        assert (stream.codec.canonical_name, stream.format.name) == ('h264', 'yuv420p')
        assert (stream.width, stream.height) == (64, 48)  # even; the last row and column twice
        assert float(stream.average_rate) == 12.5
        frames = [frame.to_ndarray(format='rgb24') for frame in film.decode(stream)]
    assert len(frames) == 5
    assert np.abs(frames[0][:47, :63].astype(int) - PICTURE).mean() < 6
    data = (tmp_path / 'film.mp4').read_bytes()
    assert data.index(b'moov') < data.index(b'mdat')


def test_the_same_pictures_are_the_same_bytes(tmp_path) -> None:
    pytest.importorskip('av', reason='needs PyAV (pip install av)')
    write(tmp_path / 'a.mp4')
    write(tmp_path / 'b.mp4')
    assert (tmp_path / 'a.mp4').read_bytes() == (tmp_path / 'b.mp4').read_bytes()


def test_without_pyav_it_is_what_opencv_writes_and_the_remedy_is_one_line(
    tmp_path, opencv_alone
) -> None:
    assert 'as PyAV is not installed: pip install av makes them H.264' in lack_of_h264() or (
        'cannot be loaded' in lack_of_h264())
    write(tmp_path / 'film.mp4')
    film = cv2.VideoCapture(str(tmp_path / 'film.mp4'))
    assert (film.get(cv2.CAP_PROP_FRAME_COUNT), film.get(cv2.CAP_PROP_FPS)) == (5, 12.5)


@pytest.mark.parametrize('library', ['av', 'opencv'])
def test_a_disk_without_room_is_an_error(tmp_path, library) -> None:
    if library == 'av':
        pytest.importorskip('av', reason='needs PyAV (pip install av)')
    code = ('import sys\n'
            f'sys.modules.update({{"av": None}} if {library == "opencv"} else {{}})\n'
            'import numpy as np\n'
            'from lednet_ros.images.film import open_film\n'
            'film = open_film(__import__("pathlib").Path("film.mp4"), 12.0, 48, 64)\n'
            'try:\n'
            '    for i in range(60): film.add(np.random.default_rng(i).integers('
            '0, 256, (48, 64, 3), np.uint8))\n'
            '    film.close()\n'
            'except OSError: print("said")\n')
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    assert done.stdout == 'said\n', done.stderr
