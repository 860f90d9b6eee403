# SPDX-License-Identifier: Apache-2.0
"""data.yaml: every public data set's and labelling tool's layout, made to its documentation."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lednet_ros.common.errors import ConfigError, DataError
from lednet_ros.datasets.checks import check_data
from lednet_ros.datasets.classes import voc_color
from lednet_ros.datasets.descriptor import described, open_descriptor
from lednet_ros.datasets.layouts import open_data_set

IDS = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)  # in most tests, what the label set says


def image(root: Path, path: str, shape: tuple[int, int] = (2, 3)) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    # Each of its own, for the check that compares them.
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    cv2.imwrite(str(root / path), rng.integers(0, 255, (*shape, 3), np.uint8))


def mask(root: Path, path: str, values: object, palette: list[int] | None = None) -> None:
    """Write a PNG of ids, uint8 (H, W), or colours, (H, W, 3) RGB or (H, W, 4)."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.array(values, np.uint8))
    if palette is not None:
        picture = picture.convert('P') if picture.mode == 'P' else Image.fromarray(
            np.array(values, np.uint8), 'P')
        picture.putpalette(palette)
    picture.save(root / path)


def describe(root: Path, text: str) -> Path:
    root.mkdir(exist_ok=True)
    (root / 'data.yaml').write_text(text)
    return root


def read(root: Path, split: str = 'train') -> list[list[list[int]]]:
    data = open_data_set(root, split)
    assert not check_data(data).faults
    return [data.read(i)[1].tolist() for i in range(len(data))]


def names(root: Path, split: str) -> list[str]:
    return [pair.image.name for pair in open_data_set(root, split).pairs]


def colored(colors: list[tuple[int, int, int]], ids: np.ndarray) -> np.ndarray:
    """Return colours, the last of the list where ids are 255."""
    return np.array(colors, np.uint8)[np.where(ids == 255, len(colors) - 1, ids)]


# Labelling tools


def test_cvat_segmentation_masks(tmp_path) -> None:
    """docs.cvat.ai, Segmentation mask 1.1; images in JPEGImages, with their folders."""
    (tmp_path / 'labelmap.txt').write_text(
        '# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\n'
        'a:b:10,20,30::\n')
    for name in ('frame_0', 'frame_1', 'sub/frame_2', 'frame_3', 'frame_4'):
        image(tmp_path, f'JPEGImages/{name}.jpg')
        mask(tmp_path, f'SegmentationClass/{name}.png', colored(
            [(0, 0, 0), (128, 64, 128), (10, 20, 30)], np.minimum(IDS, 2)))
        mask(tmp_path, f'SegmentationObject/{name}.png', np.zeros((2, 3, 3)))
    (tmp_path / 'ImageSets' / 'Segmentation').mkdir(parents=True)
    (tmp_path / 'ImageSets' / 'Segmentation' / 'default.txt').write_text('frame_0\nframe_1\n')
    describe(tmp_path, 'base: cvat_masks')
    assert read(tmp_path) == 4 * [[[0, 0, 1], [1, 2, 2]]]
    assert open_data_set(tmp_path, 'train').labels.names == ['background', 'road', 'a:b']
    assert len(open_data_set(tmp_path, 'val')) == 1
    describe(tmp_path, 'base: cvat_masks\nval: 0.4\nignore: [background]')  # that alone
    assert read(tmp_path) == 3 * [[[255, 255, 0], [0, 1, 1]]]
    assert open_data_set(tmp_path, 'val').labels.names == ['road', 'a:b']
    describe(tmp_path, 'images: JPEGImages/**/*.*\nlabels: SegmentationClass/**/*.png\n'
             'train: ImageSets/Segmentation/default.txt\n'
             'classes: labelmap.txt\nignore: [background]')
    assert read(tmp_path) == 2 * [[[255, 255, 0], [0, 1, 1]]]


def test_roboflow_masks(tmp_path) -> None:
    for split in ('train', 'valid', 'test'):
        image(tmp_path, f'{split}/a_jpg.rf.12ab.jpg')
        mask(tmp_path, f'{split}/a_jpg.rf.12ab_mask.png', np.minimum(IDS, 2))
        (tmp_path / split / '_classes.csv').write_text(
            'Pixel Value, Class\n0, background\n1, road\n2, grass\n')
    describe(tmp_path, 'base: roboflow_masks')
    for split in ('train', 'val', 'test'):
        assert read(tmp_path, split) == [[[0, 0, 1], [1, 2, 2]]]
    assert open_data_set(tmp_path, 'val').labels.names == ['background', 'road', 'grass']


# Public data sets


