# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
from orchard import draw
from PIL import Image

from lednet_ros.errors import DataError
from lednet_ros.training.data_check import check_data
from lednet_ros.training.datasets import open_data_set


def cityscapes(root, split='train', kind='gtFine') -> None:
    """Lay out a 4 x 6 frame as Cityscapes: ids 7 road, 26 car, 33 bicycle, 3 ignored."""
    city = root / 'leftImg8bit' / split / 'ulm'
    labels = root / kind / split / 'ulm'
    for place in (city, labels):
        place.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(city / 'ulm_000000_000019_leftImg8bit.png'), np.zeros((4, 6, 3), np.uint8))
    ids = np.full((4, 6), 7, np.uint8)
    ids[0, :3] = 26, 3, 33
    cv2.imwrite(str(labels / f'ulm_000000_000019_{kind}_labelIds.png'), ids)


def test_own_folders_hold_class_ids_void_and_255(orchard) -> None:
    data = open_data_set(orchard, 'train')
    image, labels = data.read(0)
    drawn, ids = draw(0)
    assert (image == drawn).all()
    assert (labels[ids < 2] == ids[ids < 2]).all()
    assert (labels[ids == 2] == 255).all(), 'a void class is not scored'
    assert (labels[ids == 255] == 255).all()
    assert data.labels.name == 'orchard'
    assert len(open_data_set(orchard, 'val')) == 3


def test_camvids_11_is_not_scored(tmp_path) -> None:
    for place in ('train', 'trainannot'):
        (tmp_path / place).mkdir()
    cv2.imwrite(str(tmp_path / 'train' / 'a.png'), np.zeros((2, 3, 3), np.uint8))
    values = np.array([[0, 5, 10], [11, 11, 3]], np.uint8)
    cv2.imwrite(str(tmp_path / 'trainannot' / 'a.png'), values)
    _, labels = open_data_set(tmp_path, 'train').read(0)
    assert labels.tolist() == [[0, 5, 10], [255, 255, 3]]


def test_cityscapes_ids_become_train_ids(tmp_path) -> None:
    pytest.importorskip('cityscapesscripts', reason='needs cityscapesscripts')
    cityscapes(tmp_path)
    data = open_data_set(tmp_path, 'train')
    _, labels = data.read(0)
    names = data.labels.names
    assert labels[0, :3].tolist() == [names.index('car'), 255, names.index('bicycle')]
    assert set(labels[1:].ravel().tolist()) == {names.index('road')}


def test_coarse_labels_come_beside_the_fine_ones(tmp_path) -> None:
    pytest.importorskip('cityscapesscripts', reason='needs cityscapesscripts')
    cityscapes(tmp_path)
    cityscapes(tmp_path, 'train_extra', 'gtCoarse')
    assert len(open_data_set(tmp_path, 'train')) == 1
    data = open_data_set(tmp_path, 'train', coarse=True)
    assert [pair.label.name.split('_')[3] for pair in data.pairs] == ['gtFine', 'gtCoarse']
    assert not check_data(data).faults


def test_a_palette_image_holds_indices_not_colours(orchard) -> None:
    path = orchard / 'labels' / 'train' / '0.png'
    picture = Image.fromarray(draw(0)[1], 'P')
    picture.putpalette([value for i in range(256) for value in (255 - i, i, 7)])
    picture.save(path)
    data = open_data_set(orchard, 'train')
    assert set(np.unique(data.read(0)[1]).tolist()) == {0, 1, 255}


@pytest.mark.parametrize(('spoil', 'said'), [
    (lambda p: p.unlink(), 'does not exist: label its image'),
    (lambda p: p.write_bytes(b'rubbish'), 'cannot be read as a label image'),
    (lambda p: p.write_bytes(p.read_bytes()[:80]), 'cannot be read as a label image'),
    (lambda p: cv2.imwrite(str(p), np.zeros((48, 64, 3), np.uint8)), 'is a RGB image'),
    (lambda p: cv2.imwrite(str(p), np.zeros((48, 64), np.uint16)), 'is a I;16 image'),
    (lambda p: cv2.imwrite(str(p), np.zeros((24, 64), np.uint8)),
     'is 64x24 but its image 64x48'),
    (lambda p: cv2.imwrite(str(p), np.full((48, 64), 7, np.uint8)),
     "holds 7, which label set 'orchard' does not know"),
], ids=['missing', 'rubbish', 'cut off', 'colours', '16 bit', 'size', 'unknown id'])
def test_a_bad_pair_is_found_before_training_and_named(orchard, spoil, said) -> None:
    bad = orchard / 'labels' / 'train' / '3.png'
    spoil(bad)
    report = check_data(open_data_set(orchard, 'train'))
    assert len(report.faults) == 1
    with pytest.raises(DataError) as error:
        report.refuse_faults()
    assert '1 of 8 pairs cannot be used' in str(error.value)
    assert f'{bad}: {said}' in str(error.value)


def test_a_label_image_that_pillow_takes_for_an_attack_is_named(orchard, monkeypatch) -> None:
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 48 * 64 // 2 - 1)  # it refuses the double
    with pytest.raises(DataError, match=r'train/0.png: is too large: cut it into tiles, and its'):
        open_data_set(orchard, 'train').read(0)


def test_the_check_counts_sizes_and_classes(orchard) -> None:
    data = open_data_set(orchard, 'train')
    report = check_data(data)
    assert report.sizes == {(48, 64): 8}
    drawn = [draw(i)[1] for i in range(8)]
    grass, trunk = (sum(int((d == i).sum()) for d in drawn) for i in (0, 1))
    assert report.pixels[:2].tolist() == [grass, trunk]
    assert report.frequencies[0] == pytest.approx(grass / (grass + trunk))
    text = '\n'.join(report.lines())
    assert '8 pairs, 8 of 64x48' in text
    assert 'trunk' in text


@pytest.mark.parametrize(('make', 'said'), [
    (lambda root: None, 'holds no train split of a known layout'),
    (lambda root: (root / 'images' / 'train').mkdir(parents=True), 'labels.yaml'),
    (lambda root: (root / 'trainannot').mkdir(), 'holds no image'),
], ids=['empty', 'no labels.yaml', 'no images'])
def test_a_directory_that_is_no_data_set_is_named(tmp_path, make, said) -> None:
    make(tmp_path)
    with pytest.raises(Exception, match=said) as error:
        open_data_set(tmp_path, 'train')
    assert str(tmp_path) in str(error.value)


def test_two_images_of_one_name_are_refused(orchard) -> None:
    (orchard / 'images' / 'train' / '0.jpg').write_bytes(b'')
    with pytest.raises(DataError, match='would share a label image'):
        open_data_set(orchard, 'train')


def test_only_cityscapes_has_coarse_labels(orchard) -> None:
    with pytest.raises(DataError, match='nothing coarse'):
        open_data_set(orchard, 'train', coarse=True)
