# SPDX-License-Identifier: Apache-2.0
"""A data set on one sheet: what was labelled wrongly is to be seen before it is trained on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from orchard import make_orchard

from lednet_ros.cli.train import main
from lednet_ros.datasets.checks import DataReport, check_data
from lednet_ros.datasets.data_sheet import choose_samples, write_data_sheet
from lednet_ros.datasets.layouts import open_data_set
from lednet_ros.datasets.sheet import labelled
from lednet_ros.model.labels import LabelSet

THREE = LabelSet.from_dict({'classes': [
    {'name': 'grass', 'color': [0, 200, 0]}, {'name': 'trunk', 'color': [90, 60, 0]},
    {'name': 'rest', 'color': [0, 0, 200]}]})


@pytest.fixture
def orchard(tmp_path):
    return make_orchard(tmp_path / 'orchard', 20, 6)


def report(root, split: str = 'train') -> DataReport:
    return check_data(open_data_set(root, split))


def test_samples_show_the_rarest_class_and_are_spread(orchard) -> None:
    """Of 20 images a class is in one alone."""
    (orchard / 'labels.yaml').write_text('classes: [{name: grass, color: [0, 200, 0]}, {name: '
                                         'trunk, color: [90, 60, 0]}, {name: rest, color: '
                                         '[0, 0, 9]}, {name: tag, color: [9, 9, 9]}]')
    path = orchard / 'labels' / 'train' / '13.png'
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    mask[20, 20] = 3
    cv2.imwrite(str(path), mask)
    chosen = choose_samples(report(orchard), 8)
    assert len(chosen) == len(set(chosen)) == 8
    assert 13 in chosen
    assert chosen == sorted(chosen)
    assert min(chosen) < 5
    assert max(chosen) > 14


@pytest.mark.parametrize('count', [1, 8, 30])
def test_a_small_set_is_shown_whole(tmp_path, count) -> None:
    made = make_orchard(tmp_path / 'few', 3, 1)
    assert len(choose_samples(report(made), count)) == min(count, 3)


def test_what_cannot_be_read_is_no_sample(orchard) -> None:
    for i in range(1, 20):
        (orchard / 'images' / 'train' / f'{i}.png').write_bytes(b'')
    assert choose_samples(report(orchard), 8) == [0]


def test_the_sheet_has_twelve_pictures_and_both_splits_classes(orchard, tmp_path) -> None:
    path = tmp_path / 'data.png'
    assert write_data_sheet(report(orchard), report(orchard, 'val'), path)
    sheet = cv2.imread(str(path))[..., ::-1]
    assert sheet.shape[1] == 4 * 244 + 620
    for row in range(3):
        for column in range(4):
            tile = sheet[row * 202 + 18:row * 202 + 198, column * 244:column * 244 + 240]
            assert tile.std() > 20, 'a picture'
    card = sheet[:, 4 * 244:].reshape(-1, 3).tolist()
    assert card.count([0, 200, 0]) >= 2 * 12 * 12, "grass's colour in both legends"
    assert card.count([90, 60, 0]) >= 2 * 12 * 12


def test_what_is_not_labelled_is_striped_and_a_black_class_is_not() -> None:
    image = np.full((60, 90, 3), 100, np.uint8)
    labels = np.zeros((60, 90), np.uint8)
    labels[:, 45:] = 255
    shown = labelled(image, labels, THREE)
    assert len(np.unique(shown[:, :45].reshape(-1, 3), axis=0)) == 1
    striped = shown[:, 45:, 0]
    assert striped.min() < 60
    assert striped.max() > 150


def test_the_check_draws_before_it_judges(orchard, tmp_path, monkeypatch, capsys) -> None:
    """The picture shows what is wrong."""
    monkeypatch.chdir(tmp_path)
    assert main(['--data', str(orchard), '--check-data']) == 0
    assert 'orchard_data.png: samples as they are labelled' in capsys.readouterr().out
    assert (tmp_path / 'orchard_data.png').exists()
    (orchard / 'labels' / 'train' / '0.png').unlink()
    assert main(['--data', str(orchard), '--check-data', '--output', str(tmp_path / 'o')]) == 1
    assert [path.name for path in (tmp_path / 'o').iterdir()] == ['data.png']


def test_a_sheet_that_cannot_be_written_does_not_end_the_check(
    orchard, tmp_path, capsys
) -> None:
    (tmp_path / 'file').touch()
    assert main(['--data', str(orchard), '--check-data', '--output', str(tmp_path / 'file')]) == 0
    err = capsys.readouterr().err
    assert 'warning: not drawn: ' in err
    assert 'Traceback' not in err