def test_pascal_voc(tmp_path) -> None:
    palette = [value for i in range(256) for value in voc_color(i)]
    for name, ids in (('2007_000032', [[0, 1, 15]]), ('2007_000039', [[20, 255, 0]]),
                      ('2007_000001', [[9, 9, 9]])):
        image(tmp_path, f'JPEGImages/{name}.jpg', (1, 3))
        mask(tmp_path, f'SegmentationClass/{name}.png', ids, palette)
    lists = tmp_path / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('2007_000032\n')
    (lists / 'val.txt').write_text('2007_000039\n')
    describe(tmp_path, 'base: voc')
    assert read(tmp_path) == [[[0, 1, 15]]]
    assert read(tmp_path, 'val') == [[[20, 255, 0]]]
    data = open_data_set(tmp_path, 'train')
    assert data.labels.names[15] == 'person'
    assert data.labels.classes[15].color == (192, 128, 128), "VOC's own"
    assert data.left_out == ('1 images that no list names',)


def test_rugd(tmp_path) -> None:
    colors = [(108, 64, 20), (255, 229, 204), (0, 102, 0), (0, 0, 0)]
    for drive in ('park-2', 'trail-15', 'park-8', 'creek'):
        image(tmp_path, f'RUGD_frames-with-annotations/{drive}/{drive}_00001.png')
        mask(tmp_path, f'RUGD_annotations/{drive}/{drive}_00001.png', colored(colors, IDS))
    describe(tmp_path, 'base: rugd')
    assert names(tmp_path, 'train') == ['park-2_00001.png', 'trail-15_00001.png']
    assert names(tmp_path, 'val') == ['park-8_00001.png']
    assert names(tmp_path, 'test') == ['creek_00001.png']
    assert read(tmp_path, 'val') == [IDS.tolist()]
    (tmp_path / 'RUGD_annotation-colormap.txt').write_text(
        '0 void 0 0 0\n1 dirt 108 64 20\n2 sand 255 229 204\n3 grass 0 102 0\n')
    describe(tmp_path, 'images: RUGD_frames-with-annotations/*/*.png\n'
             'labels: RUGD_annotations/*/*.png\nclasses: RUGD_annotation-colormap.txt\n'
             'ignore: [void]')
    assert read(tmp_path) == 4 * [IDS.tolist()]


def test_rellis3d(tmp_path) -> None:
    """Its lists name both files; its ids have gaps, and 0 is void."""
    for split, drive in (('train', '00000'), ('val', '00004')):
        stem = f'{drive}/pylon_camera_node/frame000104-1581624663_149'
        image(tmp_path, f'{stem}.jpg')
        label = stem.replace('node/', 'node_label_id/') + '.png'
        mask(tmp_path, label, [[0, 1, 3], [33, 34, 23]])
        (tmp_path / f'{split}.lst').write_text(f'{stem}.jpg {label}\n')
    describe(tmp_path, 'base: rellis3d')
    assert read(tmp_path) == [[[255, 0, 1], [17, 18, 14]]]
    assert names(tmp_path, 'val') == ['frame000104-1581624663_149.jpg']
    labels = open_data_set(tmp_path, 'val').labels
    assert [labels.names[i] for i in (0, 1, 17, 18, 14)] == [
        'dirt', 'grass', 'mud', 'rubble', 'concrete']


def test_a_real_frame_of_rellis3d(tmp_path) -> None:
    source = Path(__file__).parents[3] / 'shared' / 'data' / 'projection' / 'rellis'
    if not source.is_dir():
        pytest.skip(f'needs {source}')
    stem = 'frame000104-1581624663_149'
    (tmp_path / 'data.yaml').write_text(
        f'base: rellis3d\npath: {source}\nimages: "*.jpg"\nlabels: "*.png"\n')
    data = open_data_set(tmp_path / 'data.yaml', 'train')
    [pair] = data.pairs
    assert pair.image == source / f'{stem}.jpg'
    report = check_data(data)
    assert not report.faults
    assert {data.labels.names[i] for i in np.argsort(report.frequencies)[-3:]} <= {
        'grass', 'sky', 'bush', 'tree', 'mud', 'concrete', 'puddle'}


def test_kitti(tmp_path) -> None:
    for i in range(10):
        image(tmp_path, f'training/image_2/{i:06}_10.png')
        mask(tmp_path, f'training/semantic/{i:06}_10.png', [[7, 8, 26], [0, 33, 5]])
    describe(tmp_path, 'base: kitti')
    data = open_data_set(tmp_path, 'val')
    assert names(tmp_path, 'val') == ['000008_10.png', '000009_10.png']
    assert names(tmp_path, 'train') == [f'{i:06}_10.png' for i in range(8)]
    wanted = [data.labels.names.index(name) for name in ('road', 'sidewalk', 'car', 'bicycle')]
    road, sidewalk, car, bicycle = wanted
    assert read(tmp_path, 'val')[0] == [[road, sidewalk, car], [255, bicycle, 255]]


