# SPDX-License-Identifier: Apache-2.0
"""lednet_select as a user calls it, on files made here."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('rosbags', reason='needs rosbags')

from recordings import IMAGE, make_video, raw, street, write_bag

from lednet_ros.cli import select
from lednet_ros.offline.work import Work
from lednet_ros.segmentation import Segmenter, SegmenterConfig

SMALL = ('--input-height', '64', '--input-width', '96')


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six pictures, a video of eight frames, a bag of five."""
    source = tmp_path / 'source'
    (source / 'deeper').mkdir(parents=True)
    for i in range(6):
        cv2.imwrite(str(source / 'deeper' / f'{i} .png'), street(i))
    make_video(source / 'street.mp4', 8)
    write_bag(source / 'drive', {
        '/front/image': (IMAGE, [raw(street(20 + i), i) for i in range(5)])})
    return source


def run(*words, code: int = 0) -> None:
    assert select.main([*map(str, words), *SMALL]) == code


def test_frames_and_pre_labels_are_written_for_cvat_and_labelme(
    source, tmp_path, capsys
) -> None:
    out = tmp_path / 'out'
    run(source, '--count', 6, '--output', out, '--json', tmp_path / 'f.json')
    assert capsys.readouterr().out.splitlines()[-1].startswith(
        f'{out}: 6 of 19 frames chosen; 19 scored by onnxruntime cpu fp32 (no CUDA GPU), 0 kept ')
    names = [one['name'] for one in json.loads((out / 'selection.json').read_text())]
    assert names == json.loads((tmp_path / 'f.json').read_text())['chosen']
    assert len(set(names)) == 6
    assert sorted(path.name for path in (out / 'images').iterdir()) == sorted(
        f'{name}{suffix}' for name in names for suffix in ('.png', '.json'))
    with zipfile.ZipFile(out / 'cvat.zip') as archive:
        assert archive.read('ImageSets/Segmentation/default.txt').decode().split() == names
        assert f'SegmentationClass/{names[-1]}.png' in archive.namelist()
    with Segmenter(config=SegmenterConfig(input_height=64, input_width=96)) as segmenter:
        for name in names:
            image = cv2.imread(str(out / 'images' / f'{name}.png'))
            [expected] = segmenter.segment([image])
            found = cv2.imread(str(out / 'label' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(found, expected.labels)
    content = json.loads((out / 'images' / f'{names[0]}.json').read_text())
    assert content['imagePath'] == f'{names[0]}.png'
    assert (out / 'labels.txt').read_text().splitlines()[0] == '__ignore__'


def test_a_choice_is_the_least_certain_of_each_neighbourhood(source, tmp_path) -> None:
    run(source / 'street.mp4', '--count', 2, '--by', 'uncertainty', '--output', tmp_path / 'out')
    scores = json.loads((tmp_path / 'out' / 'scores' / 'street.json').read_text())['frames']
    places = [one['frame'] for one in json.loads(
        (tmp_path / 'out' / 'selection.json').read_text())]
    uncertain = sorted(scores, key=lambda one: -one[3])
    assert uncertain[0][1] in places
    assert abs(places[0] - places[1]) > 1


def test_what_is_stopped_goes_on_and_what_is_done_stays(
    source, tmp_path, capsys, monkeypatch
) -> None:
    words = (source, '--count', 4, '--output', tmp_path / 'out')
    segment = Work.segment

    def segment_or_stop(work, frames):
        if work.segmented >= 10:
            raise KeyboardInterrupt
        return segment(work, frames)

    with monkeypatch.context() as patch:
        patch.setattr(Work, 'segment', segment_or_stop)
        run(*words, code=130)
    assert 'stopped: the same command goes on from here' in capsys.readouterr().err
    run(*words)
    assert ' 13 scored by onnxruntime cpu fp32 (no CUDA GPU), 6 kept ' in capsys.readouterr().out
    [first, *_] = (tmp_path / 'out' / 'images').glob('*.json')
    first.write_text('labelled by hand')
    run(*words)
    assert ' 0 scored by onnxruntime cpu fp32 (no CUDA GPU), 19 kept ' in capsys.readouterr().out
    assert first.read_text() == 'labelled by hand'


def test_what_comes_to_a_source_later_is_scored_too(source, tmp_path, capsys) -> None:
    words = (source, '--count', 30, '--output', tmp_path / 'out')
    run(*words)
    for name in ('0 .png', '7.png'):  # one is another now
        cv2.imwrite(str(source / 'deeper' / name), street(9, 24, 32))
    make_video(source / 'street.mp4', 9)
    run(*words, code=1)
    assert 'selection.json: is another choice, which may be labelled' in capsys.readouterr().err
    run(*words, '--overwrite')
    assert ': 21 of 21 frames chosen; ' in capsys.readouterr().out
    run(*words)
    assert ' 0 scored by onnxruntime cpu fp32 (no CUDA GPU), 21 kept ' in capsys.readouterr().out


def test_another_choice_is_not_written_over_one_unasked(source, tmp_path, capsys) -> None:
    words = (source / 'street.mp4', '--output', tmp_path / 'out')
    run(*words, '--count', 3)
    before = sorted((tmp_path / 'out').rglob('*'))
    run(*words, '--count', 1, code=1)
    assert 'selection.json: is another choice, which may be labelled already: choose' in (
        capsys.readouterr().err)
    assert sorted((tmp_path / 'out').rglob('*')) == before
    run(*words, '--count', 1, '--overwrite')
    assert len(list((tmp_path / 'out' / 'images').iterdir())) == 2
    with zipfile.ZipFile(tmp_path / 'out' / 'cvat.zip') as archive:
        assert len(archive.read('ImageSets/Segmentation/default.txt').split()) == 1


def test_each_kth_frame_is_looked_at(source, tmp_path, capsys) -> None:
    run(source / 'street.mp4', '--count', 9, '--every', 3, '--output', tmp_path / 'out')
    assert ': 3 of 3 frames chosen; ' in capsys.readouterr().out


def test_what_cannot_be_read_is_left_out_by_name_each_time(source, tmp_path, capsys) -> None:
    (source / 'deeper' / 'bad.png').write_bytes(b'no picture')
    (source / 'film.mp4').write_bytes(b'no film')
    for _ in range(2):
        run(source, '--count', 2, '--output', tmp_path / 'out', code=1)
        said = capsys.readouterr()
        assert 'bad.png: 10 bytes and no PNG' in said.err
        assert ', 2 (recordings: 1, unreadable pictures: 1) left out, ' in said.out


def test_frames_that_would_share_a_file_are_refused(source, tmp_path, capsys) -> None:
    cv2.imwrite(str(source / 'deeper_1_.png'), street(1))
    run(source, '--count', 2, '--output', tmp_path / 'out', code=1)
    assert 'would share the frame deeper_1_: rename one' in capsys.readouterr().err


@pytest.mark.parametrize(('words', 'said'), [
    (('--count', 0), '--count is 0: give 1 or more'),
    (('--count', 1, '--every', -1), '--every is -1: give 1 or more'),
    (('--count', 1, '--batch', 99), '--batch is 99: give 1 to 32 frames')])
def test_what_cannot_be_meant_is_one_line(source, tmp_path, capsys, words, said) -> None:
    run(source, *words, '--output', tmp_path / 'out', code=1)
    assert said in capsys.readouterr().err


def test_topics_that_differ_by_a_slash_are_two(tmp_path) -> None:
    topics = {'/stereo/left_image': 1, '/stereo_left/image': 2}
    write_bag(tmp_path / 'drive', {
        topic: (IMAGE, [raw(street(seed), seed)]) for topic, seed in topics.items()})
    run(tmp_path / 'drive', '--count', 2, '--output', tmp_path / 'out')
    images = (tmp_path / 'out' / 'images').glob('*.png')
    assert {cv2.imread(str(image)).tobytes() for image in images} == {
        street(seed).tobytes() for seed in topics.values()}


@pytest.mark.parametrize('one_by_one', [False, True])
def test_a_choice_stands_for_all_that_was_recorded(tmp_path, one_by_one) -> None:
    pictures, out = tmp_path / 'pictures', tmp_path / 'out'
    pictures.mkdir()
    for i in range(12):
        picture = cv2.add(street(0), i % 3)
        cv2.imwrite(str(pictures / f'{i:02}.png'), picture[::-1] if i == 4 else picture)
    sources = sorted(pictures.iterdir()) if one_by_one else [pictures]
    run(*sources, '--count', 2, '--output', out)
    chosen = [one['name'] for one in json.loads((out / 'selection.json').read_text())]
    assert len(chosen) == 2
    assert '04' in chosen


@pytest.mark.parametrize('by', ['variety', 'uncertainty'])
def test_pictures_named_one_by_one_are_neighbours_in_their_order(source, tmp_path, by) -> None:
    run(*sorted((source / 'deeper').iterdir()), '--count', 3, '--by', by, '--output',
        tmp_path / 'out')
    assert len(json.loads((tmp_path / 'out' / 'selection.json').read_text())) == 3
