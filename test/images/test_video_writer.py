# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lednet_ros.common.errors import ConfigError
from lednet_ros.images.video_writer import Album


def fill(album: Album, count: int, rate_hz: float = 4.0) -> list[str]:
    """Add `count` pictures, red, taken at a rate; give the files' names."""
    for i in range(count):
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[..., 0] = 200
        album.add(picture, i / count, 1e9 + i / rate_hz)
    return [path.name for path in album.close()]


@pytest.mark.parametrize(('count', 'pictures'), [(25, 6), (7, 6), (3, 3), (1, 1)])
def test_a_film_holds_all_and_pictures_are_spread(
    tmp_path: Path, count: int, pictures: int
) -> None:
    names = fill(Album(tmp_path / 'new' / 'out', 'demo'), count)
    assert names == [*(f'demo_{i + 1}.png' for i in range(pictures)), 'demo.mp4']
    film = cv2.VideoCapture(str(tmp_path / 'new' / 'out' / 'demo.mp4'))
    frames = 0
    while film.read()[0]:
        frames += 1
    assert frames == count
    if count > 1:
        assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(4.0)


@pytest.mark.parametrize(('rate_hz', 'expected'), [
    (0.1, 0.5), (0.5, 0.5), (60.0, 60.0), (300.0, 60.0), (math.inf, 10.0), (-4.0, 10.0)])
def test_a_film_plays_at_a_pace_that_players_take(
    tmp_path: Path, rate_hz: float, expected: float,
) -> None:
    """Stamps may be all alike, or go back."""
    fill(Album(tmp_path, 'demo'), 12, rate_hz)
    film = cv2.VideoCapture(str(tmp_path / 'demo.mp4'))
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(expected, rel=1e-3)


def test_a_directory_may_have_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    """OpenCV 5 crashes over it."""
    directory = tmp_path / os.fsdecode(b'caf\xe9')
    assert fill(Album(directory, 'demo'), 12)[-1] == 'demo.mp4'
    (directory / 'demo.mp4').rename(tmp_path / 'demo.mp4')
    assert cv2.VideoCapture(str(tmp_path / 'demo.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert Image.open(directory / 'demo_1.png').getpixel((0, 0)) == (200, 0, 0)


def test_pictures_are_rgb(tmp_path: Path) -> None:
    fill(Album(tmp_path, 'demo'), 1)
    pixels = cv2.imread(str(tmp_path / 'demo_1.png'))
    assert pixels is not None
    assert pixels[0, 0].tolist() == [0, 0, 200]  # BGR


def test_only_files_of_its_own_go(tmp_path: Path) -> None:
    fill(Album(tmp_path, 'demo'), 6)
    for name in ('demo_notes.png', 'demo_1_marked.png', 'mine.png', 'demo.txt'):
        (tmp_path / name).write_text('mine')
    fill(Album(tmp_path, 'demo'), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'demo.mp4', 'demo.txt', 'demo_1.png', 'demo_1_marked.png', 'demo_2.png',
        'demo_notes.png', 'mine.png']


def test_nothing_added_leaves_nothing(tmp_path: Path) -> None:
    assert Album(tmp_path, 'demo').close() == []
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(ConfigError, match=r'file/out: cannot be written to: .*choose another'):
        Album(tmp_path / 'file' / 'out', 'demo')


def test_two_at_once_do_not_mix_their_pictures(tmp_path: Path) -> None:
    first = Album(tmp_path, 'demo')
    with pytest.raises(ConfigError, match='another command is writing to it: wait until'):
        Album(tmp_path, 'demo')
    first.close()
    Album(tmp_path, 'demo')