def test_bdd100k(tmp_path) -> None:
    for split in ('train', 'val'):
        image(tmp_path, f'images/10k/{split}/0a0a0b1a-7c39d841.jpg')
        mask(tmp_path, f'labels/sem_seg/masks/{split}/0a0a0b1a-7c39d841.png',
             [[0, 18, 255], [13, 10, 0]])
    describe(tmp_path, 'base: bdd100k')
    assert read(tmp_path) == read(tmp_path, 'val') == [[[0, 18, 255], [13, 10, 0]]]
    assert open_data_set(tmp_path, 'val').labels.names[13] == 'car'


@pytest.mark.parametrize(('base', 'labels', 'config'), [
    ('mapillary', 'labels', 'config.json'), ('mapillary_v2', 'v2.0/labels', 'config_v2.0.json')])
def test_mapillary_vistas(tmp_path, base, labels, config) -> None:
    colors = [(165, 42, 42), (0, 192, 0), (0, 0, 0)]
    (tmp_path / config).write_text(json.dumps({'labels': [
        {'name': 'animal--bird', 'readable': 'Bird', 'evaluate': True, 'color': colors[0]},
        {'name': 'construction--flat--road', 'readable': 'Road', 'evaluate': True,
         'color': colors[1]},
        {'name': 'void--unlabeled', 'readable': 'Unlabeled', 'evaluate': False,
         'color': colors[2]}]}))
    palette = [value for color in colors for value in color]
    for split in ('training', 'validation'):
        image(tmp_path, f'{split}/images/_1Gn.jpg')
        mask(tmp_path, f'{split}/{labels}/_1Gn.png', [[0, 1, 2], [1, 1, 1]], palette)
    describe(tmp_path, f'base: {base}')
    assert read(tmp_path) == read(tmp_path, 'val') == [[[0, 1, 255], [1, 1, 1]]]
    assert open_data_set(tmp_path, 'val').labels.names == ['Bird', 'Road', 'Unlabeled']


def test_freiburg_forest(tmp_path) -> None:
    for split in ('train', 'test'):
        image(tmp_path, f'{split}/rgb/b1-09517_Clipped.jpg')
        mask(tmp_path, f'{split}/GT_color/b1-09517_mask.png',
             [[(170, 170, 170), (0, 255, 0)], [(0, 0, 0), (255, 255, 255)]])
        cv2.imwrite(str(tmp_path / split / 'rgb' / 'b1-09517_Clipped.jpg'),
                    np.zeros((2, 2, 3), np.uint8))
    describe(tmp_path, 'base: freiburg_forest')
    assert read(tmp_path) == read(tmp_path, 'val') == [[[0, 1], [5, 255]]]


def test_comma10k(tmp_path) -> None:
    for number in (0, 9, 18, 19):
        name = f'{number:04}_0085e9e41513078a_2018-08-19--13-26-08_11_86{number % 10}.png'
        image(tmp_path, f'imgs/{name}', (1, 5))
        mask(tmp_path, f'masks/{name}', [[(64, 32, 32, 255), (255, 0, 0, 255), (128, 128, 96, 255),
                                          (0, 255, 102, 255), (204, 0, 255, 255)]])
    describe(tmp_path, 'base: comma10k')
    assert [name[:4] for name in names(tmp_path, 'train')] == ['0000', '0018']
    assert [name[:4] for name in names(tmp_path, 'val')] == ['0009', '0019']
    assert read(tmp_path, 'val')[0] == [[0, 1, 2, 3, 4]]


def test_cityscapes_ids_in_a_layout_of_one_s_own(tmp_path) -> None:
    """The table is equal to Cityscapes' own, where that is installed."""
    for split in ('train', 'val'):
        image(tmp_path, f'{split}/ulm/1.png')
        mask(tmp_path, f'{split}/ulm/1_ids.png', [[7, 8, 11], [0, 33, 29]])
    describe(tmp_path, '\n'.join([
        'base: cityscapes', *(f'{s}: {{images: {s}/**/*.png, labels: {s}/**/*_ids.png}}'
                              for s in ('train', 'val'))]))
    assert read(tmp_path) == read(tmp_path, 'val') == [[[0, 1, 2], [255, 18, 255]]]
    theirs = pytest.importorskip('cityscapesscripts.helpers.labels').labels
    data = open_data_set(tmp_path, 'val')
    for label in theirs:
        if label.id >= 0:
            assert data.to_id[label.id] == (255 if label.ignoreInEval else label.trainId)
            if not label.ignoreInEval:
                own = data.labels.classes[label.trainId]
                assert (own.name, own.color) == (label.name, label.color)


