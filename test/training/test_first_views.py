# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np

from lednet_ros.datasets.layouts import open_data_set
from lednet_ros.training.augmentation import augment
from lednet_ros.training.first_views import UNCHANGED, write_knobs
from lednet_ros.training.recipe import Recipe

SIZE = {'input_height': 48, 'input_width': 64, 'epochs': 1}
ALL = {'scale': (0.5, 2.0), 'flip': True, 'shift': 8, 'rotation': 10.0, 'perspective': 0.1,
       'white_balance': 0.3, 'hue': 90.0, 'color': 0.5, 'grey': 0.01, 'shading': 0.5, 'blur': 3.0,
       'noise': 30.0, 'jpeg': 5, 'copy_paste': 0.5}


def test_with_all_knobs_without_effect_a_view_is_the_image() -> None:
    """So that what the sheet calls one knob's doing is no other's."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 64, 3), np.uint8)
    labels = rng.integers(0, 3, (48, 64), np.uint8)
    recipe = Recipe(**SIZE, **UNCHANGED)
    for seed in range(8):
        seen = augment(image, labels, recipe, None, np.random.default_rng(seed))
        assert (seen[0] == image).all()
        assert (seen[1] == labels).all()


def test_each_knob_that_is_on_is_drawn_by_itself(orchard, tmp_path) -> None:
    path = tmp_path / 'augmentation.png'
    for file in (orchard / 'labels' / 'train').iterdir():  # something small, to be pasted
        labels = np.zeros_like(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
        labels[:len(labels) // 6, :labels.shape[1] // 6] = 1
        assert cv2.imwrite(str(file), labels)
    write_knobs(open_data_set(orchard, 'train'), Recipe(**SIZE, **ALL), path)
    sheet = cv2.imread(str(path))
    tiles = [sheet[top + 18:top + 198, left:left + 240]
             for top in range(0, sheet.shape[0], 202) for left in range(0, 4 * 244, 244)]
    tiles = [tile for tile in tiles if (tile != 24).any()]
    assert len(tiles) == 1 + len(ALL)
    for knob, tile in zip(ALL, tiles[1:], strict=True):
        assert np.abs(tile.astype(int) - tiles[0]).mean() > 0.2, knob


def test_knobs_that_are_off_are_not_drawn(orchard, tmp_path) -> None:
    path = tmp_path / 'augmentation.png'
    write_knobs(open_data_set(orchard, 'train'),
                Recipe(**SIZE, **{**UNCHANGED, 'hue': 90.0}), path)
    sheet = cv2.imread(str(path))
    assert sheet.shape[0] == 202
    assert (sheet[18:198, 2 * 244:] == 24).all()
