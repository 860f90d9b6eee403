# SPDX-License-Identifier: Apache-2.0
import locale
import math
from pathlib import Path

import pytest
import yaml

from lednet_ros.common.errors import ConfigError
from lednet_ros.training.recipe import Recipe, load_recipe

LEAST = {'input_height': 64, 'input_width': 96, 'epochs': 1}


def test_the_papers_recipe_is_section_3_1() -> None:
    paper = load_recipe('paper')
    assert (paper.batch, paper.learning_rate, paper.poly_power) == (5, 5e-4, 0.9)
    assert (paper.weight_decay, paper.optimizer) == (1e-4, 'adam')
    assert (paper.encoder_epochs, paper.epochs, paper.resize_height) == (300, 300, 512)


@pytest.mark.parametrize('name', ['paper', 'camvid', 'fine_tune'])
def test_a_recipe_survives_the_way_to_yaml_and_back(name) -> None:
    recipe = load_recipe(name)
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


def test_a_recipe_is_read_as_utf_8_whatever_the_locale(tmp_path) -> None:
    path = tmp_path / 'mine.yaml'
    path.write_text('# Größe der Äpfel\n' + yaml.safe_dump(LEAST), encoding='utf-8')
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, 'C')
        assert load_recipe(str(path)).epochs == 1
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


@pytest.mark.parametrize('name', ['camvid', 'fine_tune'])
def test_few_images_are_shown_in_other_light_and_from_other_heights(name) -> None:
    recipe = load_recipe(name)
    assert min(recipe.rotation, recipe.perspective, recipe.white_balance, recipe.hue, recipe.grey,
               recipe.shading, recipe.blur, recipe.noise, recipe.jpeg) > 0