def test_camvid_as_cambridge_publishes_it(tmp_path) -> None:
    named = {'sky': [(128, 128, 128)], 'building': [(128, 0, 0), (64, 192, 0)],
             'road': [(128, 64, 128), (128, 0, 192)], 'car': [(64, 0, 128), (192, 128, 192)]}
    row = [color for colors in named.values() for color in colors] + [(0, 0, 0)]
    for name in ('0001TP_006690', '0016E5_00390', 'Seq05VD_f00000'):
        image(tmp_path, f'701_StillsRaw_full/{name}.png', (1, len(row)))
        mask(tmp_path, f'LabeledApproved_full/{name}_L.png', [row])
    describe(tmp_path, 'base: camvid')
    data = open_data_set(tmp_path, 'train')
    said = [255 if i == 255 else data.labels.names[i] for i in data.read(0)[1][0]]
    assert said == [name for name, colors in named.items() for _ in colors] + [255]
    assert names(tmp_path, 'val') == ['Seq05VD_f00000.png']
    assert len(data) == 2
    (tmp_path / 'label_colors.txt').write_text(
        '64 128 64\tAnimal\n128 128 128\tSky\n0 0 0\t\tVoid\n')
    describe(tmp_path, 'images: 701_StillsRaw_full/*.png\nlabels: LabeledApproved_full/*_L.png\n'
             'classes: label_colors.txt\nignore: [Void, others]')
    assert open_data_set(tmp_path, 'train').labels.names == ['Animal', 'Sky']
    assert read(tmp_path)[0] == [[1, *[255] * (len(row) - 1)]]


def test_camvid_of_one_s_own_meaning_and_the_shipped_ones_are_the_same_classes() -> None:
    from lednet_ros.datasets.descriptor import builtin_classes
    from lednet_ros.model.labels import builtin_label_set
    for name in ('camvid', 'cityscapes'):
        assert builtin_classes(name).labels == builtin_label_set(name)


@pytest.mark.parametrize('name', described())
def test_every_shipped_description_is_whole(tmp_path, name) -> None:
    """Each finds nothing in an empty folder, and says so."""
    describe(tmp_path, f'base: {name}')
    with pytest.raises((DataError, ConfigError), match=r'no image of train|cannot be read'):
        open_data_set(tmp_path, 'train')


@pytest.mark.parametrize(('images', 'labels', 'more', 'base'), [
    ('imgs/0000.png', 'masks/0000.png', '', 'comma10k'),
    ('images/10k/train/a.jpg', 'labels/sem_seg/masks/train/a.png', '', 'bdd100k'),
    ('training/image_2/0.png', 'training/semantic/0.png', '', 'kitti'),
    ('JPEGImages/a.jpg', 'SegmentationClass/a.png', 'labelmap.txt', 'cvat_masks'),
    ('JPEGImages/a.jpg', 'SegmentationClass/a.png', 'ImageSets/Segmentation/train.txt', ''),
    ('train/a.jpg', 'train/a_mask.png', 'train/_classes.csv', 'roboflow_masks'),
    ('photos/a.jpg', 'masks/a.png', '', ''),
])
def test_a_folder_that_a_description_fits_is_told_so(
    tmp_path, images, labels, more, base
) -> None:
    image(tmp_path, images)
    mask(tmp_path, labels, IDS)
    if more:
        (tmp_path / more).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / more).write_text('a\n')
    said = f'write "base: {base}" into {tmp_path}/data.yaml' if base else 'describe yours in'
    with pytest.raises(DataError) as error:
        open_data_set(tmp_path, 'train')
    assert said in str(error.value)


# Keys


IN_ONE = """
images: frames/**/*.*
labels: masks/**/*.png
val: 0.2
classes: [soil, weed, stone]
"""


