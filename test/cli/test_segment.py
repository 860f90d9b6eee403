# SPDX-License-Identifier: Apache-2.0
"""lednet_segment as a user calls it, on files made here."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('rosbags', reason='needs rosbags')

from PIL import Image
from recordings import (
    IMAGE,
    QOS,
    STORE,
    file_of,
    header,
    make_bag,
    make_mcap,
    make_ros1_bag,
    make_video,
    note,
    raw,
    street,
    write_bag,
)
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader, StoragePlugin

from lednet_ros.bags.bag import Bag
from lednet_ros.cli import segment as command
from lednet_ros.common.errors import ConfigError
from lednet_ros.images.encodings import read_label_image
from lednet_ros.model.labels import LabelSet
from lednet_ros.offline.output_dir import Results
from lednet_ros.offline.work import Work
from lednet_ros.segmentation import Segmenter, SegmenterConfig

SMALL = ('--input-height', '64', '--input-width', '96')

@pytest.fixture(scope='module')
def segmenter():
    with Segmenter(config=SegmenterConfig(input_height=64, input_width=96)) as segmenter:
        yield segmenter


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name, seed in (('2.png', 2), ('10.png', 10), ('deeper/1.png', 1)):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), street(seed))
    return tmp_path / 'images'


def run(*words, code: int = 0) -> None:
    assert command.main([*map(str, words), *SMALL]) == code


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_a_directory_s_labels_have_its_names_and_are_the_segmenter_s(
    images, tmp_path, segmenter, capsys
) -> None:
    run(images, '--output', tmp_path / 'out', '--overlay')
    for name, seed in (('2.png', 2), ('10.png', 10), ('deeper/1.png', 1)):
        [expected] = segmenter.segment([street(seed)])
        assert np.array_equal(read(tmp_path / 'out' / 'label' / name), expected.labels)
        assert read(tmp_path / 'out' / 'overlay' / name).shape == (48, 64, 3)
    assert '3 segmented by onnxruntime cpu fp32' in capsys.readouterr().out


def test_a_second_run_does_only_what_is_missing(images, tmp_path, capsys) -> None:
    out = tmp_path / 'out'
    run(images, '--output', out)
    (out / 'label' / '2.png').unlink()
    before = (out / 'label' / '10.png').stat().st_mtime_ns
    run(images, '--output', out)
    assert '1 segmented' in capsys.readouterr().out.splitlines()[-1]
    assert (out / 'label' / '10.png').stat().st_mtime_ns == before
    run(images, '--output', out, '--overwrite')
    assert '3 segmented' in capsys.readouterr().out
    assert (out / 'label' / '10.png').stat().st_mtime_ns > before


def test_an_empty_label_image_as_power_that_fails_leaves_is_made_again(
    images, tmp_path, capsys
) -> None:
    run(images, '--output', tmp_path / 'out')
    (tmp_path / 'out' / 'label' / '2.png').write_bytes(b'')
    run(images, '--output', tmp_path / 'out')
    assert tally(capsys) == (1, 2)
    assert read(tmp_path / 'out' / 'label' / '2.png').shape == (48, 64)


def test_a_picture_that_was_written_anew_is_segmented_anew(images, tmp_path, capsys) -> None:
    run(images, '--output', tmp_path / 'out')
    cv2.imwrite(str(images / '2.png'), street(3, 24, 32))
    ahead_s = time.time() + 1e6  # as a camera with a wrong clock dates it
    os.utime(images / '10.png', (ahead_s, ahead_s))
    run(images, '--output', tmp_path / 'out')
    assert tally(capsys) == (1, 2)
    assert read(tmp_path / 'out' / 'label' / '2.png').shape == (24, 32)


@pytest.mark.parametrize('words', [(), ('--overwrite',)], ids=['unasked', 'overwrite'])
def test_a_video_in_the_place_of_another_is_segmented_anew_and_nothing_of_that_stays(
    tmp_path, capsys, words
) -> None:
    film, out = tmp_path / 'street.mp4', tmp_path / 'out'
    make_video(film, 5)
    extras = ('--overlay', '--confidence', '--frames', 'png')
    run(film, '--output', out, *extras)
    dated = film.stat()
    make_video(film, 3, height=24)
    os.utime(film, (dated.st_atime - 1000, dated.st_mtime - 1000))  # moved here, and older
    run(film, '--output', out, *words)
    said = capsys.readouterr()
    assert ' 3 segmented by ' in said.out.splitlines()[-1]
    assert ('has changed since an earlier run' in said.err) == (not words)
    assert sorted(str(path.relative_to(out)) for path in out.rglob('*.[pm]*')) == [
        f'label/street/00000{i}.png' for i in range(3)]
    assert read(out / 'label' / 'street' / '000000.png').shape == (24, 64)
    run(film, '--output', out)
    assert tally(capsys) == (0, 3)


def test_overwriting_a_changed_video_that_was_stopped_takes_no_label_of_before(
    tmp_path, capsys, monkeypatch
) -> None:
    film, out = tmp_path / 'films' / 'street.mp4', ('--output', tmp_path / 'out')
    film.parent.mkdir()
    make_video(film, 4)
    run(film.parent, *out)
    make_video(film, 3)
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        run(film.parent, *out, '--overwrite', code=130)
    run(film, *out)  # itself, which --overwrite did not name
    assert tally(capsys) == (2, 1)


def test_a_bag_that_has_grown_is_segmented_anew(tmp_path, capsys) -> None:
    def record(images: int) -> None:
        shutil.rmtree(tmp_path / 'drive', ignore_errors=True)
        write_bag(tmp_path / 'drive', {
            '/front/image': (IMAGE, [raw(street(i), i) for i in range(images)])})

    words = (tmp_path / 'drive', '--output', tmp_path / 'out', '--frames', 'png')
    for images, expected in ((4, 4), (2, 2)):
        record(images)
        run(*words)
        assert tally(capsys) == (expected, 0)
        assert count_messages(tmp_path / 'out' / 'drive_labels')['/segment/label'] == expected
        for kind in ('label', 'frame'):
            assert len([*(tmp_path / 'out' / kind).rglob('*.png')]) == expected
    run(*words)
    assert tally(capsys) == (0, 1)


def test_what_is_left_out_and_what_is_skipped_is_counted_by_kind(
    images, tmp_path, capsys
) -> None:
    (images / 'x.heic').write_bytes(b'')
    (images / 'y.heic').write_bytes(b'')
    (images / '._2.png').write_bytes(b'')
    figures = tmp_path / 'figures.json'
    run(images, '--output', tmp_path / 'out', '--json', figures)
    assert capsys.readouterr().out.splitlines()[-1].endswith(
        ': 3 segmented by onnxruntime cpu fp32 (no CUDA GPU), 0 kept from before, 0 left out, '
        '3 (.heic: 2, hidden: 1) skipped')
    assert json.loads(figures.read_text()) == {
        'output': str(tmp_path / 'out'), 'backend': 'onnxruntime cpu fp32 (no CUDA GPU)',
        'segmented': 3, 'kept': 0, 'left_out': {}, 'skipped': {
            '.heic': {'count': 2, 'names': [f'{images}/x.heic', f'{images}/y.heic']},
            'hidden': {'count': 1, 'names': [f'{images}/._2.png']}}}
    (images / '3.png').write_bytes(b'no picture')
    (images / 'film.mp4').write_bytes(b'no film')
    run(images, '--output', tmp_path / 'out', '--json', figures, code=1)
    assert capsys.readouterr().out.splitlines()[-1].endswith(
        ', 3 kept from before, 2 (unreadable pictures: 1, videos: 1) left out, '
        '3 (.heic: 2, hidden: 1) skipped')
    found = json.loads(figures.read_text())['left_out']
    assert {kind: entry['count'] for kind, entry in found.items()} == {
        'unreadable pictures': 1, 'videos': 1}
    assert '3.png' in found['unreadable pictures']['names'][0]


def test_a_directory_s_films_and_bags_are_segmented_under_their_names(
    images, tmp_path, capsys
) -> None:
    make_video(images / 'deeper' / 'street.mp4', 4)
    make_bag(images / 'deeper' / 'drive', StoragePlugin.MCAP)
    write_bag(images / 'lidar', {'/note': ('std_msgs/msg/String', [note(0)])})
    out = tmp_path / 'out'
    for expected in ((3 + 4 + 6, 0), (0, 3 + 4 + 1)):
        run(images, '--output', out)
        last = capsys.readouterr().out.splitlines()[-1]
        assert f': {expected[0]} segmented ' in last
        assert f', {expected[1]} kept from before, 0 left out, ' in last
        assert 'bags without a camera: 1' in last
    assert len(list((out / 'label' / 'deeper' / 'street').iterdir())) == 4
    with Reader(out / 'deeper' / 'drive_labels') as reader:
        assert '/segment/front/label' in reader.topics
    assert not list(out.rglob('.*'))
    run(images, '--output', out, '--overwrite')
    assert ': 13 segmented ' in capsys.readouterr().out


def test_many_complaints_of_a_kind_are_counted_and_some_are_said(
    images, tmp_path, capsys
) -> None:
    for i in range(100, 130):
        (images / f'{i}.png').write_bytes(b'no picture')
    run(images, '--output', tmp_path / 'out', '--json', tmp_path / 'figures.json', code=1)
    said = capsys.readouterr()
    assert said.err.count('TIFF or WebP image: left out') == 20
    assert 'more of this kind (unreadable pictures) are only counted; --json has them all' in (
        said.err)
    assert '30 (unreadable pictures: 30) left out' in said.out
    found = json.loads((tmp_path / 'figures.json').read_text())['left_out']
    assert len(found['unreadable pictures']['names']) == 30


def tally(capsys) -> tuple[int, int]:
    """Give how many the last run said it had segmented, and kept."""
    last = capsys.readouterr().out.splitlines()[-1]
    said = re.search(r': (\d+) segmented by .*, (\d+) kept', last)
    return int(said[1]), int(said[2])


def stop_after(monkeypatch, count: int) -> None:
    """Stop the command as by Ctrl-C when it has segmented so many."""
    segment = Work.segment

    def segment_or_stop(work, frames):
        if work.segmented >= count:
            raise KeyboardInterrupt
        return segment(work, frames)

    monkeypatch.setattr(Work, 'segment', segment_or_stop)


def test_labels_and_overlays_of_a_planner_s_size_are_kept(images, tmp_path, capsys) -> None:
    make_video(tmp_path / 'drive.mp4', 4)
    words = (images, tmp_path / 'drive.mp4', '--output', tmp_path / 'out', '--overlay')
    run(*words, '--output-size', '32x20')
    for folder, size in (('label', (20, 32)), ('overlay', (20, 32, 3))):
        assert read(tmp_path / 'out' / folder / 'deeper/1.png').shape == size
    [label] = (tmp_path / 'out' / 'label').rglob('000000.png')
    assert read(label).shape == (20, 32)
    [film] = (tmp_path / 'out' / 'overlay').rglob('*.mp4')
    film.unlink()
    capsys.readouterr()
    run(*words, '--output-size', '32x20')
    assert '0 segmented' in capsys.readouterr().out
    run(*words, code=1)
    assert 'was made with another output_size' in capsys.readouterr().err


@pytest.mark.parametrize('settings', [(), ('--min-confidence', '0.9')], ids=['same', 'other'])
def test_overwriting_that_was_stopped_goes_on_without_overwrite(
    images, tmp_path, capsys, monkeypatch, settings
) -> None:
    words = (images, '--output', tmp_path / 'out', *settings)
    run(images, '--output', tmp_path / 'out')
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        run(*words, '--overwrite', code=130)
    assert 'stopped: the same command without --overwrite goes on from here' in (
        capsys.readouterr().err)
    run(*words)
    assert tally(capsys) == (2, 1)
    run(*words)
    assert tally(capsys) == (0, 3)


def test_overwriting_one_source_leaves_the_others_done_unless_settings_differ(
    images, tmp_path, capsys
) -> None:
    make_video(tmp_path / 'street.mp4', 4)
    both = (images, tmp_path / 'street.mp4', '--output', tmp_path / 'out')
    run(*both)
    for settings, expected in (
            ((), (0, 7)),
            (('--min-confidence', '0.9'), (3, 4))):
        run(*both[1:], *settings, '--overwrite')
        run(*both, *settings)
        assert tally(capsys) == expected


def test_names_that_are_no_utf_8_are_as_good_as_others(images, tmp_path, capsys) -> None:
    """OpenCV 5 crashes over them, and Python's streams do not print them."""
    odd = os.fsdecode(b'caf\xe9')
    source, out = images.rename(tmp_path / odd), tmp_path / f'out {odd}'
    (source / '2.png').rename(source / f'{odd}.png')
    make_video(tmp_path / 'street.mp4', 4)
    (tmp_path / 'street.mp4').rename(source / f'{odd}.mp4')
    (source / f'b{odd}.jpg').write_bytes(b'no picture')
    run(source, '--output', out, '--overlay', code=1)
    said = capsys.readouterr()
    assert 'bcaf\\udce9.jpg: 10 bytes and no ' in said.err
    assert '7 segmented' in said.out
    assert len(os.listdir(out / 'label' / odd)) == 4
    (out / 'overlay' / f'{odd}.mp4').rename(tmp_path / 'film.mp4')
    assert cv2.VideoCapture(str(tmp_path / 'film.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == 4
    run(source, '--output', out, '--overlay', code=1)
    assert '0 segmented' in capsys.readouterr().out


def test_what_is_foreign_or_of_other_settings_is_not_touched(images, tmp_path, capsys) -> None:
    foreign = tmp_path / 'foreign'
    foreign.mkdir()
    (foreign / 'thesis.txt').write_text('years of work')
    run(images, '--output', foreign, code=1)
    assert 'is not empty and not of lednet_segment' in capsys.readouterr().err
    assert [p.name for p in foreign.iterdir()] == ['thesis.txt']
    out = tmp_path / 'out'
    run(images, '--output', out)
    run(images, '--output', out, '--min-confidence', '0.9', code=1)
    assert 'was made with another min_confidence' in capsys.readouterr().err


def test_unreadable_images_are_named_and_the_rest_is_done(images, tmp_path, capsys) -> None:
    (images / '3.png').write_bytes(b'no picture')
    run(images, images / '2.png', '--output', tmp_path / 'out', code=1)
    said = capsys.readouterr()
    assert '3.png: 10 bytes and no PNG, JPEG, BMP, PNM, TIFF or WebP image: left out' in said.err
    assert '3 segmented' in said.out


@pytest.mark.parametrize(('make', 'words'), [
    (lambda d: d / 'absent', 'absent: does not exist'),
    (lambda d: d / 'empty', 'empty: holds no image, video or bag: put .png, '),
    (lambda d: d / 'pipe', 'pipe: is no file and no directory: give an image'),
    (lambda d: d / 'rubbish.mp4', 'cannot be opened as a video'),
], ids=['absent', 'empty', 'no file', 'no video'])
def test_a_source_that_is_none_is_one_line_and_exit_1(tmp_path, capsys, make, words) -> None:
    sources = tmp_path / 'sources'
    (sources / 'empty').mkdir(parents=True)
    (sources / 'rubbish.mp4').write_bytes(b'rubbish')
    os.mkfifo(sources / 'pipe')
    run(make(sources), '--output', tmp_path / 'out', code=1)
    assert words in capsys.readouterr().err


def test_a_picture_that_is_given_twice_is_one(images, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(images)
    run(images, '2.png', '--output', tmp_path / 'out')
    assert tally(capsys) == (3, 1)


@pytest.mark.parametrize('record', ['', '{"origins": null}', '{"overwritten_ns": 3}'])
def test_a_damaged_record_is_one_line_and_can_be_overwritten(
    images, tmp_path, capsys, record
) -> None:
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'lednet_segment.json').write_text(record, encoding='utf-8')
    run(images, '--output', tmp_path / 'out', code=1)
    assert capsys.readouterr().err.endswith(
        'its record, lednet_segment.json, is damaged: choose another --output, or --overwrite\n')
    run(images, '--output', tmp_path / 'out', '--overwrite')
    assert tally(capsys) == (3, 0)


def test_an_empty_argument_as_of_a_variable_that_is_not_set_is_refused(
    images, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(images)
    out = tmp_path / 'out'
    for words in (('', '--output', out), (images, '--output', ''),
                  (images, '--output', out, '--checkpoint', '')):
        run(*words, code=1)
        assert "'': an argument is empty: give a path" in capsys.readouterr().err
    assert not out.exists()


def test_a_label_image_that_cannot_be_written_is_not_counted(
    images, tmp_path, capsys, monkeypatch
) -> None:
    make_video(tmp_path / 'street.mp4', 4)
    for source in (images, tmp_path / 'street.mp4'):
        written: list[Path] = []

        def write(results, name, labels, written=written, write=Results.write_labels) -> None:
            if written:
                raise ConfigError('no room')
            write(results, name, labels)
            written.append(name)

        with monkeypatch.context() as patch:
            patch.setattr(Results, 'write_labels', write)
            run(source, '--output', tmp_path / f'out of {source.stem}', code=1)
        assert tally(capsys) == (1, 0)


def test_what_was_done_is_said_where_its_figures_cannot_be_written(
    images, tmp_path, capsys, monkeypatch
) -> None:
    def write(path, record) -> None:
        raise ConfigError('no room')

    monkeypatch.setattr('lednet_ros.common.atomic_file.write_json', write)
    run(images, '--output', tmp_path / 'out', '--json', tmp_path / 'f.json', code=1)
    assert tally(capsys) == (3, 0)


def test_names_that_would_collide_are_refused(images, tmp_path, capsys) -> None:
    cv2.imwrite(str(images / '2.jpg'), street(2))
    run(images, '--output', tmp_path / 'out', '--json', tmp_path / 'j.json', code=1)
    found = capsys.readouterr()
    assert '2.png and ' in found.err or '2.jpg and ' in found.err
    assert '3 segmented' in found.out, 'the others are done'
    assert '1 (pictures that share a name: 1) left out' in found.out
    assert json.loads((tmp_path / 'j.json').read_text())['left_out'][
        'pictures that share a name']['count'] == 1


def test_a_file_of_figures_that_cannot_be_written_is_named_before_anything_is_done(
    images, tmp_path, capsys
) -> None:
    run(images, '--output', tmp_path / 'out', '--json', tmp_path / 'absent' / 'f.json', code=1)
    assert 'absent/f.json: cannot be written: No such file' in capsys.readouterr().err
    assert not (tmp_path / 'out' / 'label').exists()
    run(images, '--output', tmp_path / 'new', '--json', tmp_path / 'new' / 'f.json')


def test_a_name_as_long_as_names_may_be_is_as_good_as_others(tmp_path, capsys) -> None:
    (tmp_path / 'in').mkdir()
    cv2.imwrite(str(tmp_path / 'in' / 'a.png'), street(1))
    (tmp_path / 'in' / 'a.png').rename(tmp_path / 'in' / f'{"n" * 251}.png')
    run(tmp_path / 'in', '--output', tmp_path / 'out', '--overlay')
    assert tally(capsys) == (1, 0)
    assert (tmp_path / 'out' / 'overlay' / f'{"n" * 251}.png').is_file()


@pytest.mark.parametrize('storage', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
@pytest.mark.parametrize(('length', 'fits'), [(248, True), (249, False)])
def test_a_bag_s_name_may_be_as_long_as_that_of_its_result(
    tmp_path, capsys, storage, length, fits
) -> None:
    write_bag(tmp_path / 'drive', {'/front/image': (IMAGE, [raw(street(1), 1)])}, storage)
    file = file_of(tmp_path / 'drive')
    name = 'n' * length
    long = file.rename(tmp_path / f'{name}{file.suffix}')
    run(long, '--output', tmp_path / 'out', code=0 if fits else 1)
    if fits:
        assert tally(capsys) == (1, 0)
        with Bag(tmp_path / 'out' / f'{name}_labels') as bag:
            assert {c.topic for c in bag.connections} == {'/front/image', '/segment/label'}
    else:
        assert f'{name}_labels: cannot be written: File name too long: give its source a ' \
            'shorter name, then go on by the same command' in capsys.readouterr().err


def test_a_run_on_a_bag_removes_what_a_killed_one_left_and_not_what_one_is_writing(
    tmp_path, capsys
) -> None:
    make_bag(tmp_path / 'drive', StoragePlugin.MCAP)
    killed = subprocess.Popen(['true'])
    killed.wait()
    left, living = (tmp_path / 'out' / f'.partial-{number}-drive_labels'
                    for number in (killed.pid, os.getppid()))
    run(tmp_path / 'drive', '--output', tmp_path / 'out')
    shutil.rmtree(tmp_path / 'out' / 'drive_labels')
    for partial in (left, living):
        (partial / 'drive_labels').mkdir(parents=True)
    run(tmp_path / 'drive', '--output', tmp_path / 'out')
    assert living.is_dir()
    assert not left.exists()


def test_results_below_a_source_are_no_pictures_of_it(images, capsys, monkeypatch) -> None:
    monkeypatch.chdir(images)
    for expected in ('3 segmented', '0 segmented'):
        run('.', '--output', 'out', '--overlay')
        assert expected in capsys.readouterr().out


def test_a_video_gives_a_label_per_frame_and_a_film_of_its_pace(tmp_path, segmenter) -> None:
    make_video(tmp_path / 'street.mp4', 7)
    run(tmp_path / 'street.mp4', '--output', tmp_path / 'out', '--overlay', '--batch', '3')
    labels = sorted((tmp_path / 'out' / 'label' / 'street').iterdir())
    assert [p.name for p in labels] == [f'{i:06}.png' for i in range(7)]
    capture = cv2.VideoCapture(str(tmp_path / 'street.mp4'))
    [expected] = segmenter.segment([capture.read()[1]])
    assert np.array_equal(read(labels[0]), expected.labels)
    film = cv2.VideoCapture(str(tmp_path / 'out' / 'overlay' / 'street.mp4'))
    assert film.get(cv2.CAP_PROP_FPS) == 12.0
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 7


def test_beside_labels_is_what_they_mean(images, tmp_path, segmenter) -> None:
    run(images, '--output', tmp_path / 'out')
    assert LabelSet.from_yaml(tmp_path / 'out' / 'labels.yaml') == segmenter.labels


def test_a_palette_shows_the_classes_colours_and_leaves_the_ids(
    images, tmp_path, segmenter, capsys
) -> None:
    words = (images / '2.png', '--output', tmp_path / 'out', '--palette')
    run(*words)
    [expected] = segmenter.segment([street(2)])
    found = read_label_image(tmp_path / 'out' / 'label' / '2.png')
    assert np.array_equal(found.values, expected.labels)
    with Image.open(tmp_path / 'out' / 'label' / '2.png') as shown:
        assert np.array_equal(shown.convert('RGB'), segmenter.colorize(expected.labels))
    run(*words)
    assert tally(capsys) == (0, 1)
    run(*words[:3], code=1)
    assert 'was made with another palette: choose another --output' in capsys.readouterr().err


def test_confidence_is_the_segmenter_s_of_pictures_and_of_videos(
    images, tmp_path, segmenter, capsys
) -> None:
    make_video(images / 'street.mp4', 2)
    out = tmp_path / 'out'
    run(images, '--output', out)
    run(images, '--output', out, '--confidence')  # what has none is made again
    assert tally(capsys) == (5, 0)
    run(images, '--output', out, '--confidence')
    assert tally(capsys) == (0, 5)
    [expected] = segmenter.segment([street(10)], confidence=True)
    assert np.array_equal(read(out / 'confidence' / '10.png'), expected.confidence)
    frame = cv2.VideoCapture(str(images / 'street.mp4')).read()[1]
    [expected] = segmenter.segment([frame], confidence=True)
    assert np.array_equal(read(out / 'confidence' / 'street' / '000000.png'), expected.confidence)
    assert np.array_equal(read(out / 'label' / 'street' / '000000.png'), expected.labels)


@pytest.mark.parametrize('form', ['png', 'jpg'])
def test_the_frames_of_a_video_are_written_beside_their_labels(tmp_path, form) -> None:
    make_video(tmp_path / 'street.mp4', 3)
    run(tmp_path / 'street.mp4', '--output', tmp_path / 'out', '--frames', form)
    frames = sorted((tmp_path / 'out' / 'frame' / 'street').iterdir())
    assert [path.name for path in frames] == [f'00000{i}.{form}' for i in range(3)]
    expected = cv2.VideoCapture(str(tmp_path / 'street.mp4')).read()[1]
    apart = np.abs(cv2.imread(str(frames[0])).astype(int) - expected)
    assert apart.max() == 0 if form == 'png' else 0 < apart.mean() < 10


def test_a_bag_gets_confidence_beside_labels_and_frames_as_files(
    tmp_path, segmenter, capsys
) -> None:
    write_bag(tmp_path / 'drive', {'/front/image': (IMAGE, [raw(street(i), i) for i in range(2)])})
    words = (tmp_path / 'drive', '--output', tmp_path / 'out', '--confidence')
    run(*words)
    run(*words, '--frames', 'png', code=1)
    assert 'lacks png files of its frames: choose another --output' in capsys.readouterr().err
    run(*words, '--frames', 'png', '--overwrite', '--node-name', 'robot1/segment')
    run(*words, '--frames', 'png', '--node-name', 'robot1/segment')
    assert tally(capsys) == (0, 1)
    [expected] = segmenter.segment([street(1)], confidence=True)
    for kind, pixels in (('frame', street(1)), ('label', expected.labels),
                         ('confidence', expected.confidence)):
        name = tmp_path / 'out' / kind / 'drive' / 'front_image' / '000001.png'
        assert np.array_equal(read(name), pixels)
    with AnyReader([tmp_path / 'out' / 'drive_labels'], default_typestore=STORE) as reader:
        found = {c.topic: reader.deserialize(data, c.msgtype)
                 for c, _, data in reader.messages()}
    assert set(found) == {'/front/image', '/robot1/segment/label', '/robot1/segment/confidence'}
    message = found['/robot1/segment/confidence']
    assert np.array_equal(message.data.reshape(48, 64), expected.confidence)


def test_frames_of_topics_that_would_share_a_directory_are_kept_apart(
    tmp_path, segmenter
) -> None:
    topics = {'/stereo/left_image': 1, '/stereo_left/image': 2}
    write_bag(tmp_path / 'drive', {
        topic: (IMAGE, [raw(street(seed), seed)]) for topic, seed in topics.items()})
    run(tmp_path / 'drive', '--output', tmp_path / 'out', '--frames', 'png')
    seen = segmenter.segment([street(seed) for seed in topics.values()])
    with Bag(tmp_path / 'out' / 'drive_labels') as bag:
        found = {c.topic: bag.deserialize(c, data).data for c, _, data in bag.messages()}
    for camera, one in zip(('stereo', 'stereo_left'), seen, strict=True):
        assert np.array_equal(found[f'/segment/{camera}/label'], one.labels.ravel())
    frames = (tmp_path / 'out' / 'frame' / 'drive').rglob('*.png')
    assert {read(frame).tobytes() for frame in frames} == {
        street(seed).tobytes() for seed in topics.values()}


def test_a_node_name_that_is_none_is_one_line(images, tmp_path, capsys) -> None:
    run(images, '--output', tmp_path / 'out', '--node-name', '/segment/', code=1)
    assert "--node-name is '/segment/': give the name of a ROS node" in capsys.readouterr().err


def test_without_pyav_films_are_what_opencv_writes_and_that_is_said_once(
    tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, 'av', None)
    for name in ('a.mp4', 'b.mp4'):
        (tmp_path / 'films').mkdir(exist_ok=True)
        make_video(tmp_path / 'films' / name, 2)
    run(tmp_path / 'films', '--output', tmp_path / 'out', '--overlay')
    assert capsys.readouterr().err.count('which browsers do not play, as PyAV ') == 1
    assert (tmp_path / 'out' / 'overlay' / 'a.mp4').exists()


@pytest.mark.slow
def test_a_film_that_the_disk_had_no_room_for_is_not_kept(tmp_path, segmenter) -> None:
    make_video(tmp_path / 'street.mp4', 60)
    words = [sys.executable, '-m', 'lednet_ros.cli.segment', str(tmp_path / 'street.mp4'),
             '--output', str(tmp_path / 'out'), '--overlay', *SMALL]
    # The network's cache is there, by the fixture; labels are small.
    done = subprocess.run(
        words, capture_output=True, text=True,
        # make coverage's own file would find no room either.
        env={name: value for name, value in os.environ.items() if 'COVERAGE' not in name},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    assert done.returncode == 1
    assert 'overlay/street.mp4: cannot be written: ' in done.stderr
    assert 'Traceback' not in done.stderr
    assert len(list((tmp_path / 'out' / 'label' / 'street').iterdir())) == 60
    assert not list((tmp_path / 'out' / 'overlay').iterdir())


@pytest.mark.parametrize('suffix', ['.mp4', '.avi', '.mkv'])
def test_frames_that_a_video_lacks_in_its_middle_are_counted_and_those_behind_are_done(
    tmp_path, capsys, suffix
) -> None:
    source = tmp_path / f'street{suffix}'
    make_video(source, 100)
    data = bytearray(source.read_bytes())
    data[len(data) // 2:len(data) * 11 // 20] = bytes(len(data) * 11 // 20 - len(data) // 2)
    source.write_bytes(data)
    run(source, '--output', tmp_path / 'out', '--json', tmp_path / 'f.json', code=1)
    done = len(list((tmp_path / 'out' / 'label' / 'street').iterdir()))
    assert 80 < done < 100
    missing = json.loads((tmp_path / 'f.json').read_text())['left_out']['frames of videos']
    assert missing['count'] == pytest.approx(100 - done, abs=1)
    assert f'about {missing["count"]} of its 100 frames are missing' in capsys.readouterr().err


def test_a_video_that_is_cut_is_complained_of_and_what_there_is_is_done(tmp_path, capsys) -> None:
    source = tmp_path / 'street.avi'
    make_video(source, 100)
    whole = source.read_bytes()
    source.write_bytes(whole[:len(whole) // 2])
    run(source, '--output', tmp_path / 'out', code=1)
    assert 'street.avi: is cut or damaged: about ' in capsys.readouterr().err
    assert 20 < len(list((tmp_path / 'out' / 'label' / 'street').iterdir())) < 80
    source.write_bytes(whole)
    run(source, '--output', tmp_path / 'out')
    assert len(list((tmp_path / 'out' / 'label' / 'street').iterdir())) == 100


@pytest.mark.parametrize('storage', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_bag_is_copied_with_labels_beside_its_images(tmp_path, segmenter, storage) -> None:
    make_bag(tmp_path / 'drive', storage)
    run(tmp_path / 'drive', '--output', tmp_path / 'out', '--overlay')
    result = tmp_path / 'out' / 'drive_labels'
    suffix = 'mcap' if storage == StoragePlugin.MCAP else 'db3'
    assert sorted(p.name for p in result.iterdir()) == [
        f'drive_labels.{suffix}', 'metadata.yaml']
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        'drive_labels', 'labels.yaml', 'lednet_segment.json']
    with AnyReader([result], default_typestore=STORE) as reader, \
            Reader(tmp_path / 'drive') as original:
        assert set(reader.topics) == {
            *original.topics, '/segment/front/label', '/segment/front/overlay',
            '/segment/left/label', '/segment/left/overlay'}
        copied = [(c.topic, at, bytes(data)) for c, at, data in reader.messages()
                  if not c.topic.startswith('/segment')]
        assert copied == [(c.topic, at, bytes(data)) for c, at, data in original.messages()]
        [front] = [c for c in reader.connections if c.topic == '/front/image_raw']
        assert front.ext.offered_qos_profiles == [QOS]
        labels = [c for c in reader.connections if c.topic == '/segment/front/label']
        for i, (_, at, data) in enumerate(reader.messages(labels)):
            message = reader.deserialize(data, labels[0].msgtype)
            [expected] = segmenter.segment([street(i)])
            assert at == (100 + i) * 10**9
            stamp = message.header.stamp
            assert (stamp.sec, stamp.nanosec, message.header.frame_id) == (100 + i, 7, 'front')
            assert message.encoding == 'mono8'
            assert np.array_equal(message.data.reshape(48, 64), expected.labels)
        assert labels[0].msgcount == 3


def count_messages(bag: Path) -> Counter[str]:
    """Count a result's messages by topic, as rosbags reads them."""
    with AnyReader([bag], default_typestore=STORE) as reader:
        return Counter(connection.topic for connection, _, _ in reader.messages())


@pytest.mark.parametrize('storage', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_damaged_message_costs_itself_only(tmp_path, capsys, storage) -> None:
    images = [bytes(STORE.serialize_cdr(raw(street(i), i), IMAGE)) for i in range(4)]
    write_bag(tmp_path / 'drive', {
        '/front/image': (IMAGE, [images[0][:60], images[1], b'', images[3]]),
        '/odd': ('std_msgs/msg/String', [b'', b'\1', b'rubbish', b''])}, storage)
    for _ in range(2):  # a result that is kept is no better
        run(tmp_path / 'drive', '--output', tmp_path / 'out', '--json', tmp_path / 'f.json',
            code=1)
        said = capsys.readouterr()
        for number in (1, 3):
            assert (f'drive: image {number} on /front/image: is no sensor_msgs/msg/Image: '
                    in said.err)
        assert '2 (damaged images: 2) left out' in said.out
    assert count_messages(tmp_path / 'out' / 'drive_labels') == {
        '/front/image': 4, '/odd': 4, '/segment/label': 2}


def test_what_a_damaged_bag_lacks_is_said_each_time(tmp_path, capsys) -> None:
    make_mcap(tmp_path / 'drive.mcap', 6)
    whole = (tmp_path / 'drive.mcap').read_bytes()
    (tmp_path / 'drive.mcap').write_bytes(whole[:len(whole) // 2])
    for _ in range(2):
        run(tmp_path / 'drive.mcap', '--output', tmp_path / 'out', code=1)
        said = capsys.readouterr()
        assert re.search(r'drive.mcap breaks off at byte \d+ of \d+: what was recorded behind '
                         'that is lost: give a whole one, or take what there is', said.err)
        assert '1 (damaged files of bags: 1) left out' in said.out
    assert count_messages(tmp_path / 'out' / 'drive_labels') == {
        '/front/image_raw': 2, '/segment/label': 2}


def test_of_a_bag_of_ros_1_labels_are_written_for_ros_2(tmp_path, capsys, segmenter) -> None:
    make_ros1_bag(tmp_path / 'drive.bag')
    for _ in range(2):
        run(tmp_path / 'drive.bag', '--output', tmp_path / 'out')
        assert '2 (topics of ROS 1, not copied: 2) skipped' in capsys.readouterr().out
    with AnyReader([tmp_path / 'out' / 'drive_labels'], default_typestore=STORE) as reader:
        for i, (connection, at, data) in enumerate(reader.messages()):
            assert connection.topic == '/segment/label'
            message = reader.deserialize(data, connection.msgtype)
            [expected] = segmenter.segment([street(i)])
            assert np.array_equal(message.data.reshape(48, 64), expected.labels)
            assert at == (100 + i) * 10**9
            assert str(message.header) == str(header(i))
        assert i == 2


def test_a_bag_of_before_definitions_were_kept_gets_those_that_are_known(tmp_path) -> None:
    """Humble's: without them nobody could read the result, which has some."""
    bag = tmp_path / 'drive'
    write_bag(bag, {'/front/image': (IMAGE, [raw(street(0), 0)]),
                    '/mine': ('std_msgs/msg/String', [note(0)])})
    with sqlite3.connect(file_of(bag)) as database:
        database.execute('DROP TABLE message_definitions')
        database.execute('ALTER TABLE topics DROP COLUMN type_description_hash')
        database.execute("UPDATE topics SET type = 'my_msgs/msg/Mine' WHERE name = '/mine'")
    (bag / 'metadata.yaml').unlink()
    run(bag, '--output', tmp_path / 'out')
    assert count_messages(tmp_path / 'out' / 'drive_labels') == {
        '/front/image': 1, '/mine': 1, '/segment/label': 1}
    with AnyReader([tmp_path / 'out' / 'drive_labels']) as reader:
        [front] = [c for c in reader.connections if c.topic == '/front/image']
        [(_, _, data)] = reader.messages([front])
        assert reader.deserialize(data, front.msgtype).width == 64


@pytest.mark.parametrize('storage', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_bag_of_any_name_and_with_any_topic_stays_in_its_place(tmp_path, storage) -> None:
    name = os.fsdecode(b'my #1 %41?\n\xe9')
    write_bag(tmp_path / 'drive', {
        '/../../../up/image': (IMAGE, [raw(street(0), 0)]),
        '/a b/\n/image': (IMAGE, [raw(street(1), 1)])}, storage)
    (tmp_path / 'drive').rename(tmp_path / name)
    before = set(tmp_path.parent.iterdir())
    run(tmp_path / name, '--output', tmp_path / 'out')
    assert set(tmp_path.parent.iterdir()) == before
    assert {path.name for path in tmp_path.iterdir()} == {name, 'out'}
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        'labels.yaml', 'lednet_segment.json', f'{name}_labels'}
    with Bag(tmp_path / 'out' / f'{name}_labels') as result:
        assert {c.topic: c.msgcount for c in result.connections} == {
            '/../../../up/image': 1, '/a b/\n/image': 1, '/segment/../../../up/label': 1,
            '/segment/a b/\n/label': 1}


def test_a_place_that_rosbags_cannot_write_to_is_one_line(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'drive', StoragePlugin.SQLITE3)
    run(tmp_path / 'drive', '--output', tmp_path / 'out #1', code=1)
    assert 'out #1: a sqlite3 bag cannot be written where a name has ?, # or %: choose' in (
        capsys.readouterr().err)


def test_topics_of_a_bag_can_be_chosen_and_wrong_ones_are_named(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'drive', StoragePlugin.MCAP)
    run(tmp_path / 'drive', '--output', tmp_path / 'a', '--topics', '/rear/image', code=1)
    assert 'has no images on /rear/image' in capsys.readouterr().err
    run(tmp_path / 'drive', '--output', tmp_path / 'b', '--topics', '/left/image_raw/compressed')
    with Reader(tmp_path / 'b' / 'drive_labels') as reader:
        assert {t for t in reader.topics if t.startswith('/segment')} == {'/segment/label'}


def test_a_bag_that_is_done_has_what_is_asked_for_or_is_refused(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'drive', StoragePlugin.MCAP)
    words = (tmp_path / 'drive', '--output', tmp_path / 'out')
    left = ('--topics', '/left/image_raw/compressed')
    run(*words, *left)
    for more, complaint in (
            ((), 'out/drive_labels: lacks /segment/front/label, /segment/left/label: '),
            ((*left, '--overlay'), 'out/drive_labels: lacks /segment/overlay: choose'),
            (('--topics', '/rear/image'), 'drive: has no images on /rear/image: choose'),
            (('--topics', '/depth/image/compressedDepth'), 'has no images on /depth/image/comp')):
        run(*words, *more, code=1)
        assert complaint in capsys.readouterr().err
    run(*words, *left)
    assert tally(capsys) == (0, 1)
    run(*words, '--overlay', '--overwrite')
    run(*words)
    assert tally(capsys) == (0, 1)


def test_labels_held_for_a_bag_are_not_taken_when_overwriting(
    tmp_path, capsys, monkeypatch
) -> None:
    make_bag(tmp_path / 'drive', StoragePlugin.MCAP)
    words = (tmp_path / 'drive', '--output', tmp_path / 'out')
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        run(*words, code=130)
    assert len(list((tmp_path / 'out' / '.work-drive_labels').rglob('*.png'))) == 4
    run(*words, '--min-confidence', '0.9', '--overwrite')
    assert tally(capsys) == (6, 0)


@pytest.mark.parametrize('name', ['0001.png', 'street.mp4', 'drive', 'photos'])
def test_results_of_another_source_of_the_same_name_are_not_taken(tmp_path, capsys, name) -> None:
    for day, seed in (('day1', 1), ('day2', 2)):
        source = tmp_path / day / name
        source.parent.mkdir()
        if name == 'drive':
            make_bag(source, StoragePlugin.MCAP)
        elif name == 'street.mp4':
            make_video(source, 3, height=48 * seed)
        else:
            source = source / '0001.png' if name == 'photos' else source
            source.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(source), street(seed))
    day1, day2 = tmp_path / 'day1' / name, tmp_path / 'day2' / name
    out = ('--output', tmp_path / 'out')
    run(day1, *out)
    run(day2, *out, code=1)
    assert f'{day2} and {tmp_path / "day1"}' in (said := capsys.readouterr().err)
    assert 'would share ' in said
    run(day1, *out)
    run(day2, *out, '--overwrite')
    segmented, kept = tally(capsys)
    assert segmented > kept == 0
    run(day2, *out)
    assert tally(capsys)[0] == 0
    run(day1, *out, code=1)


def test_a_picture_is_not_taken_for_one_of_the_directory_that_it_was_overwritten_by(
    tmp_path, capsys
) -> None:
    for day in ('day1', 'day2'):
        (tmp_path / day).mkdir()
        for name in ('1.png', '2.png'):
            cv2.imwrite(str(tmp_path / day / name), street(len(name)))
    out = ('--output', tmp_path / 'out')
    run(tmp_path / 'day1', *out)
    run(tmp_path / 'day2' / '1.png', *out, '--overwrite')
    run(tmp_path / 'day2', *out)
    assert tally(capsys) == (1, 1)


def test_a_directory_and_a_video_do_not_share_labels(images, tmp_path, capsys) -> None:
    make_video(tmp_path / 'deeper.mp4', 2)
    run(images, tmp_path / 'deeper.mp4', '--output', tmp_path / 'out', code=1)
    assert 'would share label/deeper: give each its own --output' in capsys.readouterr().err


def test_a_record_of_before_origins_were_kept_is_read(images, tmp_path, capsys) -> None:
    run(images, '--output', tmp_path / 'out')
    record = tmp_path / 'out' / 'lednet_segment.json'
    found = json.loads(record.read_text())
    record.write_text(json.dumps({
        k: found[k] for k in ('checkpoint', 'input', 'fit', 'min_confidence')}))
    run(images, '--output', tmp_path / 'out')
    assert tally(capsys) == (0, 3)


@pytest.mark.parametrize('damage', [
    lambda patch: patch.delattr('rosbags.rosbag2.StoragePlugin'),
    lambda patch: patch.setitem(sys.modules, 'rosbags.interfaces', None),
], ids=['too old', 'missing'])
def test_rosbags_that_will_not_do_is_one_line(tmp_path, capsys, monkeypatch, damage) -> None:
    make_bag(tmp_path / 'drive', StoragePlugin.MCAP)
    monkeypatch.delitem(sys.modules, 'lednet_ros.offline.bags', raising=False)
    damage(monkeypatch)
    run(tmp_path / 'drive', '--output', tmp_path / 'out', code=1)
    assert "pip install 'rosbags>=0.10.11'" in capsys.readouterr().err


def test_a_damaged_bag_is_one_line(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'drive', StoragePlugin.MCAP)
    [file] = (tmp_path / 'drive').glob('*.mcap')
    file.write_bytes(file.read_bytes()[:300])
    run(tmp_path / 'drive', '--output', tmp_path / 'out', code=1)
    assert f'lednet_segment: {tmp_path / "drive"}: ' in capsys.readouterr().err
    assert {p.name for p in (tmp_path / 'out').iterdir()} == {
        'labels.yaml', 'lednet_segment.json'}


def heed_sigint() -> None:
    """Undo what a shell does to SIGINT for a job in the background, these tests for one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize(('kind', 'number'), [
    ('video', signal.SIGINT), ('bag', signal.SIGTERM),
    pytest.param('bag', signal.SIGINT, marks=pytest.mark.full)])
def test_a_signal_ends_it_and_the_same_command_goes_on(tmp_path, within, kind, number) -> None:
    source = tmp_path / 'street.mp4'
    if kind == 'bag':
        source = tmp_path / 'drive'
        make_bag(source, StoragePlugin.MCAP, images=300)
    else:
        make_video(source, 300)
    words = [sys.executable, '-m', 'lednet_ros.cli.segment', str(source), '--output',
             str(tmp_path / 'out'), *SMALL]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=heed_sigint)
    while len(list((tmp_path / 'out').rglob('*.png'))) < 5:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    with within(2.0):
        _, said = process.communicate()
    assert process.returncode == 130
    assert 'stopped: the same command goes on from here' in said
    kept = len(list((tmp_path / 'out').rglob('*.png')))
    assert kept < 300
    assert not list((tmp_path / 'out').rglob('.partial*'))
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    total = 300 if kind == 'video' else 600  # front and left
    assert f'{total - kept} segmented' in done.stdout
    assert f'{kept} kept from before' in done.stdout
