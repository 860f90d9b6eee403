# SPDX-License-Identifier: Apache-2.0
import errno
from pathlib import Path

import cv2
import numpy as np
import pytest
from orchard import draw
from PIL import Image

from lednet_ros.common.errors import DataError
from lednet_ros.datasets.checks import check_data
from lednet_ros.datasets.layouts import open_data_set


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


def test_hidden_files_and_folders_are_no_images_of_cityscapes(tmp_path) -> None:
    cityscapes(tmp_path)
    found = open_data_set(tmp_path, 'train')
    [city] = (tmp_path / 'leftImg8bit' / 'train').iterdir()
    (city / '._a_leftImg8bit.png').write_bytes(b'\0\5\x16\7')  # of macOS
    (city / 'b_leftImg8bit.png').mkdir()
    again = open_data_set(tmp_path, 'train')
    assert again.pairs == found.pairs
    assert again.left_out[0].startswith('2 files in ')


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


def with_palette(path, colors, indices) -> None:
    picture = Image.fromarray(indices, 'P')
    picture.putpalette([value for color in colors for value in color])
    picture.save(path)


@pytest.mark.parametrize(('colors', 'indices', 'said'), [
    ([(90, 60, 0), (0, 200, 0)], (0, 1), '0 in the colour of trunk, but 0 is the id of grass'),
    ([(90, 60, 0)], (0,), '0 in the colour of trunk, but 0 is the id of grass'),
    ([(9, 9, 9), (0, 200, 0), (90, 60, 0)], (1,), '1 in the colour of grass, but 1 is the id of'),
    ([(0, 200, 0), (90, 60, 0)], (0, 1), None),
    ([(90, 60, 0), (90, 60, 0)], (1,), None),           # 0 does not occur
    ([(i, i, i) for i in range(256)], (0, 1), None),
    ([(128, 0, 0), (0, 128, 0)], (0, 1), None),         # a tool's own colours
    ([(0, 200, 0)] * 256, (0, 255), None),              # 255 has no colour to show
], ids=['another order', 'one class', 'shifted', 'the order of the ids', 'unused', 'greys',
        'colours of its own', '255'])
def test_a_palette_in_another_order_is_refused(orchard, colors, indices, said) -> None:
    """Tools that make a palette for each file write such: its indices are no ids."""
    path = orchard / 'labels' / 'train' / '0.png'
    with_palette(path, colors, np.resize(np.array(indices, np.uint8), (48, 64)))
    data = open_data_set(orchard, 'train')
    if said is None:
        assert set(np.unique(data.read_values(0)[1])) == set(indices)
    else:
        with pytest.raises(DataError, match=rf'^{path}: its palette shows {said}.*read it by'):
            data.read(0)


def test_a_palette_s_value_that_is_no_id_is_named_as_before(orchard) -> None:
    with_palette(orchard / 'labels' / 'train' / '0.png', [(0, 200, 0)] * 8,
                 np.full((48, 64), 7, np.uint8))
    with pytest.raises(DataError, match="holds 7, which label set 'orchard' does not know"):
        open_data_set(orchard, 'train').read(0)


@pytest.mark.parametrize(('orientation', 'label_is_turned', 'is_told'), [
    (1, True, True), (2, True, False), (3, True, False), (4, True, False), (5, True, True),
    (6, True, True), (7, True, True), (8, True, True), (6, False, False), (8, False, False)])
def test_a_turned_image_trains_only_where_its_size_tells_that_its_label_image_fits(
    orchard, orientation, label_is_turned, is_told,
) -> None:
    """Some tools label the pixels as they are stored, and that would train it upside down."""
    image, label = (orchard / kind / 'train' / '0.png' for kind in ('images', 'labels'))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(image).save(image, exif=exif)
    values = draw(0)[1]
    shown = values.T if orientation >= 5 and label_is_turned else values
    Image.fromarray(shown).save(label)
    data = open_data_set(orchard, 'train')
    if is_told:
        pixels, labels = data.read(0)
        assert pixels.shape[:2] == labels.shape == shown.shape
        assert not check_data(data).faults
    else:
        [(path, fault)] = check_data(data).faults
        assert path == image
        assert fault.startswith(f'has EXIF orientation {orientation}, and its label image may be')
        assert "'mogrify -auto-orient'" in fault


