# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a data set although each pair can be read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from orchard import draw
from PIL import Image

from lednet_ros.cli.train import main
from lednet_ros.common.errors import DataError
from lednet_ros.datasets import checks as data_check
from lednet_ros.datasets.checks import DataReport, check_data, shared_images
from lednet_ros.datasets.layouts import open_data_set

THREE = ('classes: [{name: soil, color: [9, 9, 9]}, {name: weed, color: [0, 99, 0]}, '
         '{name: stone, color: [80, 80, 80]}]\n')
TWO = 'classes: [{name: soil, color: [9, 9, 9]}, {name: weed, color: [0, 99, 0]}]\n'
WITH_VOID = TWO.replace('}]', '}, {name: rest, color: [0, 0, 0], void: true}]')
VOID_FIRST = ('classes: [{name: rest, color: [0, 0, 0], void: true}, {name: weed, color: '
              '[0, 99, 0]}]\n')


def field(root: Path, labels: str, train: list[int], val: list[int]) -> Path:
    """Make a data set of two different images a split, whose label images hold these values."""
    for split, values in (('train', train), ('val', val)):
        for kind in ('images', 'labels'):
            (root / kind / split).mkdir(parents=True)
        for i in range(2):
            cv2.imwrite(str(root / 'images' / split / f'{i}.png'),
                        draw(i + 100 * (split == 'val'))[0])
            mask = np.array(values, np.uint8)[np.arange(48 * 64) % len(values)]
            cv2.imwrite(str(root / 'labels' / split / f'{i}.png'), mask.reshape(48, 64))
    (root / 'labels.yaml').write_text(labels)
    return root


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """The check draws a sheet where it is called."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def check(tmp_path, capsys):
    def run(*args) -> tuple[int, str]:
        code = main(['--data', str(field(tmp_path / 'field', *args)), '--check-data'])
        return code, capsys.readouterr().err
    return run


@pytest.mark.parametrize(('labels', 'train', 'val', 'split', 'remedy'), [
    (TWO, [0, 255], [0, 255], 'train', 'so nothing is weed: write the id of what they mark '
     'instead of 255, 1 for weed'),
    (TWO, [0, 1], [0, 255], 'val', 'so nothing is weed: '),
    (THREE, [255, 0, 0], [0, 1, 2], 'train', 'so nothing is weed or stone: write the id of'),
    (WITH_VOID, [0, 255], [0, 1], 'train', 'so nothing is weed: '),
    (VOID_FIRST, [0, 255], [0, 1], 'train', 'so nothing is weed: '),
], ids=['both', 'val', 'three classes', 'void', 'void first'])
def test_masks_of_0_and_255_are_refused_with_the_remedy(
    check, labels, train, val, split, remedy
) -> None:
    code, err = check(labels, train, val)
    assert code == 1
    last = err.splitlines()[-1]
    assert f'field {split}: the label images hold 0 and 255 only, and 255 means not ' in last
    assert remedy in last


@pytest.mark.parametrize(('labels', 'train', 'val', 'said'), [
    (THREE, [0, 1], [0, 1, 2], [
        'field train: 1 of 3 classes has no pixel and cannot be learnt: stone: label some, or']),
    (THREE, [0, 1, 2], [0], [
        'field val: 2 of 3 classes have no pixel and cannot be scored: weed, stone: put images']),
    (THREE, [0, 1, 255], [0, 1], [
        'field train: 1 of 3 classes has no pixel and cannot be learnt: stone: 255 means not '
        'labelled; label some',
        'field val: 1 of 3 classes has no pixel and cannot be scored: stone: put images']),
    (WITH_VOID, [0, 1], [0, 1], []),
    (WITH_VOID, [0, 1, 2], [0, 2, 255], [
        'field val: 1 of 2 classes has no pixel and cannot be scored: weed: 255 means']),
    (TWO, [0, 1], [0, 1, 255], []),
], ids=['train', 'val', 'both', 'void', 'void beside', 'none'])
def test_classes_without_a_pixel_are_warned_of_by_name(check, labels, train, val, said) -> None:
    code, err = check(labels, train, val)
    assert code == 0
    warnings = re.findall(r'^lednet_train: warning: \S+/(.*)', err, re.M)
    assert len(warnings) == len(said)
    for warning, beginning in zip(warnings, said, strict=True):
        assert warning.startswith(beginning)


@pytest.mark.parametrize('labels', [TWO, WITH_VOID])
@pytest.mark.parametrize('value', [0, 1])
def test_a_single_class_cannot_be_learnt(check, labels, value) -> None:
    """It would score 100 %."""
    code, err = check(labels, [value], [0, 1])
    assert code == 1
    assert f'field train: all that is labelled is {("soil", "weed")[value]}, so nothing' in err


def test_of_a_single_class_255_may_be_the_rest(check) -> None:
    """Then it is no mask of 0 and 255, but nothing can be told apart all the same."""
    code, err = check(TWO.replace('99, 0]', '99, 0], void: true'), [0, 255], [0, 255])
    assert code == 1
    assert 'field train: all that is labelled is soil' in err


def test_the_check_warns_of_images_in_both_splits(orchard, capsys) -> None:
    shutil.copy(orchard / 'images' / 'train' / '3.png', orchard / 'images' / 'val' / '0.png')
    assert main(['--data', str(orchard), '--check-data']) == 0
    assert ('1 of 3 images of val are in train too (0.png is 3.png), so its scores say nothing'
            in capsys.readouterr().err)


@pytest.mark.slow
def test_training_warns_as_the_check_does(tmp_path, recipe_file, capsys) -> None:
    data = field(tmp_path / 'field', THREE, [0, 1], [0, 1, 2])
    command = ['--recipe', str(recipe_file(epochs=1)), '--device', 'cpu',
               '--output', str(tmp_path / 'out')]
    assert main([*command, '--data', str(data)]) == 0
    err = capsys.readouterr().err
    assert err.count('warning: ') == 1
    assert '1 of 3 classes has no pixel and cannot be learnt: stone' in err
    binary = field(tmp_path / 'binary', TWO, [0, 255], [0, 255])
    assert main([*command, '--data', str(binary)]) == 1
    assert 'write the id of what they mark instead of 255' in capsys.readouterr().err


def reports(root: Path) -> tuple[DataReport, DataReport]:
    train, val = (check_data(open_data_set(root, split)) for split in ('train', 'val'))
    return train, val


def test_palettes_that_contradict_each_other_are_warned_of(tmp_path) -> None:
    """Of tools that order palettes anew for each file, where no class has a colour to compare."""
    colors = np.array([[0, 0, 0], [128, 64, 128], [0, 255, 0]], np.uint8)
    ids = np.arange(3, dtype=np.uint8).repeat(4).reshape(3, 4)
    for i, order in enumerate(([0, 1, 2], [0, 1, 2], [2, 1, 0], [1, 0, 2])):
        for kind in ('images', 'labels'):
            (tmp_path / kind).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f'images/{i}.png'), np.full((3, 4, 3), 60 * i, np.uint8))
        picture = Image.fromarray(np.argsort(order).astype(np.uint8)[ids], 'P')
        picture.putpalette(colors[order].ravel().tolist())
        picture.save(tmp_path / f'labels/{i}.png')
    described = tmp_path / 'data.yaml'
    described.write_text('train: {images: "images/*.png"}\nlabels: labels/*.png\n'
                         'classes: [rest, road, tree]\n')
    [warning] = check_data(open_data_set(tmp_path, 'train')).warnings()
    assert ('2 label images show a value in another colour than others do (0 in 2.png and in '
            '0.png, for one)') in warning
    described.write_text(described.read_text().replace('images/*', 'images/[01]'))
    assert [*check_data(open_data_set(tmp_path, 'train')).warnings()] == []


def test_images_of_their_own_are_not_taken_for_each_other(orchard) -> None:
    assert not list(shared_images(*reports(orchard)))


def as_jpeg(image: np.ndarray) -> np.ndarray:
    coded = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)


@pytest.mark.parametrize(('suffix', 'change'), [
    ('.png', lambda image: image), ('.bmp', lambda image: image), ('.png', as_jpeg),
    ('.png', lambda image: cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA)),
], ids=['a copy', 'another format', 'compressed', 'half the size'])
def test_images_of_val_that_are_in_train_are_named(orchard, suffix, change) -> None:
    for i in (1, 2):
        image, labels = draw(50 + i, 240, 320)
        cv2.imwrite(str(orchard / 'images' / 'train' / f'{i + 4}.png'), image)
        cv2.imwrite(str(orchard / 'labels' / 'train' / f'{i + 4}.png'), labels)
        (orchard / 'images' / 'val' / f'{i}.png').unlink()
        image = change(image)
        cv2.imwrite(str(orchard / 'images' / 'val' / f'{i}{suffix}'), image)
        cv2.imwrite(str(orchard / 'labels' / 'val' / f'{i}.png'),
                    np.zeros(image.shape[:2], np.uint8))
    [said] = shared_images(*reports(orchard))
    assert '2 of 3 images of val are in train too' in said
    assert f'(1{suffix} is 5.png, 2{suffix} is 6.png)' in said
    assert 'take them from another drive' in said


def test_dark_images_are_not_equal_for_that(orchard) -> None:
    """Of the night, with a lamp here or there."""
    for split, x in (('train', 8), ('val', 40)):
        image = np.full((48, 64, 3), 3, np.uint8)
        image[8:12, x:x + 4] = 9
        cv2.imwrite(str(orchard / 'images' / split / '0.png'), image)
    assert not list(shared_images(*reports(orchard)))
    cv2.imwrite(str(orchard / 'images' / 'train' / '0.png'), image)
    assert 'val are in train too (0.png is 0.png)' in next(shared_images(*reports(orchard)))


def test_equal_faults_are_one_line_with_their_number_and_the_first_names(orchard) -> None:
    for i in range(6):
        cv2.imwrite(str(orchard / 'labels' / 'train' / f'{i}.png'),
                    np.zeros((48, 64, 3), np.uint8))
    (orchard / 'labels' / 'train' / '7.png').unlink()
    report = check_data(open_data_set(orchard, 'train'))
    with pytest.raises(DataError) as error:
        report.refuse_faults()
    lines = str(error.value).splitlines()
    assert lines[0] == '7 of 8 pairs cannot be used:'
    assert lines[1].startswith(f'6 files ({orchard}/labels/train/0.png, 1.png, 2.png, ...): has ')
    assert lines[2].startswith(f'{orchard}/labels/train/7.png: does not exist')
    assert len(lines) == 3


def test_faults_of_many_kinds_are_counted_beyond_the_first(orchard, monkeypatch) -> None:
    for i in range(8):
        cv2.imwrite(str(orchard / 'labels' / 'train' / f'{i}.png'),
                    np.zeros((20 + i, 64), np.uint8))
    report = check_data(open_data_set(orchard, 'train'))
    monkeypatch.setattr(data_check, '_NAMED', 5)
    with pytest.raises(DataError) as error:
        report.refuse_faults()
    assert len(str(error.value).splitlines()) == 7
    assert str(error.value).splitlines()[-1] == '... and 3 more'
    text = '\n'.join(report.lines())
    assert 'none of them readable' in text
    assert 'grass' not in text