def test_a_share_is_taken_as_blocks_in_time(tmp_path) -> None:
    """Neighbours in a drive are much alike: random ones would be in train but for a moment."""
    for i in range(200):
        (tmp_path / 'frames' / f'drive{i // 100}').mkdir(parents=True, exist_ok=True)
        (tmp_path / 'frames' / f'drive{i // 100}' / f'{i}.jpg').write_bytes(b'')
    describe(tmp_path, IN_ONE)
    val = [int(Path(name).stem) for name in names(tmp_path, 'val')]
    assert val == [*range(40, 50), *range(90, 100), *range(140, 150), *range(190, 200)]
    train = [int(Path(name).stem) for name in names(tmp_path, 'train')]
    assert sorted(train + val) == [*range(200)]
    describe(tmp_path, IN_ONE + 'test: 0.1')
    splits = [[int(Path(name).stem) for name in names(tmp_path, split)]
              for split in ('train', 'val', 'test')]
    assert sorted(number for numbers in splits for number in numbers) == [*range(200)]
    assert splits[2] == [*range(45, 50), *range(95, 100), *range(145, 150), *range(195, 200)]
    assert splits[1][:10] == [*range(35, 45)]


def test_label_images_without_an_image_are_counted_over_all_splits(tmp_path) -> None:
    for i in range(4):
        image(tmp_path, f'images/{i}.jpg')
        mask(tmp_path, f'labels/{i}.png', IDS)
    mask(tmp_path, 'labels/alone.png', IDS)
    rest = 'labels: labels/*.png\nclasses: [a, b, c]\n'
    for text in ('images: images/*.jpg\nval: 0.5\n', 'images: images/*.jpg\ntrain: t.txt\n'
                 'val: v.txt\n', 'train: {images: "images/[01].jpg"}\n'
                 'val: {images: "images/[23].jpg"}\n'):
        (tmp_path / 't.txt').write_text('0\n1\n')
        (tmp_path / 'v.txt').write_text('2\n')
        describe(tmp_path, text + rest)
        for split in ('train', 'val'):
            assert '1 label images without an image' in open_data_set(tmp_path, split).left_out


@pytest.mark.parametrize('name', described())
def test_a_share_of_one_s_own_goes_with_every_description(tmp_path, name) -> None:
    """Nothing but the images is missing then."""
    label = {'name': 'x--road', 'readable': 'Road', 'evaluate': True, 'color': [1, 2, 3]}
    for place, text in {'config.json': json.dumps({'labels': [label]}),
                        'config_v2.0.json': json.dumps({'labels': [label]}),
                        'labelmap.txt': 'road:1,2,3::', 'train.lst': 'a.jpg a.png',
                        'train/_classes.csv': 'Pixel Value, Class\n0, road',
                        'ImageSets/Segmentation/train.txt': 'a'}.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    for path in ('JPEGImages/a.jpg', 'SegmentationClass/a.png'):
        image(tmp_path, path)
    try:
        open_data_set(describe(tmp_path, f'base: {name}\nval: 0.3\n'), 'train')
    except DataError as error:
        assert 'no image of train is left of' in str(error)


def test_nested_folders_suffixes_and_hidden_files(tmp_path) -> None:
    for name in ('a.jpg', 'x/b.PNG', 'x/y/c.bmp'):
        image(tmp_path, f'frames/{name}')
        mask(tmp_path, f'masks/{Path(name).with_suffix(".png")}', IDS)
    (tmp_path / 'frames' / '._a.jpg').write_bytes(b'')
    (tmp_path / 'frames' / 'notes.txt').write_text('')
    describe(tmp_path, IN_ONE.replace('val: 0.2\n', ''))
    assert names(tmp_path, 'train') == ['a.jpg', 'b.PNG', 'c.bmp']
    assert read(tmp_path) == 3 * [IDS.tolist()]
    data = open_data_set(tmp_path, 'train')
    assert data.left_out == ('1 hidden files', '1 files that are no images')
    assert data.labels_from == 'data.yaml'


def test_the_yaml_may_lie_elsewhere(tmp_path) -> None:
    data = tmp_path / 'data'
    image(data, 'frames/a.jpg')
    mask(data, 'masks/a.png', IDS)
    elsewhere = tmp_path / 'mine.yaml'
    elsewhere.write_text(IN_ONE.replace('val: 0.2', 'path: data'))
    assert read(elsewhere) == [IDS.tolist()]
    assert open_data_set(elsewhere, 'train').labels.name == 'data'


