# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from lednet_ros.model.labels import UNLABELLED
from lednet_ros.training.augmentation import augment, paste_objects
from lednet_ros.training.recipe import Recipe

LEAST = {'input_height': 48, 'input_width': 64, 'epochs': 1, 'flip': False}


def pair() -> tuple[np.ndarray, np.ndarray]:
    """An image whose red says the label: where they are moved, they are moved together."""
    labels = np.repeat(np.repeat(np.arange(48, dtype=np.uint8).reshape(6, 8), 8, 0), 8, 1)
    image = np.stack([labels * 5, labels, labels], 2)
    return image, labels


def view(seed=0, crop=None, **knobs) -> tuple[np.ndarray, np.ndarray]:
    recipe = Recipe.from_dict({**LEAST, **knobs})
    return augment(*pair(), recipe, crop, np.random.default_rng(seed))


def test_without_knobs_a_view_is_the_image() -> None:
    for seen, given in zip(view(), pair(), strict=True):
        assert (seen == given).all()


def test_flipped_is_the_mirror_image() -> None:
    seen = [view(seed, flip=True)[1] for seed in range(16)]
    labels = pair()[1]
    mirrored = [bool((one == labels[:, ::-1]).all()) for one in seen]
    assert all((one == labels).all() or m for one, m in zip(seen, mirrored, strict=True))
    assert 0 < sum(mirrored) < 16


@pytest.mark.parametrize('seed', range(8))
def test_labels_move_with_their_pixels(seed) -> None:
    image, labels = view(seed, crop=(40, 56), scale=[0.6, 2.0], flip=True, shift=3)
    assert image.shape == (40, 56, 3)
    known = labels != 255
    # Inside a patch both are the same; on its edges the image is interpolated.
    same = np.abs(image[known][:, 0].astype(int) - labels[known].astype(int) * 5) <= 3
    assert same.mean() > 0.7
    assert known.mean() > 0.4


def test_beside_the_image_nothing_is_labelled() -> None:
    image, labels = view(crop=(96, 128))
    assert (labels == 255).sum() == 96 * 128 - 48 * 64
    assert (image[labels == 255].max() <= pair()[0].max())


def test_a_view_depends_on_the_seed_alone() -> None:
    knobs = {'crop': (32, 32), 'scale': [0.5, 2.0], 'flip': True, 'color': 0.4}
    once, again, other = view(3, **knobs), view(3, **knobs), view(4, **knobs)
    assert all((a == b).all() for a, b in zip(once, again, strict=True))
    assert any((a != b).any() for a, b in zip(once, other, strict=True))


def test_colour_changes_the_image_and_not_the_labels() -> None:
    image, labels = view(5, color=0.4)
    assert (labels == pair()[1]).all()
    assert (image != pair()[0]).any()


def test_images_are_seen_as_the_network_will_see_them() -> None:
    """Whole and in their shape within its input, whatever the camera's size."""
    image, labels = view(input_height=96, input_width=300)
    assert image.shape == (96, 128, 3)
    assert (labels[::2, ::2] == pair()[1]).all()


def test_images_are_brought_to_a_height_first_if_asked() -> None:
    image, labels = view(resize_height=96)
    assert image.shape == (96, 128, 3)
    assert (labels[::2, ::2] == pair()[1]).all()


def test_at_twice_the_scale_each_pixel_is_there_twice() -> None:
    """Half a pixel off, labels would lie beside what they name."""
    _, labels = view(crop=(96, 128), scale=[2.0, 2.0])
    assert (labels == pair()[1].repeat(2, 0).repeat(2, 1)).all()


@pytest.mark.parametrize('knobs', [
    {'rotation': 20.0}, {'perspective': 0.2}, {'rotation': 20.0, 'perspective': 0.2}], ids=str)
@pytest.mark.parametrize('seed', range(4))
def test_another_pose_of_the_camera_moves_labels_with_their_pixels(seed, knobs) -> None:
    image, labels = view(seed, crop=(48, 64), flip=True, **knobs)
    assert (labels != pair()[1]).any()
    known = labels != 255
    same = np.abs(image[known][:, 0].astype(int) - labels[known].astype(int) * 5) <= 3
    assert same.mean() > 0.6
    assert known.mean() > 0.5


LIGHT = {'white_balance': 0.3, 'hue': 90.0, 'grey': 1.0, 'shading': 0.5, 'blur': 3.0,
         'noise': 30.0, 'jpeg': 20}


@pytest.mark.parametrize('knob', LIGHT)
def test_another_light_or_camera_changes_the_image_alone_and_by_the_seed(knob) -> None:
    views = [view(seed, **{knob: LIGHT[knob]}) for seed in range(8)]
    image, labels = pair()
    assert all((seen == labels).all() for _, seen in views)
    assert any((seen != image).any() for seen, _ in views)
    assert all(seen.dtype == np.uint8 and seen.shape == image.shape for seen, _ in views)
    again = [view(seed, **{knob: LIGHT[knob]})[0] for seed in range(8)]
    assert all((one == two).all() for (one, _), two in zip(views, again, strict=True))


def test_what_is_grey_has_no_colour_and_white_balance_keeps_channels_apart() -> None:
    grey, _ = view(grey=1.0)
    assert (np.ptp(grey, axis=2) == 0).all()
    balanced, _ = view(1, white_balance=0.3)
    gains = balanced.mean((0, 1)) / pair()[0].mean((0, 1))
    assert len(set(gains.round(2))) == 3


def test_the_mean_of_a_noisy_and_of_a_blurred_image_stays() -> None:
    for knobs in ({'noise': 20.0}, {'blur': 3.0}):
        for seed in range(6):
            image, _ = view(seed, **knobs)
            assert image.mean() == pytest.approx(pair()[0].mean(), abs=3.0)


def test_a_whole_turn_of_the_hue_is_none() -> None:
    from lednet_ros.training.augmentation import _hue

    class Whole:
        def uniform(self, low, high):
            return high

    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    half = _hue(image, 180.0, Whole())
    assert np.abs(_hue(half, 180.0, Whole()).astype(int) - image).max() <= 12
    assert np.abs(half.astype(int) - image).mean() > 20


def test_small_objects_of_another_view_are_pasted_where_they_were() -> None:
    image, labels = np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), np.uint8)
    other, other_labels = np.full((20, 20, 3), 7, np.uint8), np.full((20, 20), 1, np.uint8)
    other_labels[4:8, 2] = 2                # a pole: 1 % of the view
    other_labels[10:14, 10:15] = 3          # 5 %
    other_labels[15:, :10] = 4              # 12.5 %: not small
    other_labels[0, :5] = UNLABELLED
    seen = [paste_objects(image, labels, other, other_labels, np.random.default_rng(seed))
            for seed in range(40)]
    assert {tuple(np.unique(pasted)) for _, pasted in seen} == {(0,), (0, 2), (0, 3), (0, 2, 3)}
    for picture, pasted in seen:
        assert ((pasted == 0) | (pasted == other_labels)).all()
        assert ((picture == 7).all(2) == (pasted != 0)).all()
    assert not labels.any()
