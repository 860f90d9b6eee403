# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lednet_ros.common.errors import ConfigError
from lednet_ros.images import sources as frame_sources
from lednet_ros.images.sources import Part, open_source, repeated, resized


def grey(value: int, height: int = 32, width: int = 48) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def write_images(directory: Path, **values: int) -> Path:
    directory.mkdir(exist_ok=True)
    for name, value in values.items():
        cv2.imwrite(str(directory / name.replace('_', '.')), grey(value))
    return directory


def write_video(path: Path, count: int, rate_hz: float = 12.0) -> Path:
    """Frame i is grey, 10 x i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), rate_hz, (48, 32))
    assert writer.isOpened()
    for index in range(count):
        writer.write(grey(10 * index))
    writer.release()
    return path


def values(frames: Iterator[np.ndarray]) -> list[int]:
    return [round(float(frame.mean())) for frame in frames]


def test_images_come_in_natural_order(tmp_path: Path) -> None:
    write_images(tmp_path, img10_png=3, img9_png=2, IMG1_png=1)
    assert values(open_source(str(tmp_path)).frames()) == [1, 2, 3]


def test_what_is_no_image_of_a_directory_is_counted_and_let_be(tmp_path: Path) -> None:
    said: list[str] = []
    write_images(tmp_path, a_png=1, b_png=2)
    open_source(str(tmp_path), report=said.append)
    assert not said
    for name in ('._a.png', '.DS_Store', 'x.heic', 'README'):
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'frames.png').mkdir()
    source = open_source(str(tmp_path), report=said.append)
    assert values(source.frames()) == [1, 2]
    [line] = said
    counts, end = line.removeprefix(f'{tmp_path}: holds 2 images, but ').split(', which ')
    assert sorted(counts.split(', ')) == ['.heic: 1', 'hidden: 2', 'no files: 1', 'no suffix: 1']
    assert end == 'are skipped'
    for name in ('a.png', 'b.png'):
        (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match=f'{tmp_path}: holds no image, but hidden: 2, '):
        open_source(str(tmp_path))


@pytest.mark.parametrize(('part', 'expected'), [
    (Part(), [0, 10, 20, 30, 40]), (Part(2), [20, 30, 40]), (Part(0, 1), [0, 10]),
    (Part(3, 3), [30]), (Part(3, 99), [30, 40])], ids=str)
def test_a_part_has_exactly_its_frames(tmp_path: Path, part: Part, expected: list[int]) -> None:
    video = write_video(tmp_path / 'a.avi', 5)
    images = write_images(tmp_path / 'a', **{f'{i}_png': 10 * i for i in range(5)})
    for source in (video, images):
        opened = open_source(str(source), part)
        for _ in range(2):  # each pass begins anew
            assert values(opened.frames()) == pytest.approx(expected, abs=3)


@pytest.mark.parametrize('name', [
    b'caf\xe9.avi', b'caf\xe9.\xe9', 'ü %03d\n.avi'.encode(), b'http:a.avi', b'0.avi'])
def test_a_video_may_have_any_name(tmp_path: Path, name: bytes) -> None:
    """OpenCV 5 crashes over one that is not UTF-8."""
    (tmp_path / os.fsdecode(b'\xe9')).mkdir()
    for directory in (tmp_path, tmp_path / os.fsdecode(b'\xe9')):
        video = directory / os.fsdecode(name)
        write_video(tmp_path / 'plain.avi', 3).rename(video)
        opened = open_source(str(video))
        assert values(opened.frames()) == pytest.approx([0, 10, 20], abs=3)
        assert values(opened.frames()) == pytest.approx([0, 10, 20], abs=3)


def test_a_video_that_opencv_cannot_be_told_of_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    video = write_video(tmp_path / 'a.avi', 3).rename(tmp_path / os.fsdecode(b'\xe9.avi'))
    for temporary in (tmp_path / os.fsdecode(b'\xe8'), tmp_path / 'absent'):
        if temporary.name != 'absent':
            temporary.mkdir()
        monkeypatch.setattr('tempfile.tempdir', str(temporary))
        with pytest.raises(ConfigError, match=r'avi: OpenCV takes UTF-8 only, .*: rename it'):
            open_source(str(video))


def test_without_a_home_directory_a_tilde_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('os.path.expanduser', lambda path: path)  # as where HOME is not set
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r'^~/a.png: there is no home directory, as HOME is '):
        open_source('~/a.png')
    assert not list(tmp_path.iterdir())


def test_a_video_knows_its_rate(tmp_path: Path) -> None:
    assert open_source(str(write_video(tmp_path / 'a.avi', 2))).rate_hz == pytest.approx(12.0)


def test_an_unreadable_image_is_reported_once_and_left_out(tmp_path: Path) -> None:
    write_images(tmp_path, a_png=1, c_png=3)
    (tmp_path / 'b.png').write_bytes(b'not a picture')
    reports: list[str] = []
    source = open_source(str(tmp_path), report=reports.append)
    assert values(source.frames()) + values(source.frames()) == [1, 3, 1, 3]
    assert reports == [f'{tmp_path}/b.png: 13 bytes and no PNG, JPEG, BMP, PNM, TIFF or WebP '
                       'image: left out']


@pytest.mark.parametrize(('name', 'part', 'words'), [
    ('', Part(), 'source: is not set: give a directory'),
    ('absent', Part(), '/absent: does not exist: give a directory'),
    ('empty', Part(), '/empty: holds no image: put .png'),
    ('broken', Part(), '/broken: none of the 2 image files chosen can be read (a.png: 0 '),
    ('three', Part(3), '/three: has 3 images, so there is no frame 3: give a first_frame below'),
    ('20261125', Part(), '/20261125: holds no image: put .png'),
    ('text.mp4', Part(), '/text.mp4: cannot be opened as a video: give one that plays'),
    ('five.avi', Part(5), '/five.avi: has 5 frames, so there is no frame 5: give a first_frame'),
], ids=lambda case: case if isinstance(case, str) and len(case) < 9 else '')
def test_an_error_names_thing_cause_and_remedy(
    tmp_path: Path, name: str, part: Part, words: str,
) -> None:
    for directory in ('empty', '20261125', 'broken'):
        (tmp_path / directory).mkdir()
    (tmp_path / 'broken/a.png').write_bytes(b'')
    (tmp_path / 'broken/b.jpg').write_bytes(b'not a picture')
    write_images(tmp_path / 'three', a_png=1, b_png=2, c_png=3)
    (tmp_path / 'text.mp4').write_text('not a video')
    write_video(tmp_path / 'five.avi', 5)
    reports: list[str] = []
    with pytest.raises(ConfigError) as caught:
        list(open_source(name and str(tmp_path / name), part, reports.append).frames())
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)
    assert not reports  # the error says it all


@pytest.mark.parametrize('name', ['photo', 'photo.jfif', 'photo.dat', 'photo.mp4'])
def test_a_picture_is_one_whatever_its_name_says(tmp_path: Path, name: str) -> None:
    """As a film it would be shown half, too, and not turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (40, 20), 'red').save(tmp_path / 'a.jpg', exif=exif)
    data = (tmp_path / 'a.jpg').read_bytes()
    (tmp_path / name).write_bytes(data)
    [frame] = open_source(str(tmp_path / name)).frames()
    assert frame.shape == (40, 20, 3)
    (tmp_path / name).write_bytes(data[:len(data) // 2])
    with pytest.raises(ConfigError, match='cut short or damaged'):
        list(open_source(str(tmp_path / name)).frames())


@pytest.mark.parametrize(('name', 'data', 'words'), [
    ('notes.txt', b'one line\nand another\n' * 50, 'cannot be opened as a video'),
    ('list.m3u8', b'#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n', 'cannot be opened as'),
    ('photo.avif', b'\0\0\0\x1cftypavif\0\0\0\0', 'is a HEIC or AVIF picture, which is not read'),
    ('photo.heic', b'\0\0\0\x18ftypheic\0\0\0\0', 'is a HEIC or AVIF picture, which is not read'),
], ids=['text', 'playlist', 'AVIF', 'HEIC'])
def test_what_ffmpeg_would_make_a_film_of_is_none(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=words):
        open_source(str(tmp_path / name))


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'drive.mp4')
    with pytest.raises(ConfigError, match='is no file: give a directory of images'):
        open_source(str(tmp_path / 'drive.mp4'))


def test_numbered_pictures_are_no_film_of_one_of_them(tmp_path: Path) -> None:
    """OpenCV reads PAM, and would take drive_1.mp4 for the frame after drive_0.mp4."""
    head = b'P7\nWIDTH 4\nHEIGHT 2\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n'
    for i in range(2):
        (tmp_path / f'drive_{i}.mp4').write_bytes(head + bytes(24))
    with pytest.raises(ConfigError, match='cannot be opened as a video'):
        open_source(str(tmp_path / 'drive_0.mp4'))


@pytest.mark.parametrize('name', ['drive/drive_0.db3', 'drive.mcap', 'drive.bag'])
def test_a_bag_is_called_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b'')
    bag = tmp_path / Path(name).parts[0]
    with pytest.raises(ConfigError, match=f"{bag}: is a bag: 'ros2 bag play' plays it, "):
        open_source(str(bag))