def test_ids_of_several_values_and_all_others(tmp_path) -> None:
    image(tmp_path, 'frames/a.jpg')
    mask(tmp_path, 'masks/a.png', [[0, 3, 4], [9, 200, 255]])
    text = ('images: frames/*.jpg\nlabels: masks/*.png\nclasses:\n'
            '  - {name: road, ids: [3, 4], color: "#ff0000"}\n'
            '  - {name: rest, ids: others}\nignore: [0]')
    describe(tmp_path, text)
    assert read(tmp_path) == [[[255, 0, 0], [1, 1, 255]]]
    assert open_data_set(tmp_path, 'train').labels.classes[0].color == (255, 0, 0)
    describe(tmp_path, text.replace('  - {name: rest, ids: others}\nignore: [0]',
                                    '  - {name: far, id: 9, void: true}\nignore: others'))
    assert read(tmp_path) == [[[255, 0, 0], [255, 255, 255]]]
    describe(tmp_path, text.replace('ignore: [0]', '  - {name: sky, id: 255}\nignore: [0]'))
    assert read(tmp_path) == [[[255, 0, 0], [1, 1, 2]]]


def test_a_mask_of_0_and_255_is_described_by_ids(tmp_path) -> None:
    """Without one 255 is not labelled, which is refused."""
    for name in ('a', 'b'):
        image(tmp_path, f'frames/{name}.jpg')
        mask(tmp_path, f'masks/{name}.png', [[0, 0, 255], [255, 255, 0]])
    describe(tmp_path, 'images: frames/*.jpg\nlabels: masks/*.png\n'
             'classes: [{name: soil, id: 0}, {name: weed, id: 255}]')
    report = check_data(open_data_set(tmp_path, 'train'))
    report.refuse_faults()
    assert report.frequencies.tolist() == [0.5, 0.5]
    describe(tmp_path, 'images: frames/*.jpg\nlabels: masks/*.png\n'
             "classes: [{name: soil, color: [0, 0, 0]}, {name: weed, color: '#ffffff'}]")
    report = check_data(open_data_set(tmp_path, 'train'))
    report.refuse_faults()
    assert report.frequencies.tolist() == [0.5, 0.5]


def test_colours_are_read_through_any_palette(tmp_path) -> None:
    """A tool that orders each file's palette anew does no harm where colours are named."""
    for name, palette, values in (
            ('a', [0, 0, 0, 255, 0, 0], [[0, 1]]), ('b', [255, 0, 0, 0, 0, 0], [[1, 0]])):
        image(tmp_path, f'frames/{name}.jpg', (1, 2))
        mask(tmp_path, f'masks/{name}.png', values, palette)
    describe(tmp_path, 'images: frames/*.jpg\nlabels: masks/*.png\n'
             "classes: [{name: soil, color: '#000000'}, {name: weed, color: '#ff0000'}]")
    assert read(tmp_path) == [[[0, 1]], [[0, 1]]]


def test_a_colour_that_no_class_has_is_named(tmp_path) -> None:
    image(tmp_path, 'frames/a.jpg', (1, 4))
    mask(tmp_path, 'masks/a.png', [[(0, 0, 0), (255, 0, 0), (1, 2, 3), (1, 2, 3)]])
    describe(tmp_path, 'images: frames/*.jpg\nlabels: masks/*.png\n'
             "classes: [{name: soil, color: '#000000'}, {name: weed, color: '#ff0000'}]")
    with pytest.raises(DataError, match=r'masks/a.png: holds 1 colours \(#010203\) in 50.0 % of'):
        open_data_set(tmp_path, 'train').read(0)
    mask(tmp_path, 'masks/a.png', [[(1, 0, 0), (254, 1, 0), (0, 0, 3), (9, 99, 200)]])
    with pytest.raises(DataError, match='as JPEG or resizing leaves them: save the masks without'):
        open_data_set(tmp_path, 'train').read(0)


def test_made_up_colours_contradict_no_palette(tmp_path) -> None:
    image(tmp_path, 'frames/a.jpg', (1, 2))
    mask(tmp_path, 'masks/a.png', [[0, 1]], [*voc_color(1), *voc_color(0)])
    describe(tmp_path, IN_ONE.replace('val: 0.2\n', ''))
    assert read(tmp_path) == [[[0, 1]]]
    describe(tmp_path, 'images: frames/*.jpg\nlabels: masks/*.png\nclasses: [{name: soil, id: 0, '
             'color: [0, 0, 0]}, {name: weed, id: 1, color: [128, 0, 0]}]')
    with pytest.raises(DataError, match='its palette shows 0 in the colour of weed'):
        open_data_set(tmp_path, 'train').read(0)


