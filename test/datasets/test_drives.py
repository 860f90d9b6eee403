# SPDX-License-Identifier: Apache-2.0
"""A drive left out of training is scored, and no image of it is trained on."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from orchard import make_orchard

from lednet_ros.cli.train import main
from lednet_ros.common.errors import DataError
from lednet_ros.datasets.drives import drive_of, drive_table, leave_one_out
from lednet_ros.datasets.layouts import open_data_set


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    """An orchard whose images are of the drives east and west; val of the east's, as CamVid's."""
    root = make_orchard(tmp_path / 'orchard')
    for kind in ('images', 'labels'):
        for split in ('train', 'val'):
            for file in (root / kind / split).iterdir():
                drive = 'west' if split == 'train' and int(file.stem) < 4 else 'east'
                file.rename(file.with_name(f'{drive}_{split}_{file.name}'))
    return root


@pytest.mark.parametrize(('name', 'drive'), [
    ('0016E5_00390.png', '0016E5'), ('aachen_000001_000019_leftImg8bit.png', 'aachen')])
def test_a_drives_name_is_before_the_first_underscore(name, drive) -> None:
    assert drive_of(Path('train') / name) == drive


def test_each_drive_is_left_out_once_and_whole(drives) -> None:
    train, val = open_data_set(drives, 'train'), open_data_set(drives, 'val')
    left = {name: (others, own) for name, others, own in leave_one_out(train, val)}
    assert {name: (len(others), len(own)) for name, (others, own) in left.items()} == {
        'east': (4, 7), 'west': (7, 4)}
    for name, (others, own) in left.items():
        assert {drive_of(pair.image) for pair in own.pairs} == {name}
        assert name not in {drive_of(pair.image) for pair in others.pairs}


def test_images_that_name_no_drives_are_refused(orchard) -> None:
    splits = open_data_set(orchard, 'train'), open_data_set(orchard, 'val')
    with pytest.raises(DataError, match='its name has no underscore with the drive'):
        list(leave_one_out(*splits))


def test_one_drive_cannot_be_left_out(drives) -> None:
    val = open_data_set(drives, 'val')
    with pytest.raises(DataError, match='all images are of drive east'):
        list(leave_one_out(val, val))


def test_one_command_trains_without_each_drive_and_prints_how_it_was_seen(
    drives, recipe_file, tmp_path, capsys
) -> None:
    words = ['--recipe', str(recipe_file()), '--data', str(drives), '--output',
             str(tmp_path / 'out'), '--device', 'cpu', '--leave-one-drive-out']
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    with (tmp_path / 'out' / 'west' / 'history.csv').open() as file:
        last = list(csv.DictReader(file))[-1]
    assert lines[-4:-3] == ['left out           mIoU  pixels']
    assert lines[-2] == f'west            {100 * float(last["val_miou"]):7.1f}' \
                        f'{100 * float(last["val_pixel_accuracy"]):8.1f}'
    assert (tmp_path / 'out' / 'east' / 'last.safetensors').exists()
    assert main(words) == 0  # goes on where it stood: at the end
    assert capsys.readouterr().out.splitlines()[-4:] == lines[-4:]


def test_the_mean_is_over_drives() -> None:
    rows = {'a': {'val_miou': 0.4, 'val_pixel_accuracy': 0.8},
            'b': {'val_miou': 0.5, 'val_pixel_accuracy': 0.9}}
    assert list(drive_table(rows))[-1].split() == ['mean', '45.0', '85.0']