def test_a_square_image_that_is_turned_is_told_by_no_size(orchard) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, pixels, options in (('images', np.zeros((32, 32, 3), np.uint8), {'exif': exif}),
                                  ('labels', np.zeros((32, 32), np.uint8), {})):
        Image.fromarray(pixels).save(orchard / kind / 'train' / '0.png', **options)
    with pytest.raises(DataError, match='has EXIF orientation 6, and its label image may be'):
        open_data_set(orchard, 'train').read(0)


def test_a_label_image_that_is_to_be_turned_is_refused(orchard) -> None:
    label = orchard / 'labels' / 'train' / '0.png'
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(label).save(label, exif=exif)
    with pytest.raises(DataError, match=rf'{label}: EXIF orientation 3: write its pixels as they'):
        open_data_set(orchard, 'train').read(0)


@pytest.mark.parametrize(('spoil', 'said'), [
    (lambda p: p.unlink(), 'does not exist: label its image'),
    (lambda p: p.write_bytes(b'rubbish'), '7 bytes and no PNG image: replace it'),
    (lambda p: p.write_bytes(p.read_bytes()[:80]), 'a PNG of 80 bytes that is cut short'),
    (lambda p: cv2.imwrite(str(p), np.zeros((48, 64, 3), np.uint8)),
     'has channels RGB, where a label image has one, of class ids: name its colours in a '
     'data.yaml'),
    (lambda p: p.rename(p.with_suffix('.bmp')),
     'does not exist but 3.bmp does: label images are PNG files'),
    (lambda p: cv2.imwrite(str(p), np.zeros((48, 64), np.uint16)), 'a PNG of 16 bits a channel'),
    (lambda p: cv2.imwrite(str(p), np.zeros((24, 64), np.uint8)),
     'is 64x24 but its image 64x48'),
    (lambda p: cv2.imwrite(str(p), np.full((48, 64), 7, np.uint8)),
     "holds 7, which label set 'orchard' does not know"),
], ids=['missing', 'rubbish', 'cut off', 'colours', 'another suffix', '16 bit', 'size',
        'unknown id'])
def test_a_bad_pair_is_found_before_training_and_named(orchard, spoil, said) -> None:
    bad = orchard / 'labels' / 'train' / '3.png'
    spoil(bad)
    report = check_data(open_data_set(orchard, 'train'))
    assert len(report.faults) == 1
    with pytest.raises(DataError) as error:
        report.refuse_faults()
    assert '1 of 8 pairs cannot be used' in str(error.value)
    assert f'{bad}: {said}' in str(error.value)


@pytest.mark.parametrize(('fault', 'said'), [
    (OSError(errno.EMFILE, 'Too many open files'), r'too many files are open \(.*\): lower '),
    (OSError(errno.EIO, 'Input/output error'), 'Input/output error: mend the disk'),
    (MemoryError('4 GiB'), r'there is too little memory \(MemoryError: 4 GiB\): lower workers'),
], ids=['files', 'disk', 'memory'])
def test_what_is_not_the_files_fault_is_not_laid_on_it(orchard, monkeypatch, fault, said) -> None:
    """To replace it would not help."""
    data = open_data_set(orchard, 'train')

    def fail(*_) -> None:
        raise fault

    monkeypatch.setattr(Path, 'read_bytes', fail)
    with pytest.raises(DataError, match=rf'images/train/0\.png: {said}'):
        data.read(0)
    assert len(check_data(data).faults) == 8


