# SPDX-License-Identifier: Apache-2.0
import pytest
import yaml

from lednet_ros.common.errors import ConfigError
from lednet_ros.model.checkpoint import save_checkpoint
from lednet_ros.model.labels import LabelSet, builtin_label_set
from lednet_ros.model.lednet import LEDNet
from lednet_ros.projection import Traversability
from lednet_ros.projection.traversability import BLOCKED, BUILTIN, FREE, OBSTACLE, UNKNOWN


@pytest.mark.parametrize('name', BUILTIN)
def test_what_comes_with_the_package_lets_only_roads_be_free(name) -> None:
    traversability = Traversability.load(name)
    labels = builtin_label_set(name)
    assert traversability.labels == labels
    codes = dict(zip(labels.names, traversability.codes, strict=False))
    assert [c for c in labels.names if codes[c] == FREE] == ['road']
    assert codes['sky'] == UNKNOWN
    for id_, c in enumerate(labels.classes):
        if c.category in ('vehicle', 'human', 'construction', 'object'):
            assert codes[c.name] >= OBSTACLE
        if c.category == 'flat' and c.name != 'road':
            assert codes[c.name] == BLOCKED
        if c.void:
            assert traversability.codes[id_] == UNKNOWN
    obstacles = [code for code in codes.values() if code >= OBSTACLE]
    assert len(set(obstacles)) == len(obstacles)  # a code for each
    assert (traversability.codes[len(labels):] == UNKNOWN).all()


def test_a_file_of_one_s_own(tmp_path) -> None:
    (tmp_path / 'yard.yaml').write_text(
        'name: yard\nclasses:\n  - {name: grass, color: [0, 200, 0]}\n'
        '  - {name: tree, color: [90, 60, 0]}\n  - {name: rest, color: [0, 0, 0], void: true}\n')
    file = tmp_path / 'mine.yaml'
    file.write_text('labels: yard.yaml\n'  # beside it
                    'classes: {tree: obstacle, grass: free, rest: free}\n')
    codes = Traversability.load(str(file)).codes
    assert codes[:4].tolist() == [FREE, OBSTACLE, UNKNOWN, UNKNOWN]  # void never is


def test_the_classes_of_a_checkpoint_have_its_own_names_and_colours(tmp_path) -> None:
    yard = LabelSet.from_dict({'name': 'camvid', 'classes': [
        {'name': 'grass', 'color': [1, 2, 3]}, {'name': 'tree', 'color': [4, 5, 6]}]})
    save_checkpoint(tmp_path / 'yard.safetensors', LEDNet(2), yard, input_height=64,
                    input_width=96)
    file = tmp_path / 'mine.yaml'
    file.write_text('labels: yard.safetensors\nclasses: {tree: obstacle, grass: free}\n')
    assert Traversability.load(str(file)).labels == yard


CAMVID = {'labels': 'camvid', 'classes': dict.fromkeys(builtin_label_set('camvid').names, 'free')}


@pytest.mark.parametrize(('data', 'words'), [
    ([], "give 'labels', a label set, and a mapping 'classes'"),
    ({'labels': 'camvid'}, "a mapping 'classes'"),
    ({**CAMVID, 'classes': {**CAMVID['classes'], 'lake': 'free'}}, "camvid has no class 'lake'"),
    ({**CAMVID, 'classes': {'road': 'free'}}, "class 'sky' is missing"),
    ({**CAMVID, 'classes': {**CAMVID['classes'], 'car': 'soft'}},
     "class 'car' is 'soft': give one of free, blocked, unknown, obstacle"),
    ({**CAMVID, 'labels': '/no/such'}, '/no/such: cannot be read'),
], ids=['list', 'no classes', 'unknown class', 'missing class', 'unknown word', 'no labels'])
def test_mistakes_are_named(tmp_path, data, words) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=words):
        Traversability.load(str(file))


def test_a_class_that_is_given_twice_is_refused(tmp_path) -> None:
    (tmp_path / 'own.yaml').write_text('labels: camvid\nclasses: {road: blocked, road: free}\n')
    with pytest.raises(ConfigError, match=r"own\.yaml: .*'road' is given twice"):
        Traversability.load(str(tmp_path / 'own.yaml'))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match='choose camvid, cityscapes or a YAML file like theirs'):
        Traversability.load('/no/such.yaml')