@pytest.mark.parametrize(('text', 'said'), [
    ('clases: []', "unknown key 'clases': data.yaml has name, base"),
    ('names: [a]\nnc: 1', 'is a data.yaml of Ultralytics, .*: draw them by "lednet_import '),
    ('base: rudg', "base is 'rudg': choose one of bdd100k, camvid"),
    ('- a', 'is not a mapping'), ('a: [', 'not a YAML file'),
    ('images: "*.jpg"\nlabels: "*.png"', 'classes is None: give a list'),
    ('images: "*.jpg"\nlabels: "*.png"\nclasses: [{name: a}]', "'a' has neither"),
    ('images: "*.jpg"\nlabels: "*.png"\nclasses: [{name: a, id: 1}, {name: b}]', "'b' has no id"),
    ('images: "*.jpg"\nlabels: "*.png"\nclasses: [{name: a, id: 1}, {name: b, id: 1}]',
     'id 1 stands for b and for something else'),
    ('images: "*.jpg"\nlabels: "*.png"\nclasses: [{name: a, id: 1}]\nignore: [1]',
     'id 1 stands for "ignore" and'),
    ('images: "*.jpg"\nlabels: "*.png"\nclasses: [{name: a, id: 300}]', 'id is 300: give 0 to'),
    ('images: "*.jpg"\nlabels: "*.png"\nclasses: [{name: a, color: red}]', "color is 'red'"),
    ('images: "*.jpg"\nlabels: "*.png"\nclasses: [{name: a, colour: red}]', "key 'colour'"),
    ('images: "*.jpg"\nlabels: "*/*.png"\nclasses: [a]', 'has more wildcards than images'),
    ('images: "*.jpg"\nlabels: "*.png"\nval: 2\nclasses: [a]', 'val is 2: give a share'),
    ('images: "**.jpg"\nlabels: "*.png"\nclasses: [a]', r'\*\* stands for folders'),
    ('images: "*.jpg"\nlabels: "*.png"\nclasses: classes.csv', 'no list of classes that is read'),
    ('images: "*.jpg"\nlabels: "*.png"\nclasses: labelmap.txt', 'labelmap.txt: cannot be read'),
    ('images: "*.gif"\nlabels: "*.png"\nclasses: [a]', r'no image of train is left of \*.gif'),
    ('train: {image: a}\nclasses: [a]', 'give it images, labels, list'),
    ('images: "[z-a].jpg"\nlabels: "*.png"\nclasses: [a]', r'pattern .*: its brackets hold'),
    ('images: "[^].jpg"\nlabels: "*.png"\nclasses: [a]', r'pattern .*: its brackets hold'),
    ('images: "*.jpg"\nlabels: "*.png"\nclasses: [a]\nclasses: [b]', "'classes' is given twice"),
    ('path: ~nobody-of-this-name/x\nimages: "*.jpg"', 'there is no home directory of a user'),
    (f'classes: {5000 * "["}', 'it is nested too deeply'),
    ('images: "*.jpg"\nlabels: "*.png"\ntrain: list.txt\nclasses: [a]', 'list.txt: cannot be'),
])
def test_a_mistake_is_one_line_with_its_remedy(tmp_path, text, said) -> None:
    image(tmp_path, 'a.jpg')
    describe(tmp_path, text)
    with pytest.raises((ConfigError, DataError), match=said) as error:
        open_data_set(tmp_path, 'train')
    assert str(tmp_path) in str(error.value) or text.split('"')[1] in str(error.value) or (
        '~' in text)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('lines', 'said'), [
    ('a\nc\n', r'list.txt: 1 of 2 lines name no image that is there \(c\)'),
    ('b\n', "'b' is x/b.jpg as well as y/b.jpg: write the path"), ('\n', 'names no image'),
])
def test_a_list_that_fits_no_image_is_named(tmp_path, lines, said) -> None:
    for name in ('a', 'x/b', 'y/b'):
        image(tmp_path, f'{name}.jpg')
    (tmp_path / 'list.txt').write_text(lines)
    describe(tmp_path, 'images: "**/*.jpg"\nlabels: "**/*.png"\ntrain: list.txt\nclasses: [a]')
    with pytest.raises(DataError, match=said):
        open_data_set(tmp_path, 'train')
    (tmp_path / 'list.txt').write_text('a\nx/b.jpg\ny/b\n')
    assert len(open_data_set(tmp_path, 'train')) == 3


@pytest.mark.parametrize('line', [
    'images/my walk/a b.jpg', 'a b.jpg', 'a b', '"a b.jpg"', './images/my walk/a b.jpg',
    'ROOT/images/my walk/a b.jpg', 'images\\my walk\\a b.jpg', 'a b 1', 'c 2024.05', 'c 1',
    'my walk/a b', 'my walk/a b.jpg', 'u\u0308', 'images/my walk/a b.jpg labels/my walk/a b.png',
    '"ROOT/images/my walk/a b.jpg"\t"ROOT/labels/my walk/a b.png"',
])
def test_a_list_names_images_with_spaces_and_by_any_system_s_path(tmp_path, line) -> None:
    for name in ('a b', 'c 2024.05', 'c 1', '\u00fc'):
        image(tmp_path, f'images/my walk/{name}.jpg')
        mask(tmp_path, f'labels/my walk/{name}.png', IDS)
    (tmp_path / 'train.txt').write_text(line.replace('ROOT', str(tmp_path)), encoding='utf-8')
    describe(tmp_path, 'images: images/**/*.jpg\nlabels: labels/**/*.png\ntrain: train.txt\n'
             'classes: [a, b, c, d]')
    assert read(tmp_path) == [IDS.tolist()]


