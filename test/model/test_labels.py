# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import safetensors.numpy

from lednet_ros.common.errors import ConfigError
from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
from lednet_ros.model.labels import LabelSet, builtin_label_set


def test_cityscapes_has_19_classes_in_7_categories_and_a_void_background() -> None:
    labels = builtin_label_set('cityscapes')
    assert len(labels) == 20
    assert labels.void_ids == [19]
    assert list(labels.categories) == [
        'flat', 'construction', 'object', 'nature', 'sky', 'human', 'vehicle']
    assert sum(map(len, labels.categories.values())) == 19
    assert labels.palette[labels.names.index('road')].tolist() == [128, 64, 128]
    assert labels.palette[labels.names.index('bicycle')].tolist() == [119, 11, 32]


def test_camvid_has_11_classes_in_the_data_sets_order() -> None:
    labels = builtin_label_set('camvid')
    assert labels.names == ['sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign symbol',
                            'fence', 'car', 'pedestrian', 'bicyclist']
    assert labels.palette[3].tolist() == [128, 64, 128]


def test_the_palette_is_black_where_there_is_no_class_and_for_void() -> None:
    labels = builtin_label_set('cityscapes')
    assert labels.palette.shape == (256, 3)
    assert labels.palette.dtype == np.uint8
    assert not labels.palette[19:].any()


def test_a_label_set_survives_a_checkpoints_record() -> None:
    labels = builtin_label_set('cityscapes')
    assert LabelSet.from_dict(labels.to_dict()) == labels


def test_the_shipped_checkpoint_has_the_names_and_colours_of_the_shipped_label_set() -> None:
    """The node publishes the former, ground points have the latter."""
    labels = LabelSet.from_checkpoint(default_checkpoint())
    assert labels == load_checkpoint(default_checkpoint()).labels
    assert labels == builtin_label_set(labels.name)


@pytest.mark.parametrize(('content', 'words'), [
    (None, 'cannot be read: '), (b'', 'holds no label set ('), (b'rubbish' * 99, 'holds no label'),
    (safetensors.numpy.save({'a': np.zeros(1)}), 'holds no label set ('),
    (safetensors.numpy.save({'a': np.zeros(1)}, {'lednet_ros': '{}'}), 'holds no label set ('),
    (safetensors.numpy.save({'a': np.zeros(1)}, {'lednet_ros': '{"labels": {"classes": [3]}}'}),
     'class 0: 3 is not a mapping'),
], ids=['none', 'empty', 'rubbish', 'other weights', 'no labels', 'odd labels'])
def test_a_file_without_a_record_of_labels_is_named(tmp_path, content, words) -> None:
    file = tmp_path / 'a.safetensors'
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        LabelSet.from_checkpoint(file)
    assert str(caught.value).startswith(f'{file}: {words}')


def test_a_user_adds_a_set_by_a_file(tmp_path) -> None:
    file = tmp_path / 'orchard.yaml'
    file.write_text('name: orchard\n'
                    'classes:\n'
                    '  - {name: grass, color: [0, 200, 0], category: flat}\n'
                    '  - {name: trunk, color: [90, 60, 0]}\n'
                    '  - {name: rest, color: [0, 0, 0], void: true}\n')
    labels = LabelSet.from_yaml(file)
    assert labels.name == 'orchard'
    assert labels.names == ['grass', 'trunk', 'rest']
    assert labels.categories == {'flat': [0], 'trunk': [1]}
    assert labels.void_ids == [2]


@pytest.mark.parametrize(('text', 'words'), [
    ('classes: 3', "not a label set: give 'name' and a list 'classes'"),
    ('[1, 2]', "not a label set: give 'name' and a list 'classes'"),
    ('a: [', 'not a YAML file'),
    ('classes: []', "label set 'unnamed' has 0 classes"),
    ('classes: [road]', "class 0: 'road' is not a mapping"),
    ('classes: [{name: road, color: [1, 2]}]', r'class 0 \(road\): color is \[1, 2\]'),
    ('classes: [{name: road, color: [1, 2, 256]}]', 'color is .1, 2, 256.: give .red, green'),
    ('classes: [{name: road, color: "abc"}]', "color is 'abc'"),
    ('classes: [{name: road, colour: [1, 2, 3]}]', "unknown key 'colour'"),
    ('classes: [{name: 7, color: [1, 2, 3]}]', 'name is 7: give a text'),
    ('classes: [{name: a, color: [1, 2, 3], void: 1}]', 'void is 1: give true or false'),
    ('classes: [{name: a, color: [1, 2, 3]}, {name: a, color: [1, 2, 3]}]', "names 'a' twice"),
    ('classes: [{name: a, color: [1, 2, 3], color: [3, 2, 1]}]', "'color' is given twice"),
    (f'classes: {5000 * "["}', 'not a YAML file: it is nested too deeply'),
    (r'classes: [{name: "a\nb", color: [1, 2, 3]}]', r"a class 'a\\nb': give a name on one line"),
    (r'classes: [{name: "\ud83d", color: [1, 2, 3]}]', 'give a name on one line'),
], ids=range(16))
def test_a_wrong_file_is_refused_in_one_line_that_names_it(tmp_path, text, words) -> None:
    file = tmp_path / 'wrong.yaml'
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as error:
        LabelSet.from_yaml(file)
    assert '\n' not in str(error.value)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r'none\.yaml: cannot be read: No such file'):
        LabelSet.from_yaml(tmp_path / 'none.yaml')
