# SPDX-License-Identifier: Apache-2.0
"""lednet_import: each tool's export, made to its documentation, becomes what the tool shows."""

from __future__ import annotations

import base64
import errno
import json
import re
import shutil
import zlib
from io import BytesIO
from pathlib import Path
from unicodedata import normalize

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image, ImageFile

from lednet_ros.cli.import_labels import main
from lednet_ros.datasets.checks import check_data
from lednet_ros.datasets.importers.label_studio import unpack
from lednet_ros.datasets.layouts import open_data_set

HEIGHT, WIDTH = 6, 8
UNDRAWN = 255
ALL = (0, 0, WIDTH, HEIGHT)


@pytest.fixture(autouse=True)
def _pillow_as_it_was(monkeypatch):
    """Some tools' packages set this for the whole process as they are imported."""
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', ImageFile.LOAD_TRUNCATED_IMAGES)


def picture(path: Path, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    cv2.imwrite(str(path), rng.integers(0, 255, (height, width, 3), np.uint8))


def run(source: Path, out: Path, *more: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """Import; return the classes, and the labels by the image's name."""
    assert main([str(source), str(out), *more]) == 0
    found = {}
    for split in ('train', 'val', 'test'):
        described = yaml.safe_load((out / 'data.yaml').read_text())
        if split not in described and not (split == 'train' and 'images' in described):
            continue
        if split == 'val' and described.get('val') == 0.2 and len(
                [*out.rglob('labels/**/*.png')]) < 2:
            continue
        data = open_data_set(out, split)
        report = check_data(data)
        assert not report.faults
        for i, pair in enumerate(data.pairs):
            found[str(pair.image.relative_to(out / 'images'))] = data.read(i)[1]
    return data.labels.names, found


def box(left: int, top: int, right: int, bottom: int) -> list[float]:
    """Return a polygon whose pixels are left to right and top to bottom, ends left out."""
    return [left, top, right, top, right, bottom, left, bottom]


def ids(*areas: tuple[int, int, int, int, int], undrawn: int = UNDRAWN) -> list[list[int]]:
    """Return labels with rectangles (id, left, top, right, bottom) laid over each other."""
    labels = np.full((HEIGHT, WIDTH), undrawn, np.uint8)
    for id_, left, top, right, bottom in areas:
        labels[top:bottom, left:right] = id_
    return labels.tolist()


# COCO


def coco(annotations: list[dict], images: int = 1) -> dict:
    return {
        'images': [{'id': i, 'file_name': f'{i}.jpg', 'height': HEIGHT, 'width': WIDTH}
                   for i in range(images)],
        'categories': [{'id': 7, 'name': 'weed', 'supercategory': 'plant'},
                       {'id': 3, 'name': 'soil', 'supercategory': ''}],
        'annotations': [{'id': i, 'image_id': 0, 'iscrowd': 0, **a}
                        for i, a in enumerate(annotations)]}


@pytest.fixture
def coco_file(tmp_path):
    pytest.importorskip('pycocotools', reason='needs pycocotools')

    def make(annotations: list[dict], images: int = 1) -> Path:
        source = tmp_path / 'coco'
        for i in range(images):
            picture(source / 'images' / f'{i}.jpg')
        (source / 'annotations').mkdir(exist_ok=True)
        (source / 'annotations' / 'instances_default.json').write_text(
            json.dumps(coco(annotations, images)))
        return source

    return make


def test_coco_draws_in_order_and_classes_by_id(coco_file, tmp_path, capsys) -> None:
    source = coco_file([
        {'category_id': 3, 'segmentation': [box(0, 0, 6, 6)]},
        {'category_id': 7, 'segmentation': [box(1, 1, 3, 3), box(4, 1, 7, 3)]},
        {'category_id': 3, 'segmentation': [box(2, 2, 5, 4)]}])
    names, labels = run(source, tmp_path / 'out')
    assert names == ['soil', 'weed']
    assert labels['0.jpg'].tolist() == ids(
        (0, 0, 0, 6, 6), (1, 1, 1, 3, 3), (1, 4, 1, 7, 3), (0, 2, 2, 5, 4))
    written = capsys.readouterr()
    assert '1 images, 3 shapes of coco: lednet_train --data' in written.out
    assert '20.8 % of the pixels were not drawn and are not trained on' in written.err
    assert (tmp_path / 'out' / 'images' / '0.jpg').is_symlink()
    assert yaml.safe_load((tmp_path / 'out' / 'data.yaml').read_text())['classes'][1] == {
        'name': 'weed', 'id': 1, 'color': [0, 128, 0], 'category': 'plant'}


def test_coco_crowds_and_ignored_regions_lie_below_and_are_not_labelled(
    coco_file, tmp_path
) -> None:
    crowd = np.zeros((HEIGHT, WIDTH), np.uint8)
    crowd[0:4, 0:5] = 1
    runs = [0, 4] + [2, 4] * 4 + [20]  # down the columns
    assert sum(runs) == HEIGHT * WIDTH
    source = coco_file([
        {'category_id': 7, 'segmentation': [box(3, 0, 8, 4)]},
        {'category_id': 7, 'iscrowd': 1, 'segmentation': {'counts': runs,
                                                          'size': [HEIGHT, WIDTH]}},
        {'category_id': 3, 'ignore': 1, 'segmentation': [box(0, 5, 2, 6)]}])
    _, labels = run(source, tmp_path / 'out', '--background', 'soil')
    assert labels['0.jpg'].tolist() == ids(
        (255, 0, 0, 5, 4), (255, 0, 5, 2, 6), (1, 3, 0, 8, 4), undrawn=0)
    soil = yaml.safe_load((tmp_path / 'out' / 'data.yaml').read_text())['classes'][0]
    assert soil['name'] == 'soil'
    assert max(soil['color']) > 0, 'black hides the picture under an overlay'


def test_coco_says_how_much_becomes_255_and_a_mask_of_cvat_is_no_crowd(
    coco_file, tmp_path, capsys
) -> None:
    """Datumaro writes iscrowd for every run length, and attributes of CVAT's beside it."""
    mask = {'category_id': 7, 'iscrowd': 1, 'segmentation': {
        'counts': [0, HEIGHT, HEIGHT * WIDTH - HEIGHT], 'size': [HEIGHT, WIDTH]}}
    soil = {'category_id': 3, 'segmentation': [box(4, 0, 8, 6)]}
    _, labels = run(coco_file([{**mask, 'attributes': {'occluded': False}}, soil]),
                    tmp_path / 'cvat')
    assert labels['0.jpg'].tolist() == ids((1, 0, 0, 1, 6), (0, 4, 0, 8, 6))
    assert 'iscrowd' not in capsys.readouterr().err
    _, labels = run(coco_file([mask, soil]), tmp_path / 'coco_s')
    assert labels['0.jpg'].tolist() == ids((0, 4, 0, 8, 6))
    assert 'left out: 1 regions with iscrowd or ignore, which become 255' in (
        capsys.readouterr().err)


def test_coco_s_panoptic_form_is_named(coco_file, tmp_path, capsys) -> None:
    source = coco_file([{'file_name': '0.png', 'segments_info': [{'id': 1, 'category_id': 7}]}])
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert "is of COCO's panoptic form" in capsys.readouterr().err


def test_coco_run_lengths_have_holes(coco_file, tmp_path) -> None:
    from pycocotools import mask as library
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[1:5, 1:7] = 1
    mask[2:4, 3:5] = 0
    packed = library.encode(np.asfortranarray(mask))
    source = coco_file([{'category_id': 7, 'segmentation': {
        'counts': packed['counts'].decode(), 'size': packed['size']}}])
    _, labels = run(source, tmp_path / 'out')
    assert labels['0.jpg'].tolist() == np.where(mask, 1, 255).tolist()


def test_coco_as_its_own_api_shows_it(coco_file, tmp_path) -> None:
    """Random polygons, some out of the picture, pixel for pixel."""
    from pycocotools.coco import COCO
    rng = np.random.default_rng(0)
    annotations = [{'category_id': int(rng.choice([3, 7])), 'segmentation': [
        rng.uniform(-2, 10, 2 * int(rng.integers(3, 8))).tolist()]} for _ in range(40)]
    source = coco_file(annotations)
    _, labels = run(source, tmp_path / 'out')
    api = COCO(str(source / 'annotations' / 'instances_default.json'))
    wanted = np.full((HEIGHT, WIDTH), UNDRAWN, np.uint8)
    for annotation in api.loadAnns(api.getAnnIds(imgIds=[0])):
        wanted[api.annToMask(annotation) > 0] = {3: 0, 7: 1}[annotation['category_id']]
    assert labels['0.jpg'].tolist() == wanted.tolist()


def test_what_has_no_area_is_counted(coco_file, tmp_path, capsys) -> None:
    source = coco_file([
        {'category_id': 7, 'segmentation': [box(0, 0, 8, 6)]},
        {'category_id': 7, 'segmentation': [], 'bbox': [0, 0, 4, 4]},
        {'category_id': 7, 'segmentation': [[1, 1, 2, 2]]}], images=3)
    run(source, tmp_path / 'out')
    err = capsys.readouterr().err
    assert 'left out: 1 boxes without a mask' in err
    assert 'left out: 1 polygons of fewer than 3 points' in err
    assert 'left out: 2 images with nothing drawn' in err
    _, labels = run(source, tmp_path / 'all', '--keep-empty', '--background', 'soil', '--copy')
    assert labels['1.jpg'].tolist() == ids(undrawn=0)
    assert not (tmp_path / 'all' / 'images' / '0.jpg').is_symlink()


def test_where_no_links_can_be_made_copies_are_the_remedy(
    coco_file, tmp_path, monkeypatch, capsys
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, 'Operation not permitted')

    monkeypatch.setattr(Path, 'symlink_to', refuse)
    source = coco_file([{'category_id': 3, 'segmentation': [[0, 0, 9, 0, 9, 9]]}])
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert 'this file system has no links (Operation not permitted)' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
    run(source, tmp_path / 'out', '--copy')


def test_coco_s_splits_are_those_of_its_files(tmp_path) -> None:
    pytest.importorskip('pycocotools', reason='needs pycocotools')
    source = tmp_path / 'roboflow'
    for split in ('train', 'valid', 'test'):
        picture(source / split / '0.jpg')
        (source / split / '_annotations.coco.json').write_text(json.dumps(coco([
            {'category_id': 7, 'segmentation': [box(0, 0, 8, 6)]}])))
    _, labels = run(source, tmp_path / 'out')
    assert sorted(labels) == ['test/0.jpg', 'train/0.jpg', 'val/0.jpg']
    assert open_data_set(tmp_path / 'out', 'val').pairs[0].image.resolve() == (
        source / 'valid' / '0.jpg')


# CVAT


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels>
  <label><name>soil</name><color>#64471e</color><type>any</type><attributes/></label>
  <label><name>weed</name><color>#00ff00</color><type>any</type><attributes/></label>
</labels>{meta}</task></meta>{body}</annotations>"""


def cvat(tmp_path: Path, body: str, meta: str = '', images: tuple[str, ...] = ('a.jpg',)) -> Path:
    pytest.importorskip('pycocotools', reason='needs pycocotools')
    source = tmp_path / 'cvat'
    for name in images:
        picture(source / 'images' / name)
    (source / 'annotations.xml').write_text(CVAT.format(body=body, meta=meta))
    return source


def test_cvat_draws_by_z_order_and_then_as_it_stands(tmp_path, capsys) -> None:
    source = cvat(tmp_path, f"""<image id="0" name="a.jpg" width="{WIDTH}" height="{HEIGHT}">
      <polygon label="weed" points="1,1;5,1;5,4;1,4" z_order="1"><attribute name="x">1</attribute>
      </polygon>
      <box label="soil" xtl="0" ytl="0" xbr="8" ybr="3" z_order="0"/>
      <mask label="soil" rle="1,4,1" left="2" top="2" width="3" height="2" z_order="1"/>
      <polyline label="soil" points="0,0;5,5" z_order="2"/>
      <tag label="weed"/></image>""")
    names, labels = run(source, tmp_path / 'out')
    assert names == ['soil', 'weed']
    wanted = np.array(ids((0, 0, 0, 8, 3), (1, 1, 1, 5, 4)))
    wanted[2, 3:5] = wanted[3, 2:4] = 0  # the mask, by rows: .XX XX.
    assert labels['a.jpg'].tolist() == wanted.tolist()
    err = capsys.readouterr().err
    assert 'left out: 1 polylines, which have no area' in err
    assert 'left out: 1 tags, which have no area' in err
    assert open_data_set(tmp_path / 'out', 'train').labels.classes[0].color == (0x64, 0x47, 0x1e)


def test_cvat_s_turned_boxes_and_ellipses(tmp_path) -> None:
    source = cvat(tmp_path, f"""<image id="0" name="a.jpg" width="{WIDTH}" height="{HEIGHT}">
      <box label="soil" xtl="1" ytl="2" xbr="5" ybr="4" rotation="90"/>
      <ellipse label="weed" cx="6" cy="3" rx="1" ry="2"/></image>""")
    _, labels = run(source, tmp_path / 'out')
    wanted = np.array(ids((0, 2, 1, 4, 5)))
    disk = cv2.ellipse(np.zeros((HEIGHT, WIDTH), np.uint8), (6, 3), (1, 2), 0, 0, 360, 1, -1)
    wanted[disk > 0] = 1
    assert labels['a.jpg'].tolist() == wanted.tolist()


def test_cvat_for_video_has_tracks_by_frame(tmp_path) -> None:
    """A shape that has left the picture is written, as outside."""
    source = cvat(tmp_path, """<track id="0" label="weed">
      <polygon frame="0" outside="0" points="0,0;2,0;2,2;0,2" z_order="0"/>
      <polygon frame="2" outside="0" points="4,0;6,0;6,2;4,2" z_order="0"/>
      <polygon frame="3" outside="1" points="4,0;6,0;6,2;4,2" z_order="0"/></track>
      <track id="1" label="soil"><box frame="0" outside="0" xtl="1" ytl="1" xbr="3" ybr="3"
       z_order="-1"/></track>""",
                  f'<original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size>',
                  ('frame_000000.png', 'frame_000002.png', 'frame_000003.png'))
    _, labels = run(source, tmp_path / 'out')
    assert labels['frame_000000.png'].tolist() == ids((0, 1, 1, 3, 3), (1, 0, 0, 2, 2))
    assert labels['frame_000002.png'].tolist() == ids((1, 4, 0, 6, 2))
    assert len(labels) == 2


def test_cvat_as_datumaro_reads_it(tmp_path) -> None:
    """Which CVAT draws its own segmentation masks with: random shapes, pixel for pixel.

    Their places are where Datumaro's single precision does not decide about a pixel.
    """
    datumaro = pytest.importorskip('datumaro', reason='needs datumaro')
    from datumaro.util import mask_tools
    rng = np.random.default_rng(1)
    shapes = []
    for _ in range(30):
        label, z = rng.choice(['soil', 'weed']), rng.integers(-1, 3)
        kind = rng.choice(['polygon', 'box', 'mask'])
        if kind == 'polygon':
            points = ';'.join(f'{x:.2f},{y:.2f}' for x, y in rng.integers(0, 30, (5, 2)) / 5 + .05)
            shapes.append(f'<polygon label="{label}" points="{points}" z_order="{z}"/>')
        elif kind == 'box':
            (x0, y0), (x1, y1) = np.sort(rng.integers(0, 30, (2, 2)), axis=0) / 5 + .05
            shapes.append(f'<box label="{label}" xtl="{x0:.2f}" ytl="{y0:.2f}" xbr="{x1:.2f}" '
                          f'ybr="{y1:.2f}" z_order="{z}"/>')
        else:
            shapes.append(f'<mask label="{label}" rle="2,3,1,3" left="{rng.integers(0, 4)}" '
                          f'top="{rng.integers(0, 4)}" width="3" height="3" z_order="{z}"/>')
    source = cvat(tmp_path, f'<image id="0" name="a.jpg" width="{WIDTH}" height="{HEIGHT}">'
                  f'{"".join(shapes)}</image>')
    _, labels = run(source, tmp_path / 'out')
    [item] = datumaro.Dataset.import_from(str(source / 'annotations.xml'), 'cvat')
    wanted = np.full((HEIGHT, WIDTH), UNDRAWN, np.uint8)
    for shape in sorted(item.annotations, key=lambda a: a.z_order):
        mask = shape.image if isinstance(shape, datumaro.Mask) else mask_tools.rles_to_mask(
            [list(shape.as_polygon() if isinstance(shape, datumaro.Bbox) else shape.points)],
            WIDTH, HEIGHT)
        wanted[np.asarray(mask) > 0] = shape.label
    assert labels['a.jpg'].tolist() == wanted.tolist()


# labelme


def labelme(path: Path, shapes: list[dict]) -> None:
    picture(path.with_suffix('.jpg'))
    path.write_text(json.dumps({
        'version': '5.5.0', 'flags': {}, 'shapes': [
            {'group_id': None, 'description': '', 'flags': {}, 'mask': None, **s} for s in shapes],
        'imagePath': path.with_suffix('.jpg').name, 'imageData': None,
        'imageHeight': HEIGHT, 'imageWidth': WIDTH}))


def as_png(mask: np.ndarray) -> str:
    file = BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, 'PNG')
    return base64.b64encode(file.getvalue()).decode()


def test_labelme_draws_outlines_too_in_the_order_of_the_file(tmp_path, capsys) -> None:
    source = tmp_path / 'photos'
    source.mkdir()
    labelme(source / 'b.json', [
        {'label': 'weed', 'shape_type': 'polygon', 'points': [[1, 1], [5, 1], [5, 3], [1, 3]]},
        {'label': 'soil', 'shape_type': 'rectangle', 'points': [[4, 4], [2, 2]]},
        {'label': '__ignore__', 'shape_type': 'polygon', 'points': [[0, 0], [1, 0], [1, 1]]},
        {'label': 'soil', 'shape_type': 'mask', 'points': [[6, 4], [7, 5]],
         'mask': as_png(np.array([[1, 0], [1, 1]]))},
        {'label': 'row', 'shape_type': 'linestrip', 'points': [[0, 0], [5, 5]]}])
    names, labels = run(source, tmp_path / 'out')
    assert names == ['soil', 'weed']
    wanted = np.array(ids((1, 1, 1, 6, 4), (0, 2, 2, 5, 5), (0, 6, 4, 8, 6)))
    wanted[4, 7] = 255
    wanted[0, 0:2] = wanted[1, 1] = 255
    assert labels['b.jpg'].tolist() == wanted.tolist()
    assert 'left out: 1 linestrips, which have no area' in capsys.readouterr().err


def test_labelme_as_it_draws_itself(tmp_path) -> None:
    shape = pytest.importorskip('labelme.utils.shape', reason='needs labelme')
    rng = np.random.default_rng(2)
    shapes = [{'label': str(rng.choice(['soil', 'weed'])), 'shape_type': str(kind),
               'points': rng.uniform(0, 6, (count, 2)).tolist()}
              for kind, count in [('polygon', 5), ('rectangle', 2), ('circle', 2),
                                  ('oriented_rectangle', 4)] * 10]
    source = tmp_path / 'photos'
    source.mkdir()
    labelme(source / 'b.json', shapes)
    _, labels = run(source, tmp_path / 'out')
    theirs, _ = shape.shapes_to_label(
        (HEIGHT, WIDTH), shapes, {'soil': 1, 'weed': 2})
    assert labels['b.jpg'].tolist() == ((theirs - 1) % 256).tolist()


# Label Studio


def pack(data: np.ndarray) -> list[int]:
    """Pack bytes as thi.ng/rle-pack does, runs and literals in turn."""
    bits = f'{len(data):032b}' + f'{7:05b}' + ''.join(f'{n:04b}' for n in (2, 3, 7, 15))
    at = 0
    while at < len(data):
        end = at + 1
        while end < len(data) and data[end] == data[at] and end - at < 60000:
            end += 1
        if end - at > 2:
            bits += '1' + '11' + f'{end - at - 1:016b}' + f'{data[at]:08b}'
        else:
            end = min(at + 4, len(data))
            bits += '0' + '01' + f'{end - at - 1:04b}' + ''.join(f'{v:08b}' for v in data[at:end])
        at = end
    bits += '0' * (-len(bits) % 8)
    return [int(bits[i:i + 8], 2) for i in range(0, len(bits), 8)]


def brush(mask: np.ndarray) -> list[int]:
    return pack(np.repeat(mask.astype(np.uint8).ravel() * 255, 4))


def bitmask(left: int, top: int, right: int, bottom: int) -> str:
    """Return a rectangle as <BitmaskLabels> stores it: a PNG, black on what is transparent."""
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[top:bottom, left:right, 3] = 255
    return 'data:image/png;base64,' + base64.b64encode(
        cv2.imencode('.png', pixels)[1].tobytes()).decode()


def test_label_studio_s_bitmasks(tmp_path, capsys) -> None:
    source = label_studio(tmp_path, [{'type': 'bitmasklabels', 'value': {
        'imageDataURL': bitmask(2, 1, 7, 5), 'bitmasklabels': ['weed']}}])
    _, labels = run(source, tmp_path / 'out')
    [found] = labels.values()
    assert found.tolist() == ids((0, 2, 1, 7, 5))
    text = (source / 'project.json').read_text()
    (source / 'project.json').write_text(text.replace(f'"original_width": {WIDTH}',
                                                      '"original_width": 80'))
    assert main([str(source), str(tmp_path / 'again')]) == 1
    assert 'a bitmask of another size' in capsys.readouterr().err


def label_studio(tmp_path: Path, results: list[dict], **more: object) -> Path:
    source = tmp_path / 'studio'
    picture(source / 'media' / 'upload' / 'field.jpg')
    common = {'original_width': WIDTH, 'original_height': HEIGHT, 'image_rotation': 0,
              'to_name': 'image', 'from_name': 'label'}
    (source / 'project.json').write_text(json.dumps([
        {'id': 1, 'data': {'image': '/data/upload/1/0a1b2c3d-field.jpg'}, 'annotations': [
            {'id': 1, 'was_cancelled': False, 'result': []},
            {'id': 2, 'was_cancelled': False, 'result': [{**common, **r} for r in results]},
            {'id': 3, 'was_cancelled': True, 'result': []}], **more}]))
    return source


def test_label_studio_s_polygons_brushes_and_boxes(tmp_path, capsys) -> None:
    pytest.importorskip('pycocotools', reason='needs pycocotools')
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3:5, 2:7] = True
    mask[4, 4] = False
    source = label_studio(tmp_path, [
        {'type': 'polygonlabels', 'value': {
            'points': [[0, 0], [50, 0], [50, 50], [0, 50]], 'polygonlabels': ['soil']}},
        {'type': 'rectanglelabels', 'value': {
            'x': 25, 'y': 0, 'width': 75, 'height': 100 / 6, 'rotation': 0,
            'rectanglelabels': ['weed']}},
        {'type': 'brushlabels', 'value': {
            'format': 'rle', 'rle': brush(mask), 'brushlabels': ['weed']}},
        {'type': 'keypointlabels', 'value': {'x': 1, 'y': 1, 'keypointlabels': ['tip']}}])
    names, labels = run(source, tmp_path / 'out')
    assert names == ['soil', 'weed']
    wanted = np.array(ids((0, 0, 0, 4, 3), (1, 2, 0, 8, 1)))
    wanted[mask] = 1
    [found] = labels.values()
    assert found.tolist() == wanted.tolist()
    err = capsys.readouterr().err
    assert 'left out: 1 results of type keypointlabels' in err
    assert 'left out: 1 annotations of tasks that have a later one' in err


def test_label_studio_s_data_may_have_other_texts_beside_the_image(tmp_path) -> None:
    result = {'type': 'rectanglelabels', 'to_name': 'picture', 'original_width': WIDTH,
              'original_height': HEIGHT, 'value': {
                  'x': 0, 'y': 0, 'width': 50, 'height': 50, 'rectanglelabels': ['weed']}}
    picture(tmp_path / 'ls' / 'a.jpg')
    (tmp_path / 'ls' / 'export.json').write_text(json.dumps([{
        'id': 1, 'data': {'id': '7', 'caption': 'weeds: b/w?', 'url': '/data/upload/1/a.jpg?d=2'},
        'annotations': [{'result': [result]}]}]))
    pytest.importorskip('pycocotools', reason='needs pycocotools')
    _, labels = run(tmp_path / 'ls', tmp_path / 'out')
    assert [Path(name).name for name in labels] == ['a.jpg']


def test_label_studio_turns_a_box_about_its_corner(tmp_path) -> None:
    pytest.importorskip('pycocotools', reason='needs pycocotools')
    source = label_studio(tmp_path, [{'type': 'rectanglelabels', 'value': {
        'x': 50, 'y': 100 / 6, 'width': 25, 'height': 50, 'rotation': 90,
        'rectanglelabels': ['weed']}}])
    _, labels = run(source, tmp_path / 'out')
    [found] = labels.values()
    assert found.tolist() == ids((0, 1, 1, 4, 3)), '2 wide and 3 high, turned to the left'



@pytest.mark.parametrize('seed', range(3))
def test_brush_masks_are_unpacked_as_label_studio_packs_them(seed) -> None:
    rng = np.random.default_rng(seed)
    data = np.repeat(rng.integers(0, 256, 40).astype(np.uint8), rng.integers(1, 9, 40))
    assert (unpack(pack(data)) == data).all()
    with pytest.raises(ValueError, match='cut short'):
        unpack(pack(data)[:-20])
    brushes = pytest.importorskip('label_studio_sdk.converter.brush',
                                  reason='needs label-studio-sdk')
    assert (brushes.decode_rle(pack(data)) == data).all()
    mask = (rng.random((HEIGHT, WIDTH)) < 0.5).astype(np.uint8) * 255
    theirs = brushes.mask2rle(mask)
    assert (unpack(theirs).reshape(HEIGHT, WIDTH, 4)[..., 3] == mask).all()


# Supervisely


def supervisely(tmp_path: Path, objects: list[dict]) -> Path:
    source = tmp_path / 'project'
    picture(source / 'ds0' / 'img' / 'a.jpg')
    (source / 'meta.json').write_text(json.dumps({'classes': [
        {'title': 'soil', 'shape': 'any', 'color': '#64471E'},
        {'title': 'weed', 'shape': 'any', 'color': '#00FF00'}], 'tags': []}))
    (source / 'ds0' / 'ann').mkdir()
    (source / 'ds0' / 'ann' / 'a.jpg.json').write_text(json.dumps({
        'description': '', 'tags': [], 'size': {'height': HEIGHT, 'width': WIDTH},
        'objects': [{'tags': [], 'description': '', **thing} for thing in objects]}))
    return source


def bitmap(mask: np.ndarray) -> str:
    file = BytesIO()
    Image.fromarray(mask).save(file, 'PNG', bits=1)
    return base64.b64encode(zlib.compress(file.getvalue())).decode()


def test_supervisely_s_polygons_have_holes_and_bitmaps_an_origin(tmp_path, capsys) -> None:
    source = supervisely(tmp_path, [
        {'classTitle': 'soil', 'geometryType': 'polygon', 'points': {
            'exterior': [[0, 0], [6, 0], [6, 5], [0, 5]],
            'interior': [[[2, 2], [3, 2], [3, 3], [2, 3]]]}},
        {'classTitle': 'weed', 'geometryType': 'bitmap', 'bitmap': {
            'data': bitmap(np.array([[True, False], [True, True]])), 'origin': [5, 0]}},
        {'classTitle': 'weed', 'geometryType': 'rectangle', 'points': {
            'exterior': [[7, 5], [6, 4]], 'interior': []}},
        {'classTitle': 'weed', 'geometryType': 'line', 'points': {
            'exterior': [[7, 5], [6, 4]], 'interior': []}}])
    names, labels = run(source, tmp_path / 'out')
    assert names == ['soil', 'weed']
    wanted = np.array(ids((0, 0, 0, 7, 6), (255, 2, 2, 4, 4), (1, 6, 4, 8, 6)))
    wanted[0, 5] = wanted[1, 5] = wanted[1, 6] = 1
    [found] = labels.values()
    assert found.tolist() == wanted.tolist()
    assert 'left out: 1 objects of type line' in capsys.readouterr().err


def test_supervisely_as_its_package_draws_it(tmp_path) -> None:
    sly = pytest.importorskip('supervisely', reason='needs supervisely')
    rng = np.random.default_rng(3)
    objects = [{'classTitle': str(rng.choice(['soil', 'weed'])), 'geometryType': 'polygon',
                'points': {'exterior': rng.integers(0, 6, (5, 2)).tolist(),
                           'interior': [rng.integers(1, 5, (3, 2)).tolist()]}}
               for _ in range(20)]
    objects[9:9] = [
        {'classTitle': 'weed', 'geometryType': 'bitmap', 'bitmap': {
            'data': bitmap(rng.random((3, 4)) < 0.5), 'origin': [2, 1]}},
        {'classTitle': 'soil', 'geometryType': 'rectangle', 'points': {
            'exterior': [[1, 1], [3, 2]], 'interior': []}}]
    source = supervisely(tmp_path, objects)
    _, labels = run(source, tmp_path / 'out')
    meta = sly.ProjectMeta.from_json(json.loads((source / 'meta.json').read_text()))
    annotation = sly.Annotation.from_json(
        json.loads((source / 'ds0' / 'ann' / 'a.jpg.json').read_text()), meta)
    wanted = np.full((HEIGHT, WIDTH), UNDRAWN, np.uint8)
    for label in annotation.labels:
        label.geometry.draw(wanted, ['soil', 'weed'].index(label.obj_class.name))
    [found] = labels.values()
    assert found.tolist() == wanted.tolist()


# Ultralytics


def ultralytics(tmp_path: Path, lines: str, split: str = 'train') -> Path:
    source = tmp_path / 'yolo'
    picture(source / 'images' / split / 'a.jpg')
    (source / 'labels' / split).mkdir(parents=True)
    (source / 'labels' / split / 'a.txt').write_text(lines)
    (source / 'data.yaml').write_text(
        'path: .\ntrain: images/train\nval: images/val\nnames:\n  0: soil\n  1: weed\n')
    return source


def test_ultralytics_lays_the_smaller_shape_over_the_larger_one(tmp_path, capsys) -> None:
    source = ultralytics(tmp_path, """1 0.25 0.2 0.5 0.2 0.5 0.5 0.25 0.5
0 0 0 0.75 0 0.75 0.67 0 0.67
1 0.5 0.5 0.2 0.2
0 0.1 0.1 0.2 0.2
""")
    names, labels = run(source, tmp_path / 'out')
    assert names == ['soil', 'weed']
    assert labels['train/a.jpg'].tolist() == ids((0, 0, 0, 7, 5), (1, 2, 1, 5, 4))
    err = capsys.readouterr().err
    assert 'left out: 2 boxes without a mask' in err


def test_ultralytics_splits_are_those_of_its_folders(tmp_path) -> None:
    for split in ('train', 'val'):
        source = ultralytics(tmp_path, '1 0 0 1 0 1 1 0 1\n', split)
    _, labels = run(source, tmp_path / 'out')
    assert sorted(labels) == ['train/a.jpg', 'val/a.jpg']
    (source / 'images' / 'val' / 'a.jpg').unlink()
    assert main([str(source), str(tmp_path / 'again')]) == 1


# All of them


@pytest.mark.parametrize('splits', [
    'train: [images/day, images/noon]\nval: images/night', 'train: a.txt\nval: [b.txt]'],
    ids=['folders', 'lists'])
def test_ultralytics_splits_are_those_of_its_yaml(tmp_path, splits) -> None:
    source = tmp_path / 'yolo'
    places = ['day', 'night', 'noon']
    for place in places:
        picture(source / 'images' / place / f'{place}.png')
        (source / 'labels' / place).mkdir(parents=True)
        (source / 'labels' / place / f'{place}.txt').write_text('0 0 0 1 0 1 1')
    (source / 'a.txt').write_text('./images/day/day.png\nimages/noon/noon.png\n')
    (source / 'b.txt').write_text('./images/night/night.png\n')
    (source / 'data.yaml').write_text(f'{splits}\nnames: [weed]\n')
    run(source, tmp_path / 'out')
    found = {split: [pair.image.stem for pair in open_data_set(tmp_path / 'out', split).pairs]
             for split in ('train', 'val')}
    assert found == {'train': ['day', 'noon'], 'val': ['night']}


def test_where_an_export_has_no_train_split_that_is_said(coco_file, tmp_path, capsys) -> None:
    source = coco_file([{'category_id': 3, 'segmentation': [box(0, 0, 8, 6)], 'image_id': i}
                        for i in range(2)], 2)
    folder = source / 'annotations'
    (folder / 'instances_default.json').rename(folder / 'instances_val.json')
    run(source, tmp_path / 'out')
    assert 'no image is of a train split, so val is a share of all' in capsys.readouterr().err


def test_an_image_of_another_folder_is_found_by_its_name(tmp_path) -> None:
    source, photos = tmp_path / 'json', tmp_path / 'photos'
    source.mkdir()
    labelme(source / 'b.json', [
        {'label': 'weed', 'shape_type': 'rectangle', 'points': [[0, 0], [7, 5]]}])
    photos.mkdir()
    (source / 'b.jpg').rename(photos / 'b.jpg')
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert not (tmp_path / 'out').exists()
    _, labels = run(source, tmp_path / 'out', '--images', str(photos))
    assert labels['b.jpg'].tolist() == ids(undrawn=0)


def test_where_nothing_can_be_drawn_what_there_is_is_named(tmp_path, capsys) -> None:
    source = supervisely(tmp_path, [{'classTitle': 'soil', 'geometryType': 'alpha_mask'}])
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert ('no image has anything drawn on it (left out: 1 objects of type alpha_mask, 1 images '
            'with nothing drawn): label some') in capsys.readouterr().err
    (tmp_path / 'photos').mkdir()
    labelme(tmp_path / 'photos' / 'b.json', [
        {'label': 'row', 'shape_type': 'points', 'points': [[0, 0], [5, 5]]}])
    assert main([str(tmp_path / 'photos'), str(tmp_path / 'out')]) == 1
    assert 'nothing with an area was drawn (left out: 1 points, which have no area), so' in (
        capsys.readouterr().err)
    source = ultralytics(tmp_path, '0 0 0 1 0 1 1 0 1 0.93\n')  # with a confidence
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert '1 lines that are no polygon of 3 points or more' in capsys.readouterr().err


def test_an_image_that_training_would_leave_out_is_refused(tmp_path, capsys) -> None:
    source = tmp_path / 'photos'
    source.mkdir()
    labelme(source / 'b.json', [
        {'label': 'weed', 'shape_type': 'rectangle', 'points': [[0, 0], [7, 5]]}])
    (source / 'b.jpg').rename(source / 'b.gif')
    (source / 'b.json').write_text((source / 'b.json').read_text().replace('b.jpg', 'b.gif'))
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert 'b.gif: is no image that training reads: make it one of .png' in capsys.readouterr().err


def test_hidden_names_of_an_export_are_no_hidden_images_of_the_data_set(
    coco_file, tmp_path
) -> None:
    source = coco_file([{'category_id': 3, 'segmentation': [box(0, 0, 8, 6)], 'image_id': i}
                        for i in range(2)], 2)
    (source / '.cache').mkdir()
    for old, new in (('0.jpg', '.cache/a.jpg'), ('1.jpg', '.b.jpg')):
        (source / 'images' / old).rename(source / new)
        file = source / 'annotations' / 'instances_default.json'
        file.write_text(file.read_text().replace(f'"{old}"', f'"{source / new}"'))
    _, labels = run(source, tmp_path / 'out')
    assert {Path(name).name for name in labels} == {'a.jpg', '_b.jpg'}


@pytest.mark.parametrize('name', ['data:image/png;base64,' + 'A' * 5000, 'a\0.jpg'])
def test_a_name_that_no_file_can_have_is_no_image(coco_file, tmp_path, capsys, name) -> None:
    source = coco_file([{'category_id': 3, 'segmentation': [box(0, 0, 8, 6)]}])
    file = source / 'annotations' / 'instances_default.json'
    file.write_text(file.read_text().replace('"0.jpg"', json.dumps(name)))
    assert main([str(source), str(tmp_path / 'out')]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert '1 of its images are not there, or twice' in line
    assert len(line) < 500


def test_an_image_is_where_its_absolute_path_says(coco_file, tmp_path) -> None:
    source = coco_file([{'category_id': 7, 'segmentation': [box(*ALL)]}])
    file = source / 'annotations' / 'instances_default.json'
    for place in (tmp_path / 'far' / 'away', source / 'other'):
        picture(place / '0.jpg')
    far = tmp_path / 'far' / 'away' / '0.jpg'
    file.write_text(file.read_text().replace('0.jpg', str(far)))
    assert main([str(source), str(tmp_path / 'out')]) == 0
    [image] = (tmp_path / 'out' / 'images').rglob('*.jpg')
    assert image.resolve() == far


@pytest.mark.parametrize(('spoil', 'said'), [
    (lambda s, o: (s / 'b.jpg').unlink(), r'1 of its images are not there, or twice \(b.jpg\)'),
    (lambda s, o: (s / 'b.json').unlink(), 'holds nothing that COCO, CVAT'),
    (lambda s, o: (s / 'data.yaml').write_text('names: [a]\nnc: 1\ntrain: x'),
     'holds files of labelme and of ultralytics: choose one by --format'),
    (lambda s, o: (s / 'b.json').write_text('{"shapes": '), 'is no JSON'),
    (lambda s, o: (s / 'b.json').write_text('{"shapes": [{}], "imagePath": ""}'),
     r"is not as labelme writes it \(KeyError: 'label'\): export it anew, or name the tool by"),
    (lambda s, o: (s / 'b.xml').write_text('<annotations><image'), 'files of cvat and of labelme'),
    (lambda s, o: (o.mkdir(), (o / 'mine').touch()), 'is there already: choose a new OUT'),
    (lambda s, o: labelme(s / 'b.json', []), 'nothing with an area was drawn'),
], ids=['no image', 'nothing', 'two tools in YAML', 'no JSON', 'another JSON',
        'two tools', 'OUT is there', 'empty'])
def test_what_cannot_be_imported_is_one_line_and_leaves_nothing(
    tmp_path, capsys, spoil, said
) -> None:
    source, out = tmp_path / 'photos', tmp_path / 'out'
    source.mkdir()
    labelme(source / 'b.json', [
        {'label': 'weed', 'shape_type': 'rectangle', 'points': [[0, 0], [7, 5]]}])
    spoil(source, out)
    before = sorted(tmp_path.rglob('*'))
    assert main([str(source), str(out)]) == 1
    assert sorted(tmp_path.rglob('*')) == before
    err = capsys.readouterr().err
    assert re.search(said, err)
    assert err.count('lednet_import: ') == 1
    assert 'Traceback' not in err


FAR = ['NaN', 'Infinity', '-1e9', '1e20']  # as JSON and Python have them


@pytest.mark.parametrize('value', FAR)
@pytest.mark.parametrize('tool', [
    'coco', 'cvat', 'labelme', 'label_studio', 'supervisely', 'ultralytics'])
def test_a_coordinate_that_is_no_place_is_one_line_whatever_draws_it(
    tmp_path, capsys, tool, value
) -> None:
    """Else pycocotools, OpenCV and Pillow hang, crash or draw something else."""
    if tool in ('coco', 'cvat', 'label_studio'):
        pytest.importorskip('pycocotools', reason='needs pycocotools')
    source = tmp_path / 'export'
    x = float(value)
    points = [[x, 0], [5, 0], [5, 5]]
    if tool == 'coco':
        picture(source / '0.jpg')
        (source / 'a.json').write_text(json.dumps(coco([
            {'category_id': 7, 'segmentation': [[x, 0, 5, 0, 5, 5]]}])))
    elif tool == 'cvat':
        picture(source / '0.jpg')
        (source / 'a.xml').write_text(
            '<annotations><meta><label><name>weed</name></label></meta>'
            f'<image name="0.jpg" width="{WIDTH}" height="{HEIGHT}">'
            f'<polygon label="weed" points="{value},0;5,0;5,5"/></image></annotations>')
    elif tool == 'labelme':
        source.mkdir()
        labelme(source / 'b.json', [
            {'label': 'weed', 'shape_type': 'polygon', 'points': points}])
    elif tool == 'label_studio':
        source = label_studio(tmp_path, [{'type': 'polygonlabels', 'value': {
            'points': points, 'polygonlabels': ['weed']}}])
    elif tool == 'supervisely':
        source = supervisely(tmp_path, [{
            'classTitle': 'weed', 'geometryType': 'polygon',
            'points': {'exterior': points, 'interior': []}}])
    else:
        source = ultralytics(tmp_path, f'0 {value} 0 0.5 0 0.5 0.5')
    assert main([str(source), str(tmp_path / 'out')]) == 1
    err = capsys.readouterr().err
    assert err.count('lednet_import: ') == 1
    assert re.search(r'is not as \w.* writes it \(ValueError: a coordinate of', err)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(('segmentation', 'said'), [
    ({'size': [HEIGHT, WIDTH], 'counts': [4, 4]}, 'run lengths that make 8 pixels of 48'),
    ({'size': [HEIGHT, WIDTH], 'counts': [60, -12]}, 'run lengths that make 48 pixels of 48'),
    ({'size': [HEIGHT, WIDTH], 'counts': ''}, 'run lengths that make 0 pixels of 48'),
    ({'size': [HEIGHT, WIDTH], 'counts': 'zzzz'}, 'run lengths that are damaged'),
    ({'size': [HEIGHT, WIDTH], 'counts': 'oo'}, 'run lengths that are cut short'),
    ({'size': [3, 3], 'counts': [9]}, r'run lengths of \[3, 3\] in an image of \[6, 8\]'),
], ids=['short', 'negative', 'empty', 'damaged', 'cut', 'size'])
def test_run_lengths_that_do_not_add_up_are_refused_and_not_filled_from_memory(
    tmp_path, capsys, segmentation, said
) -> None:
    source = tmp_path / 'coco'
    picture(source / '0.jpg')
    (source / 'a.json').write_text(json.dumps(coco([
        {'category_id': 7, 'segmentation': segmentation}])))
    assert main([str(source), str(tmp_path / 'out')]) == 1
    err = capsys.readouterr().err
    assert 'a.json: 0.jpg is not as COCO writes it' in err
    assert re.search(said, err)


def test_the_packed_run_lengths_are_pycocotools(tmp_path) -> None:
    library = pytest.importorskip('pycocotools.mask', reason='needs pycocotools')
    from lednet_ros.datasets.importers.polygons import from_runs
    rng = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.5, 1.0):
        mask = cv2.blur((rng.random((97, 61)) < share).astype(np.float32), (5, 5)) > 0.3
        packed = library.encode(np.asfortranarray(mask.astype(np.uint8)))
        found = from_runs({'size': [97, 61], 'counts': packed['counts'].decode()}, 97, 61)
        assert (found == mask).all()


@pytest.mark.parametrize(('change', 'said'), [
    ({'category_id': 9}, 'KeyError: 9'),
    ({'image': {'height': 0}}, '0.jpg of 8x0 pixels'),
    ({'image': {'height': 10 ** 6}}, '0.jpg of 8x1000000 pixels'),
    ({'category': {'name': ''}}, 'has a class without a name'),
    ({'category': {'name': None}}, 'has a class without a name'),
], ids=['category', 'no height', 'height', 'no name', 'null name'])
def test_what_is_found_while_drawing_is_one_line_too(tmp_path, capsys, change, said) -> None:
    pytest.importorskip('pycocotools', reason='needs pycocotools')
    source = tmp_path / 'coco'
    picture(source / '0.jpg')
    data = coco([{'category_id': change.get('category_id', 7),
                  'segmentation': [box(0, 0, 8, 6)]}])
    data['images'][0] |= change.get('image', {})
    data['categories'][0] |= change.get('category', {})
    (source / 'a.json').write_text(json.dumps(data))
    assert main([str(source), str(tmp_path / 'out')]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count('lednet_import: ') == 1


def test_a_shape_beside_its_image_is_no_shape(tmp_path, capsys) -> None:
    source = tmp_path / 'photos'
    source.mkdir()
    labelme(source / 'b.json', [
        {'label': 'weed', 'shape_type': 'rectangle', 'points': [[0, 0], [7, 5]]},
        {'label': 'weed', 'shape_type': 'rectangle', 'points': [[70, 50], [77, 55]]}])
    run(source, tmp_path / 'out')
    found = capsys.readouterr()
    assert 'left out: 1 shapes that cover no pixel of their image' in found.err
    assert '1 images, 1 shapes of labelme' in found.out


def test_hidden_files_and_folders_of_a_name_are_no_part_of_an_export(tmp_path) -> None:
    source = tmp_path / 'photos'
    source.mkdir()
    labelme(source / 'b.json', [
        {'label': 'weed', 'shape_type': 'rectangle', 'points': [[0, 0], [7, 5]]}])
    (source / '._b.json').write_bytes(b'\0\5\x16\7')  # of macOS
    (source / '.vscode').mkdir()
    (source / '.vscode' / 'settings.json').write_text('// none')
    (source / 'a.xml').mkdir()
    (source / 'again').symlink_to(source)
    _, labels = run(source, tmp_path / 'out')
    assert [*labels] == ['b.jpg']


def test_images_of_one_name_in_two_folders_are_two(tmp_path) -> None:
    for name in ('one', 'two'):
        (tmp_path / 'photos' / name).mkdir(parents=True)
        labelme(tmp_path / 'photos' / name / 'b.json', [
            {'label': name, 'shape_type': 'rectangle', 'points': [[0, 0], [7, 5]]}])
    assert main([str(tmp_path / 'photos'), str(tmp_path / 'out')]) == 0
    for id_, name in enumerate(('one', 'two')):
        assert (cv2.imread(str(tmp_path / 'out' / 'labels' / name / 'b.png'), 0) == id_).all()





def exported(tool: str, folder: Path, label: str) -> None:
    """Write one task's export, with its image frame.png, all of which is `label`."""
    if tool == 'coco':
        data = coco([{'category_id': {'weed': 7, 'soil': 3}[label],
                      'segmentation': [box(*ALL)]}])
        data['images'][0]['file_name'] = 'frame.png'
        picture(folder / 'images' / 'default' / 'frame.png')
        (folder / 'annotations').mkdir()
        (folder / 'annotations' / 'instances_default.json').write_text(json.dumps(data))
    elif tool == 'cvat':
        picture(folder / 'images' / 'frame.png')
        (folder / 'annotations.xml').write_text(CVAT.format(meta='', body=(
            f'<image id="0" name="frame" width="{WIDTH}" height="{HEIGHT}"><box label="{label}" '
            f'xtl="0" ytl="0" xbr="{WIDTH}" ybr="{HEIGHT}"/></image>')))
    elif tool == 'label_studio':
        source = label_studio(folder, [{'type': 'rectanglelabels', 'value': {
            'x': 0, 'y': 0, 'width': 100, 'height': 100, 'rectanglelabels': [label]}}])
        (source / 'media' / 'upload' / 'field.jpg').rename(source / 'frame.png')
        text = (source / 'project.json').read_text()
        (source / 'project.json').write_text(text.replace('field.jpg', 'frame.png'))
    elif tool == 'labelme':
        folder.mkdir(parents=True)
        labelme(folder / 'frame.json', [
            {'label': label, 'shape_type': 'rectangle', 'points': [[0, 0], [7, 5]]}])
        (folder / 'frame.jpg').rename(folder / 'frame.png')
        text = (folder / 'frame.json').read_text()
        (folder / 'frame.json').write_text(
            text.replace('"frame.jpg"', json.dumps('C:\\data\\frame.png')))
    else:
        points = {'exterior': [[0, 0], [7, 5]], 'interior': []}
        source = supervisely(folder, [
            {'classTitle': label, 'geometryType': 'rectangle', 'points': points}])
        shutil.copytree(source / 'ds0', source / 'more' / 'datasets' / 'ds0')  # one in another


@pytest.mark.parametrize('tool', ['coco', 'cvat', 'label_studio', 'labelme', 'supervisely'])
def test_tasks_side_by_side_keep_images_of_one_name_apart(tmp_path, tool) -> None:
    """Each has its image beside its own export."""
    if tool in ('coco', 'cvat', 'label_studio'):
        pytest.importorskip('pycocotools', reason='needs pycocotools')
    for label in ('weed', 'soil'):
        exported(tool, tmp_path / 'all' / f'task {label}', label)
    assert main([str(tmp_path / 'all'), str(tmp_path / 'out')]) == 0
    labels = sorted((tmp_path / 'out' / 'labels').rglob('*.png'))
    assert len(labels) == (4 if tool == 'supervisely' else 2)
    for path in labels:
        inner = path.relative_to(tmp_path / 'out' / 'labels')
        [image] = (tmp_path / 'out' / 'images' / inner.parent).glob(f'{inner.stem}.*')
        task = image.resolve().relative_to(tmp_path / 'all').parts[0]
        assert (cv2.imread(str(path), 0) == {'task soil': 0, 'task weed': 1}[task]).all()


@pytest.mark.parametrize('tool', ['coco', 'cvat', 'cvat for video'])
def test_images_of_one_name_in_a_project_s_subsets_are_two(tmp_path, tool) -> None:
    source = cvat(tmp_path, '', images=('Train/frame_000000.png', 'Validation/frame_000000.png'))
    subsets = {'Train': 'weed', 'Validation': 'soil'}
    if tool == 'coco':
        (source / 'annotations.xml').unlink()
        (source / 'annotations').mkdir()
        for subset, label in subsets.items():
            data = coco([{'category_id': {'weed': 7, 'soil': 3}[label],
                          'segmentation': [box(*ALL)]}])
            data['images'][0]['file_name'] = 'frame_000000.png'
            (source / 'annotations' / f'instances_{subset}.json').write_text(json.dumps(data))
    else:
        points = f'points="0,0;{WIDTH},0;{WIDTH},{HEIGHT};0,{HEIGHT}"'
        body, meta = '', ''
        for i, (subset, label) in enumerate(subsets.items()):
            at = f'subset="{subset}" task_id="{i}"'
            body += (f'<image id="{i}" name="frame_000000" {at} width="{WIDTH}" height="{HEIGHT}">'
                     f'<polygon label="{label}" {points}/></image>') if tool == 'cvat' else (
                f'<track id="{i}" label="{label}" {at}><polygon frame="0" outside="0" {points}/>'
                '</track>')
            meta += (f'<task><id>{i}</id><original_size><width>{WIDTH}</width><height>{HEIGHT}'
                     '</height></original_size></task>')
        (source / 'annotations.xml').write_text(CVAT.format(body=body, meta=meta))
    _, labels = run(source, tmp_path / 'out')
    assert {name: found.tolist() for name, found in labels.items()} == {
        'train/frame_000000.png': ids((1, *ALL)), 'val/frame_000000.png': ids((0, *ALL))}


def test_tracks_of_two_tasks_with_one_numbering_are_not_drawn_on_each_other_s_frames(
    tmp_path, capsys
) -> None:
    size = f'<original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size>'
    source = cvat(tmp_path, ''.join(
        f'<track id="{i}" label="weed" task_id="{i}" subset="default"><box frame="0" outside="0" '
        f'xtl="{i}" ytl="1" xbr="3" ybr="3"/></track>' for i in (0, 1)), meta=''.join(
            f'<task><id>{i}</id>{size}</task>' for i in (0, 1)), images=('frame_000000.png',))
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert 'frame_000000: is drawn on twice in the export' in capsys.readouterr().err


def test_what_is_drawn_on_an_image_that_is_not_there_is_not_put_on_another_of_its_name(
    coco_file, tmp_path, capsys
) -> None:
    source = coco_file([{'category_id': 7, 'segmentation': [box(*ALL)]},
                        {'category_id': 3, 'segmentation': [box(*ALL)], 'image_id': 1}], images=2)
    file = source / 'annotations' / 'instances_default.json'
    file.write_text(file.read_text().replace('"0.jpg"', '"a/x.jpg"').replace('"1.jpg"',
                                                                             '"b/x.jpg"'))
    picture(source / 'b' / 'x.jpg')
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert 'a/x.jpg and b/x.jpg: only one of them is there, as ' in capsys.readouterr().err


def test_an_image_in_two_files_of_coco_is_named(coco_file, tmp_path, capsys) -> None:
    """As in the folder that COCO publishes: instances, keypoints and panoptic of one split."""
    source = coco_file([{'category_id': 7, 'segmentation': [box(*ALL)]}])
    file = source / 'annotations' / 'instances_default.json'
    file.with_name('person_keypoints_default.json').write_text(file.read_text())
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert '0.jpg: is drawn on twice in the export: leave one out, or give one' in (
        capsys.readouterr().err)
    assert main([str(file), str(tmp_path / 'out')]) == 0


def test_names_are_compared_as_people_read_them(coco_file, tmp_path) -> None:
    """Macs write an accent as a character of its own, and other systems other suffixes."""
    source = coco_file([{'category_id': 7, 'segmentation': [box(*ALL)]}])
    file = source / 'annotations' / 'instances_default.json'
    file.write_text(json.dumps(json.loads(file.read_text().replace('0.jpg', 'gr\u00fcn 1.jpg'))))
    (source / 'images' / '0.jpg').rename(
        source / 'images' / normalize('NFD', 'Gr\u00fcn 1.JPG'))
    _, labels = run(source, tmp_path / 'out')
    assert len(labels) == 1


def test_classes_that_look_alike_and_shapes_of_no_image_are_named(
    coco_file, tmp_path, capsys
) -> None:
    source = coco_file([{'category_id': 7, 'segmentation': [box(*ALL)]},
                        {'category_id': 3, 'segmentation': [box(*ALL)], 'image_id': 9}])
    file = source / 'annotations' / 'instances_default.json'
    file.write_text(file.read_text().replace('"soil"', '"Weed "'))
    assert main([str(source), str(tmp_path / 'out')]) == 0
    err = capsys.readouterr().err
    assert "classes 'Weed ' and 'weed' differ in upper and lower case or spaces only" in err
    assert 'left out: 1 shapes of images that the file does not list' in err


def test_ultralytics_coordinates_in_pixels_are_refused(tmp_path, capsys) -> None:
    source = ultralytics(tmp_path, '0.0 0 0 640 0 640 480\n')
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert "640, which is no share of the image's sides" in capsys.readouterr().err


def test_cvat_s_subsets_that_are_no_splits_are_kept_apart_too(tmp_path) -> None:
    source = cvat(tmp_path, '', images=('Day/a.png', 'Night/a.png'))
    points = f'points="0,0;{WIDTH},0;{WIDTH},{HEIGHT};0,{HEIGHT}"'
    (source / 'annotations.xml').write_text(CVAT.format(meta='', body=''.join(
        f'<image id="{i}" name="a.png" subset="{subset}" width="{WIDTH}" height="{HEIGHT}">'
        f'<polygon label="{label}" {points}/></image>'
        for i, (subset, label) in enumerate((('Day', 'weed'), ('Night', 'soil'))))))
    _, labels = run(source, tmp_path / 'out')
    assert {name: found[0][0] for name, found in labels.items()} == {
        'Day/a.png': 1, 'Night/a.png': 0}


def test_poses_of_ultralytics_are_no_polygons(tmp_path, capsys) -> None:
    source = ultralytics(tmp_path, '0 0.5 0.5 0.2 0.2 0.1 0.1 0.9 0.9\n')
    with (source / 'data.yaml').open('a') as file:
        file.write('kpt_shape: [2, 2]\n')
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert 'has kpt_shape, so its labels are boxes with points' in capsys.readouterr().err


@pytest.mark.parametrize(('value', 'wanted'), [
    ({'points': [[0, 0], [50, 0], [50, 50], [0, 50]]}, (0, 0, 0, 4, 3)),
    ({'x': 25, 'y': 0, 'width': 75, 'height': 50}, (0, 2, 0, 8, 3)),
    ({'format': 'rle', 'rle': brush(np.eye(HEIGHT, WIDTH) < 2)}, (0, *ALL)),
    ({'imageDataURL': bitmask(2, 1, 7, 5)}, (0, 2, 1, 7, 5)),
], ids=['polygon', 'rectangle', 'brush', 'bitmask'])
def test_label_studio_s_classes_of_a_control_of_their_own(
    tmp_path, capsys, value, wanted
) -> None:
    """<Labels> beside <Polygon>, <Rectangle> and <Brush>: a class for shapes of all kinds."""
    pytest.importorskip('pycocotools', reason='needs pycocotools')
    point = {'x': 50, 'y': 50, 'width': 0.5}
    source = label_studio(tmp_path, [{'type': 'labels', 'value': {**shape, 'labels': ['weed']}}
                                     for shape in (value, point)])
    _, labels = run(source, tmp_path / 'out')
    [found] = labels.values()
    assert found.tolist() == ids(wanted)
    assert 'left out: 1 results of type labels' in capsys.readouterr().err


def test_an_import_beside_its_export_does_not_hinder_the_next(tmp_path, monkeypatch) -> None:
    """Its links are the same images once more."""
    labelme_at = tmp_path / 'photos'
    (labelme_at / 'images').mkdir(parents=True)
    labelme(labelme_at / 'b.json', [
        {'label': 'weed', 'shape_type': 'rectangle', 'points': [[0, 0], [7, 5]]}])
    (labelme_at / 'b.jpg').rename(labelme_at / 'images' / 'c.jpg')
    text = (labelme_at / 'b.json').read_text().replace('b.jpg', 'elsewhere/c.jpg')
    (labelme_at / 'b.json').write_text(text)
    monkeypatch.chdir(labelme_at)
    assert main(['.', 'out']) == 0
    assert main(['.', 'out2']) == 0


def test_the_working_directory_is_no_out(tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / 'photos').mkdir()
    labelme(tmp_path / 'photos' / 'b.json', [
        {'label': 'weed', 'shape_type': 'rectangle', 'points': [[0, 0], [7, 5]]}])
    (tmp_path / 'new').mkdir()
    monkeypatch.chdir(tmp_path / 'new')
    assert main([str(tmp_path / 'photos'), '.']) == 1
    assert '.: is there already: choose a new OUT' in capsys.readouterr().err


def test_a_label_studio_task_of_two_images_is_two(tmp_path, capsys) -> None:
    pytest.importorskip('pycocotools', reason='needs pycocotools')
    def shape(name: str, label: str) -> dict:
        return {'type': 'polygonlabels', 'to_name': name, 'value': {
            'points': [[0, 0], [100, 0], [100, 100], [0, 100]], 'polygonlabels': [label]}}

    source = label_studio(
        tmp_path, [shape('left', 'soil'), shape('right', 'weed')],
        data={'left': '/data/local-files/?d=a/left+1.jpg', 'right': '/data/upload/right%231.jpg'})
    picture(source / 'left+1.jpg')
    picture(source / 'right#1.jpg')
    _, labels = run(source, tmp_path / 'out')
    assert {Path(name).name: np.unique(found).tolist() for name, found in labels.items()} == {
        'left+1.jpg': [0], 'right#1.jpg': [1]}
    source = label_studio(tmp_path, [shape('left', 'soil'), shape('right', 'weed')])
    assert main([str(source), str(tmp_path / 'again')]) == 1
    assert 'nothing says which image left is' in capsys.readouterr().err


def test_label_studio_s_other_labels_of_a_shape_and_shapes_without_one_are_counted(
    tmp_path, capsys
) -> None:
    pytest.importorskip('pycocotools', reason='needs pycocotools')
    points = [[0, 0], [100, 0], [100, 100], [0, 100]]
    source = label_studio(tmp_path, [
        {'type': 'polygonlabels', 'value': {'points': points, 'polygonlabels': names}}
        for names in (['soil', 'weed'], [])])
    _, labels = run(source, tmp_path / 'out')
    [found] = labels.values()
    assert (found == 0).all(), 'what has no label hides nothing'
    err = capsys.readouterr().err
    assert 'left out: 1 further labels of one shape' in err
    assert 'left out: 1 results without a label' in err


def test_ultralytics_images_without_a_label_file_have_nothing_drawn(tmp_path, capsys) -> None:
    source = ultralytics(tmp_path, '0 0 0 1 0 1 1 0 1')
    picture(source / 'images' / 'train' / 'bare.jpg')
    (source / 'labels' / 'classes.txt').write_text('soil\nweed\n')
    _, labels = run(source, tmp_path / 'out')
    assert len(labels) == 1
    assert 'left out: 1 images with nothing drawn' in capsys.readouterr().err
    _, labels = run(source, tmp_path / 'all', '--keep-empty')
    assert len(labels) == 2


def test_two_yamls_of_ultralytics_are_one_line(tmp_path, capsys) -> None:
    source = ultralytics(tmp_path, '0 0 0 1 0 1 1 0 1')
    (source / 'other.yaml').write_text('names: [soil]\nnc: 1\n')
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert 'both name classes' in capsys.readouterr().err


def test_without_pycocotools_one_line_says_how_to_get_it(tmp_path, capsys, monkeypatch) -> None:
    source = tmp_path / 'coco'
    picture(source / '0.jpg')
    (source / 'a.json').write_text(json.dumps(coco([
        {'category_id': 7, 'segmentation': [box(0, 0, 8, 6)]}])))
    monkeypatch.setitem(__import__('sys').modules, 'pycocotools', None)
    assert main([str(source), str(tmp_path / 'out')]) == 1
    assert capsys.readouterr().err.rstrip().endswith('pip install pycocotools')


def test_what_is_imported_may_be_trained_on_by_the_check(tmp_path, capsys) -> None:
    from lednet_ros.cli.train import main as train
    source = tmp_path / 'photos'
    source.mkdir()
    for i in range(10):
        labelme(source / f'{i}.json', [
            {'label': 'soil', 'shape_type': 'rectangle', 'points': [[0, 0], [7, 5]]},
            {'label': 'weed', 'shape_type': 'rectangle', 'points': [[i % 3, 2], [4, 3]]}])
    assert main([str(source), str(tmp_path / 'out')]) == 0
    assert train(['--data', str(tmp_path / 'out'), '--check-data',
                  '--output', str(tmp_path / 'sheet')]) == 0
    out = capsys.readouterr().out
    assert 'out train: 8 pairs' in out
    assert 'out val: 2 pairs' in out