def test_a_list_of_pairs_may_name_files_elsewhere_and_names_all_or_no_label_images(
    tmp_path
) -> None:
    image(tmp_path, 'there/a.jpg')
    mask(tmp_path, 'there/a.png', IDS)
    image(tmp_path, 'here/b.jpg')
    pair = f'{tmp_path}/there/a.jpg {tmp_path}/there/a.png'
    (tmp_path / 'here' / 'train.txt').write_text(pair)
    describe(tmp_path, 'path: here\ntrain: train.txt\nclasses: [a, b, c, d]')
    assert read(tmp_path) == [IDS.tolist()]
    (tmp_path / 'here' / 'train.txt').write_text(f'{pair}\nb.jpg\n')
    describe(tmp_path, 'path: here\nimages: "*.jpg"\nlabels: "*.png"\ntrain: train.txt\n'
             'classes: [a, b, c, d]')
    with pytest.raises(DataError, match='only some of its lines name a label image'):
        open_data_set(tmp_path, 'train')


def test_a_label_image_of_another_case_is_named(tmp_path) -> None:
    image(tmp_path, 'i/a.jpg')
    mask(tmp_path, 'l/A.PNG', IDS)
    describe(tmp_path, 'train: {images: "i/*.jpg", labels: "l/*.png"}\nclasses: [a, b, c, d]')
    [(_, fault)] = check_data(open_data_set(tmp_path, 'train')).faults
    assert fault == 'does not exist but A.PNG does: give it that name'


def test_a_pair_that_a_list_names_twice_is_one(tmp_path) -> None:
    image(tmp_path, 'a.jpg')
    (tmp_path / 'list.txt').write_text('a.jpg a.png\na.jpg a.png\n')
    describe(tmp_path, 'train: list.txt\nclasses: [a]')
    assert len(open_data_set(tmp_path, 'train')) == 1


def test_an_image_in_train_and_val_is_refused(tmp_path) -> None:
    for i in range(10):
        image(tmp_path, f'{i}.jpg')
    describe(tmp_path, 'labels: "*.png"\ntrain: {images: "*.jpg"}\nval: {images: "[89].jpg"}\n'
             'classes: [a]')
    for split, other in (('train', 'val'), ('val', 'train')):
        with pytest.raises(DataError, match=rf'2 images are in {split} and in {other} \(8.jpg, '):
            open_data_set(tmp_path, split)


def test_images_that_would_share_a_label_image_are_refused(tmp_path) -> None:
    for name in ('x/a', 'y/a'):
        image(tmp_path, f'{name}.jpg')
    describe(tmp_path, 'images: "*/a.jpg"\nlabels: a.png\nclasses: [a]')
    with pytest.raises(DataError, match=r'would share .*a.png: let the labels pattern have all'):
        open_data_set(tmp_path, 'train')


def test_an_unknown_split_is_named(tmp_path) -> None:
    image(tmp_path, 'a.jpg')
    describe(tmp_path, 'images: "*.jpg"\nlabels: "*.png"\nclasses: [a]')
    with pytest.raises(DataError, match=r'describes no val split .*"val: 0.2"'):
        open_data_set(tmp_path, 'val')
    with pytest.raises(DataError, match='describes nothing coarse'):
        open_data_set(tmp_path, 'train', coarse=True)


def test_a_link_to_a_folder_above_ends(tmp_path) -> None:
    image(tmp_path, 'frames/a.jpg')
    (tmp_path / 'frames' / 'again').symlink_to(tmp_path / 'frames')
    describe(tmp_path, IN_ONE.replace('val: 0.2\n', ''))
    assert names(tmp_path, 'train') == ['a.jpg']


def test_opening_reads_no_image(tmp_path) -> None:
    (tmp_path / 'a.jpg').write_bytes(b'')
    data = open_descriptor(describe(
        tmp_path, 'images: "*.jpg"\nlabels: "*.png"\nclasses: [a]') / 'data.yaml', 'train')
    assert len(data) == 1