@pytest.mark.parametrize(('first', 'last'), [(2, 1), (-1, 3), (0, -2)])
def test_a_part_without_frames_is_refused(first: int, last: int) -> None:
    with pytest.raises(ConfigError, match=r'^(last_frame|frames) -?\d.*: .*: give '):
        Part(first, last)


@pytest.mark.parametrize(('held_bytes', 'decoded'), [(2 * 32 * 48 * 3, 2), (32 * 48 * 3, 6)],
                         ids=['fits', 'too large'])
def test_what_repeats_is_decoded_once_if_it_fits(held_bytes: int, decoded: int) -> None:
    count = 0

    def once() -> Iterator[np.ndarray]:
        nonlocal count
        for value in (5, 6):
            count += 1
            yield grey(value)

    assert values(islice(repeated(once, held_bytes), 6)) == [5, 6, 5, 6, 5, 6]
    assert count == decoded


def test_a_stopped_video_ends_without_error_even_if_repeated(tmp_path: Path) -> None:
    stop = threading.Event()
    source = open_source(str(write_video(tmp_path / 'a.avi', 5)), Part(3), stop=stop)
    stop.set()
    assert values(repeated(source.frames)) == []


def test_frames_are_resized_to_height_and_width() -> None:
    shapes = [f.shape for f in resized([grey(1, 32, 48), grey(1, 4, 6), grey(1, 8, 12)], 8, 12)]
    assert shapes == [(8, 12, 3)] * 3


class FakeCapture:
    """A webcam that delivers one frame, each time it is opened; the second opening fails."""

    opened = 0

    def __init__(self, number: int) -> None:
        FakeCapture.opened += 1
        self.left = 0 if FakeCapture.opened == 2 else 1

    def isOpened(self) -> bool:  # noqa: N802  OpenCV's name
        return FakeCapture.opened != 2

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, grey(FakeCapture.opened)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.left = 0


def test_a_webcam_that_goes_away_is_reported_and_opened_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frame_sources.cv2, 'VideoCapture', FakeCapture)
    monkeypatch.setattr(frame_sources, 'RETRY_S', 0.0)
    monkeypatch.setattr(FakeCapture, 'opened', 0)
    reports: list[str] = []
    stop = threading.Event()
    source = open_source('7', report=reports.append, stop=stop)
    frames = source.frames()
    assert (source.is_live, values(islice(frames, 3))) == (True, [1, 3, 4])
    assert reports == ['webcam 7: delivers no frames: check its cable; trying again until it '
                       'does']  # once in ten seconds
    stop.set()
    assert list(frames) == []


def test_a_webcam_that_cannot_be_opened_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r'^webcam 63: cannot be opened: check that /dev/video'):
        open_source('63')