@pytest.mark.parametrize(('knobs', 'said'), [
    ({'rotation': 90.0}, 'rotation is 90.0: give 0 to 45 degrees'),
    ({'perspective': 0.5}, 'perspective is 0.5: give 0 to 0.25'),
    ({'white_balance': -0.1}, 'white_balance is -0.1: give 0 to 1'),
    ({'hue': 181.0}, 'hue is 181.0: give 0 to 180 degrees'),
    ({'grey': 1.5}, 'grey is 1.5: give 0 to 1'),
    ({'shading': 3.0}, 'shading is 3.0: give 0 to 2'),
    ({'blur': 11.0}, 'blur is 11.0: give 0 to 10 pixels'),
    ({'noise': -1.0}, 'noise is -1.0: give 0 to 100'),
    ({'jpeg': 101}, 'jpeg is 101: give 0 to 100'),
    ({'copy_paste': 1.1}, 'copy_paste is 1.1: give 0 to 1'),
    ({'learning_rat': 1.0}, "'learning_rat' is no knob: did you mean 'learning_rate'"),
    ({'epochs': 0}, 'epochs is 0: give 1 or more'),
    ({'epochs': 2.5}, 'epochs is 2.5: give a value of type int'),
    ({'flip': 'yes'}, "flip is 'yes': give a value of type bool"),
    ({'learning_rate': 'fast'}, "learning_rate is 'fast': give a value of type float"),
    ({'optimizer': 'sgd'}, "optimizer is 'sgd': choose adam, adamw"),
    ({'scale': [2.0, 1.0]}, 'scale is (2.0, 1.0)'),
    ({'scale': [1.0]}, 'scale is [1.0]: give a value of type tuple[float, float]'),
    ({'crops': [[0.5, 32, 32]]}, 'the first from 0'),
    ({'crops': [[0.0, 16, 32]]}, 'sizes from 32'),
    ({'poly_power': -1.0}, 'poly_power is -1.0: give 0 or more'),
    ({'learning_rate': math.inf}, 'learning_rate is inf: give a finite number'),
    ({'scale': [1.0, math.inf]}, 'scale is (1.0, inf): give a finite number'),
    ({'weight_decay': math.inf}, 'weight_decay is inf: give a finite number'),
    ({'ohem': 0.0}, 'ohem is 0.0: give above 0 to 1'),
    ({'input_height': 8}, 'input_height is 8: give at least 32 pixels'),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else '')
def test_a_wrong_knob_is_named(knobs, said) -> None:
    with pytest.raises(ConfigError) as error:
        Recipe.from_dict({**LEAST, **knobs})
    assert said in str(error.value)


def write(path: Path, **knobs: object) -> str:
    path.write_text(yaml.safe_dump(knobs))
    return str(path)


def test_what_a_recipe_of_one_s_own_does_not_name_is_camvid_s(tmp_path) -> None:
    mine = load_recipe(write(tmp_path / 'mine.yaml', **LEAST))
    camvid = load_recipe('camvid')
    changed = {'input_height', 'input_width', 'epochs', 'crops'}
    assert {k: v for k, v in mine.to_dict().items() if k not in changed} == {
        k: v for k, v in camvid.to_dict().items() if k not in changed}
    assert mine.crops == ((0.0, 48, 80), (0.3, 64, 96))  # the same shares of the input


def test_a_base_can_be_another_file_a_shipped_one_or_none(tmp_path) -> None:
    first = write(tmp_path / 'first.yaml', **LEAST, base='fine_tune', batch=3)
    second = load_recipe(write(tmp_path / 'second.yaml', base=first, epochs=7))
    assert (second.batch, second.epochs, second.input_width) == (3, 7, 96)
    assert second.scale == load_recipe('fine_tune').scale
    beside = load_recipe(write(tmp_path / 'second.yaml', base='first.yaml', epochs=7))
    assert beside == second, 'a file is named from the folder of that which names it'
    bare = load_recipe(write(tmp_path / 'bare.yaml', **LEAST, base='none'))
    assert bare == Recipe.from_dict(LEAST)


def test_a_base_that_is_none_or_goes_round_in_a_circle_is_named(tmp_path) -> None:
    path = tmp_path / 'mine.yaml'
    with pytest.raises(ConfigError, match='is based on itself'):
        load_recipe(write(path, **LEAST, base=str(path)))
    with pytest.raises(ConfigError, match='base is 3: give one of camvid, fine_tune, paper'):
        load_recipe(write(path, **LEAST, base=3))
    with pytest.raises(ConfigError, match=r'camvit: cannot be read: .* or one of camvid'):
        load_recipe(write(path, **LEAST, base='camvit'))


def test_a_size_scales_the_crops_with_it_and_set_has_the_last_word() -> None:
    recipe = load_recipe('camvid', ['epochs=2'], (180, 320))
    assert (recipe.input_height, recipe.input_width, recipe.epochs) == (180, 320, 2)
    assert recipe.crops == ((0.0, 144, 256), (0.3, 176, 320))
    assert load_recipe('camvid', ['crops=[]'], (180, 320)).crops == ()


def test_knobs_can_be_overridden_in_yaml_words() -> None:
    recipe = load_recipe('camvid', ['epochs=3', 'learning_rate=1e-4', 'crops=[[0, 96, 128]]'])
    assert (recipe.epochs, recipe.learning_rate) == (3, 1e-4)
    assert recipe.crops == ((0.0, 96, 128),)
    with pytest.raises(ConfigError, match='--set epochs: give KNOB=VALUE'):
        load_recipe('camvid', ['epochs'])


@pytest.mark.parametrize(('text', 'said'), [
    (None, 'cannot be read: No such file or directory: give a YAML file or one of camvid, '
           'fine_tune, paper'),
    ('a: [', 'is not YAML'), ('- 1', 'is not a mapping'),
    ('base: none\nepochs: 1', 'input_height is missing'),
], ids=['missing', 'not YAML', 'a list', 'lacking'])
def test_a_file_that_is_no_recipe_is_named(tmp_path, text, said) -> None:
    path = tmp_path / 'mine.yaml'
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_recipe(str(path))
    assert str(path) in str(error.value)
    assert said in str(error.value)


def test_crops_grow_with_the_epochs() -> None:
    recipe = Recipe.from_dict({**LEAST, 'crops': [[0.0, 32, 48], [0.5, 64, 96]]})
    assert [recipe.crop_at(done) for done in (0.0, 0.49, 0.5, 0.99)] == [
        (32, 48), (32, 48), (64, 96), (64, 96)]
    assert Recipe.from_dict(LEAST).crop_at(0.3) is None
