# SPDX-License-Identifier: Apache-2.0
"""Pre-labels as CVAT and labelme take them."""

from __future__ import annotations

import io
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from lednet_ros.model.labels import LabelClass, LabelSet, builtin_label_set
from lednet_ros.offline.labelling_package import (
    BACKGROUND,
    cvat_constructor,
    cvat_labels,
    label_map,
    labelme,
    polygons,
    write_cvat,
)

LABELS = LabelSet('orchard', (
    LabelClass('grass', (0, 200, 0), 'flat'), LabelClass('trunk: old', (90, 60, 0), 'object'),
    LabelClass('rest', (9, 9, 9), 'void', void=True), LabelClass('night', (0, 0, 0), 'sky'),
    LabelClass('moss', (0, 200, 0), 'flat')))


def scene() -> np.ndarray:
    """Grass with a trunk that has moss in it, an unlabelled patch, and night above."""
    labels = np.zeros((60, 80), np.uint8)
    labels[:20] = 3
    labels[25:55, 20:50] = 1
    labels[35:45, 30:40] = 4
    labels[26:34, 60:75] = 255
    return labels


def test_colours_are_the_classes_own_where_they_can_be_told_apart() -> None:
    colors = [color for _, color in cvat_labels(LABELS)]
    assert colors[:3] == [(0, 200, 0), (90, 60, 0), (9, 9, 9)]
    assert len({*colors, BACKGROUND}) == len(LABELS) + 1
    camvid = builtin_label_set('camvid')
    assert [color for _, color in cvat_labels(camvid)] == [one.color for one in camvid.classes]


def test_labels_and_their_map_leave_void_classes_out() -> None:
    names = [row.split(':')[0] for row in label_map(LABELS).splitlines()[1:]]
    assert names == ['background', 'grass', 'trunk_ old', 'night', 'moss']
    assert all(row.count(':') == 3 for row in label_map(LABELS).splitlines())
    assert [one['name'] for one in cvat_constructor(LABELS)] == names[1:]


def test_a_class_called_background_is_one_of_its_own() -> None:
    labels = LabelSet('two', (LabelClass('background', (7, 7, 7), 'void'),
                              LabelClass('road', (8, 8, 8), 'flat')))
    assert '__ignore__:0,0,0::\nbackground:7,7,7::\nroad:8,8,8::' in label_map(labels)


def test_the_zip_s_masks_say_what_the_labels_say(tmp_path) -> None:
    write_cvat(tmp_path / 'cvat.zip', ['a', 'b'], [scene(), scene() * 0 + 255], LABELS)
    with zipfile.ZipFile(tmp_path / 'cvat.zip') as archive:
        assert archive.read('ImageSets/Segmentation/default.txt') == b'a\nb\n'
        shown = {kind: np.asarray(Image.open(io.BytesIO(archive.read(
            f'Segmentation{kind}/a.png')))) for kind in ('Class', 'Object')}
        nothing = Image.open(io.BytesIO(archive.read('SegmentationClass/b.png')))
        assert not np.asarray(nothing).any()
    for id_, (_, color) in enumerate(cvat_labels(LABELS)):
        assert np.array_equal((shown['Class'] == color).all(2), scene() == id_)
    assert np.array_equal((shown['Object'] == BACKGROUND).all(2), scene() == 255)


def test_datumaro_reads_the_zip_as_cvat_does(tmp_path) -> None:
    """By which CVAT imports it; what is unlabelled becomes no object."""
    datumaro = pytest.importorskip('datumaro', reason='needs datumaro')
    write_cvat(tmp_path / 'cvat.zip', ['a'], [scene()], LABELS)
    with zipfile.ZipFile(tmp_path / 'cvat.zip') as archive:
        archive.extractall(tmp_path / 'cvat')
    [item] = datumaro.Dataset.import_from(str(tmp_path / 'cvat'), 'voc_segmentation')
    names = [label.name for label in datumaro.Dataset.import_from(
        str(tmp_path / 'cvat'), 'voc_segmentation').categories()[
            datumaro.AnnotationType.label]]
    found = {names[one.label]: one.image for one in item.annotations}
    assert set(found) == {'grass', 'trunk_ old', 'night', 'moss'}
    for name, id_ in (('grass', 0), ('trunk_ old', 1), ('night', 3), ('moss', 4)):
        assert np.array_equal(found[name].astype(bool), scene() == id_)


def draw(shapes, size) -> np.ndarray:
    """Draw polygons in their order, as labelme's own tools do."""
    drawn = np.full(size, 99, np.uint8)
    for label, points in shapes:
        cv2.fillPoly(drawn, [np.asarray(points, np.int32)], label)
    return drawn


def test_polygons_drawn_in_their_order_are_the_labels() -> None:
    assert np.array_equal(draw(polygons(scene()), (60, 80)), scene())


def test_polygons_follow_crooked_borders_within_a_pixel_or_so() -> None:
    labels = np.zeros((60, 80), np.uint8)
    cv2.circle(labels, (40, 30), 20, 1, -1)
    cv2.circle(labels, (40, 30), 9, 0, -1)
    drawn = draw(polygons(labels), (60, 80))
    assert (drawn == labels).mean() > 0.97
    border = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))
    assert not (drawn != labels)[border == 0].any()


def test_patches_too_small_to_edit_are_not_drawn() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[10:13, 10:13] = 1
    assert [polygon.label for polygon in polygons(labels)] == [0]


def test_labelme_s_file_names_image_size_and_classes() -> None:
    found = labelme('a.png', scene(), LABELS)
    assert (found['imagePath'], found['imageHeight'], found['imageWidth'],
            found['imageData']) == ('a.png', 60, 80, None)
    assert {shape['label'] for shape in found['shapes']} == {
        'grass', 'trunk: old', 'night', 'moss', '__ignore__'}
    assert {shape['shape_type'] for shape in found['shapes']} == {'polygon'}