def test_the_check_counts_sizes_and_classes(orchard) -> None:
    data = open_data_set(orchard, 'train')
    report = check_data(data)
    assert report.sizes == {(48, 64): 8}
    assert not list(report.warnings())
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


def test_suffixes_are_taken_in_any_case(orchard) -> None:
    for kind in ('images', 'labels'):
        (orchard / kind / 'train' / '0.png').rename(orchard / kind / 'train' / '0.PNG')
    data = open_data_set(orchard, 'train')
    assert (data.read(0)[0] == draw(0)[0]).all()
    (orchard / 'labels' / 'train' / '0.png').write_bytes(b'')
    with pytest.raises(DataError, match=r'labels/train/0.png: would share an image: rename one|'
                                        r'labels/train/0.PNG and 0.png: would share an image'):
        open_data_set(orchard, 'train')


def test_what_is_no_pair_is_left_out_and_counted(orchard) -> None:
    images, labels = (orchard / kind / 'train' for kind in ('images', 'labels'))
    for name in ('._0.png', '.hidden.png', 'a.gif', 'b.GIF', 'notes'):
        (images / name).write_bytes(b'')
    (images / 'more.png').mkdir()
    (labels / '99.png').write_bytes(b'')
    (labels / '0.json').write_bytes(b'')
    data = open_data_set(orchard, 'train')
    assert len(data) == 8
    assert data.left_out == (
        f'2 hidden, 2 .gif, 1 folders, 1 without a suffix in {images}',
        f'1 label images without an image in {labels}', f'1 .json in {labels}')
    assert f'left out: {"; ".join(data.left_out)}' in '\n'.join(check_data(data).lines())


def test_links_are_followed(orchard, tmp_path) -> None:
    linked = tmp_path / 'linked'
    for kind in ('images', 'labels'):
        (linked / kind / 'train').mkdir(parents=True)
        (linked / kind / 'train' / '0.png').symlink_to(orchard / kind / 'train' / '0.png')
        (linked / kind / 'val').symlink_to(orchard / kind / 'val')
    (linked / 'labels.yaml').symlink_to(orchard / 'labels.yaml')
    assert len(open_data_set(linked, 'train')) == 1
    assert len(open_data_set(linked, 'val')) == 3
    (linked / 'images' / 'train' / 'gone.png').symlink_to(tmp_path / 'nowhere')
    assert len(check_data(open_data_set(linked, 'train')).faults) == 1


OWN = 'name: own\nclasses: [{name: road, color: [1, 2, 3]}, {name: grass, color: [4, 5, 6]}]\n'


def as_camvid(root, value: int = 1) -> None:
    for place in ('train', 'trainannot'):
        (root / place).mkdir()
    cv2.imwrite(str(root / 'train' / 'a.png'), np.zeros((2, 3, 3), np.uint8))
    cv2.imwrite(str(root / 'trainannot' / 'a.png'), np.full((2, 3), value, np.uint8))


@pytest.mark.parametrize('name', ['labels.yaml', 'labels.yml', 'Labels.YAML'])
def test_a_label_set_of_ones_own_wins_in_camvids_folders(tmp_path, name) -> None:
    as_camvid(tmp_path)
    camvid = open_data_set(tmp_path, 'train')
    assert camvid.labels.names[1] == 'building'
    assert ("label set 'camvid': CamVid's own, as there is no labels.yaml"
            in next(check_data(camvid).lines()))
    (tmp_path / name).write_text(OWN)
    own = open_data_set(tmp_path, 'train')
    assert own.labels.names == ['road', 'grass']
    assert own.read(0)[1].max() == 1
    assert f"label set 'own': {name}" in next(check_data(own).lines())
    as_wrong = tmp_path / 'wrong'
    as_wrong.mkdir()
    as_camvid(as_wrong, value=5)  # a tree in CamVid
    (as_wrong / name).write_text(OWN)
    with pytest.raises(DataError, match="holds 5, which label set 'own' does not know"):
        open_data_set(as_wrong, 'train').read(0)


def test_a_label_set_of_ones_own_wins_in_cityscapes_folders(tmp_path) -> None:
    """Without cityscapesscripts."""
    cityscapes(tmp_path)
    for file in (tmp_path / 'gtFine').glob('*/*/*.png'):
        cv2.imwrite(str(file), np.ones((4, 6), np.uint8))
    (tmp_path / 'labels.yaml').write_text(OWN)
    data = open_data_set(tmp_path, 'train')
    assert data.labels.names == ['road', 'grass']
    assert (data.read(0)[1] == 1).all()


def test_two_label_sets_are_refused(tmp_path) -> None:
    as_camvid(tmp_path)
    for name in ('labels.yaml', 'labels.yml'):
        (tmp_path / name).write_text(OWN)
    with pytest.raises(DataError, match='are both there: keep one'):
        open_data_set(tmp_path, 'train')


SEGNETS = ('Sky', 'Building', 'Pole', 'Road', 'Pavement', 'Tree', 'SignSymbol', 'Fence', 'Car',
           'Pedestrian', 'Bicyclist', 'Unlabelled')


@pytest.mark.parametrize(('names', 'contradicts'), [
    (SEGNETS, False), (SEGNETS[:-1], False),
    (('Animal', 'Column_Pole', 'LaneMkgsDriv', 'SUVPickupTruck', 'Sky'), False),
    (('Void', 'drivable', 'sky', 'pole'), True), (('Road', 'Car', 'Tree'), True),
    (tuple(reversed(SEGNETS)), True), ((), True),
], ids=["SegNet's", 'without void', 'the 32', 'own', 'some of them', 'another order', 'none'])
def test_a_list_of_colours_that_contradicts_camvids_classes_is_refused(
    tmp_path, names, contradicts
) -> None:
    """As CVAT writes it beside these folders."""
    as_camvid(tmp_path)
    (tmp_path / 'label_colors.txt').write_text('# color_rgb label\n' + ''.join(
        f'{i} {2 * i} 7\t\t{name}\n' for i, name in enumerate(names)))
    if not contradicts:
        assert open_data_set(tmp_path, 'train').labels.name == 'camvid'
        return
    with pytest.raises(DataError, match=r'label_colors\.txt: lists .*labels\.yaml'):
        open_data_set(tmp_path, 'train')
    (tmp_path / 'labels.yaml').write_text(OWN)
    assert open_data_set(tmp_path, 'train').labels.name == 'own'


def test_a_missing_labels_yaml_says_what_it_holds_and_what_was_guessed(tmp_path) -> None:
    for kind in ('images', 'labels'):
        (tmp_path / kind / 'train').mkdir(parents=True)
    with pytest.raises(DataError) as error:
        open_data_set(tmp_path, 'train')
    text = str(error.value)
    assert text.startswith(f'{tmp_path}/labels.yaml: does not exist, and as {tmp_path} holds '
                           'images/ it was taken for images/train/, labels/train/ and that file: ')
    import yaml

    from lednet_ros.model.labels import LabelSet
    entry = text[text.index('{name'):text.index('}') + 1]
    assert LabelSet.from_dict({'classes': [yaml.safe_load(entry)]}).names == ['road']


def test_only_cityscapes_has_coarse_labels(orchard) -> None:
    with pytest.raises(DataError, match='nothing coarse'):
        open_data_set(orchard, 'train', coarse=True)


def test_a_cut_image_is_to_be_replaced_and_not_the_disk(orchard) -> None:
    """Pillow raises OSError over some."""
    image = orchard / 'images' / 'train' / '0.png'
    Image.open(image).save(image, 'BMP')
    image.write_bytes(image.read_bytes()[:5000])
    with pytest.raises(DataError, match=r'0.png: a BMP of 5000 bytes that is cut .*: replace it$'):
        open_data_set(orchard, 'train').read(0)
