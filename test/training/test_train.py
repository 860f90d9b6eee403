# SPDX-License-Identifier: Apache-2.0
"""lednet_train as a user calls it, on a data set made here."""

from __future__ import annotations

import csv
import io
import multiprocessing
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from orchard import RECIPE, make_orchard
from test_loading import limited

import lednet_ros
from lednet_ros.cli.train import _own_device, _say, main
from lednet_ros.common.errors import ConfigError, DataError
from lednet_ros.model.checkpoint import load_checkpoint, save_checkpoint
from lednet_ros.model.labels import LabelSet
from lednet_ros.model.lednet import LEDNet
from lednet_ros.model.networks import name_of
from lednet_ros.training import curves, run_dir, train
from lednet_ros.training.distributed import Processes
from lednet_ros.training.listeners import load_listener

TRAIN = [sys.executable, '-m', 'lednet_ros.cli.train']


def words(recipe: Path, data: Path, output: Path, *more: str) -> list[str]:
    return ['--recipe', str(recipe), '--data', str(data), '--output', str(output),
            '--device', 'cpu', *more]


def losses(output: Path) -> list[tuple[str, str, float]]:
    with (output / 'history.csv').open() as file:
        return [(row['stage'], row['epoch'], float(row['loss'])) for row in csv.DictReader(file)]


def weights(file: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(file).network.state_dict()


def before_each_step(monkeypatch: pytest.MonkeyPatch, do: Callable[[train._Loop], None]) -> None:
    original = train._Loop._step

    def step(self: train._Loop, *batch: torch.Tensor) -> float:
        do(self)
        return original(self, *batch)

    monkeypatch.setattr(train._Loop, '_step', step)


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the next training as a signal would, after so many steps."""
    done: list[int] = []

    def stop(loop: train._Loop) -> None:
        done.append(1)
        loop._training.is_stopped = len(done) >= steps

    before_each_step(monkeypatch, stop)


MY_TRACKER = """
from lednet_ros.training.train import Listener
heard = []
def make(recipe, directory):
    heard.append((recipe['epochs'], directory.name))
    return Listener(on_step=lambda step: heard.append(step.loss),
                    on_epoch=lambda row: heard.append(row['val_miou']))
"""


@dataclass(frozen=True)
class Trained:
    """A training that is done, by tests not to be changed."""

    output: Path
    said: str
    heard: list[object]
    place: Path

    def copy(self, to: Path) -> Path:
        return Path(shutil.copytree(self.output, to))


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The orchard's recipe, all of its two epochs."""
    place = tmp_path_factory.mktemp('whole')
    data, recipe = make_orchard(place / 'orchard'), place / 'recipe.yaml'
    recipe.write_text(RECIPE)
    (place / 'my_tracker.py').write_text(MY_TRACKER)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.chdir(place)
        patch.setattr(run_dir, 'draw_history', curves.draw_history)
        assert main(words(recipe, data, place / 'out', '--name', 'apples', '--listener',
                          'my_tracker:make')) == 0
        import my_tracker
    return Trained(place / 'out', said.getvalue(), my_tracker.heard, place)


@pytest.mark.parametrize('steps', [1, 2, 3], ids=['in epoch 1', 'at its end', 'in epoch 2'])
def test_stopped_and_gone_on_with_it_is_the_same_training(
    whole, orchard, recipe_file, tmp_path, monkeypatch, steps, capsys
) -> None:
    recipe = recipe_file()
    with monkeypatch.context() as patch:
        stop_after(steps, patch)
        assert main(words(recipe, orchard, tmp_path / 'parts')) == 0
    assert 'stopped and saved: the same command goes on' in capsys.readouterr().out
    assert not (tmp_path / 'parts' / 'history.csv').exists() or len(
        losses(tmp_path / 'parts')) < 2
    assert main(words(recipe, orchard, tmp_path / 'parts')) == 0
    assert losses(tmp_path / 'parts') == losses(whole.output)
    for name in ('last', 'best'):
        one, other = (weights(d / f'{name}.safetensors') for d in (
            whole.output, tmp_path / 'parts'))
        assert all(torch.equal(one[k], other[k]) for k in one)


def test_a_checkpoint_says_where_it_comes_from(whole) -> None:
    found = load_checkpoint(whole.output / 'last.safetensors')
    assert found.labels.names == ['grass', 'trunk', 'rest']
    assert (found.metadata.input_height, found.metadata.input_width) == (48, 64)
    training = found.metadata.training
    assert (training['data'], training['images'], training['epoch']) == ('orchard', 8, 2)
    assert training['recipe']['learning_rate'] == 0.003
    assert set(found.metadata.scores['val']['class_iou']) == {'grass', 'trunk'}
    assert str(whole.place) not in str(found.metadata)
    assert yaml.safe_load((whole.output / 'recipe.yaml').read_text()) == training['recipe']


def test_a_card_beside_the_checkpoint_says_it_to_people(whole) -> None:
    checkpoint = load_checkpoint(whole.output / 'best.safetensors')
    training = checkpoint.metadata.training
    assert checkpoint.name == 'apples/best.safetensors'
    assert training['lednet_ros'] == lednet_ros.__version__
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT.*\+00:00', training['date'])
    card = (whole.output / 'best.md').read_text()
    for said in ('# apples/best.safetensors', 'grass, trunk, rest', 'orchard, 8 images',
                 training['data_sha256'], 'temperature', '| trunk |', '| learning_rate | 0.003 |'):
        assert said in card


def test_the_hash_of_the_data_follows_what_is_in_it(orchard, recipe_file, tmp_path) -> None:
    from lednet_ros.datasets.checks import check_data
    from lednet_ros.datasets.layouts import open_data_set
    before = check_data(open_data_set(orchard, 'train')).sha256
    assert check_data(open_data_set(orchard, 'train')).sha256 == before
    label = orchard / 'labels' / 'train' / '0.png'
    values = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
    values[0, 0] = 1
    cv2.imwrite(str(label), values)
    assert check_data(open_data_set(orchard, 'train')).sha256 != before


def test_the_history_has_each_class_and_is_drawn(whole) -> None:
    with (whole.output / 'history.csv').open() as file:
        *_, row = csv.DictReader(file)
    scores = load_checkpoint(whole.output / 'last.safetensors').metadata.scores['val']
    for name in ('grass', 'trunk'):
        assert float(row[f'val_iou/{name}']) == pytest.approx(scores['class_iou'][name], abs=1e-5)
    if find_spec('matplotlib'):
        assert cv2.imread(str(whole.output / 'curves.png')).shape == (640, 850, 3)


def test_what_it_begins_with_is_epoch_0_and_the_best_is_never_worse(
    orchard, recipe_file, tmp_path, capsys
) -> None:
    # A network that sees grass everywhere, and nothing else in val: no epoch can be better.
    network = LEDNet(3)
    with torch.no_grad():
        network.apn.mid.bn.weight.zero_()
        network.apn.mid.bn.bias.zero_()
        network.apn.global_branch.bn.weight.zero_()
        network.apn.global_branch.bn.bias.copy_(torch.tensor([5.0, 0.0, 0.0]))
    start = tmp_path / 'start.safetensors'
    save_checkpoint(start, network, LabelSet.from_yaml(orchard / 'labels.yaml'), input_height=48,
                    input_width=64)
    for labels in (orchard / 'labels' / 'val').iterdir():
        assert cv2.imwrite(str(labels), np.zeros((48, 64), np.uint8))
    assert main(words(recipe_file(), orchard, tmp_path / 'worse', '--init', str(start), '--set',
                      'epochs=1')) == 0
    out, err = capsys.readouterr()
    assert f'--init: all of {start.name} is kept, with its layers for these 3 classes' in err
    assert 'which --init began with: no epoch was better' in out
    assert [row[1] for row in losses(tmp_path / 'worse')] == ['0', '1']
    before, best = weights(start), weights(tmp_path / 'worse' / 'best.safetensors')
    assert all(torch.equal(before[k], best[k]) for k in before)
    metadata = load_checkpoint(tmp_path / 'worse' / 'best.safetensors').metadata
    assert metadata.training['epoch'] == 0


def test_finite_weights_whose_scores_overflow_are_refused_before_the_first_epoch(
    orchard, recipe_file, tmp_path, capsys
) -> None:
    network = LEDNet(3)
    with torch.no_grad():
        network.apn.mid.conv.weight.fill_(3e38)
    bad = tmp_path / 'bad.safetensors'
    save_checkpoint(bad, network, LabelSet.from_yaml(orchard / 'labels.yaml'), input_height=48,
                    input_width=64)
    assert main(words(recipe_file(), orchard, tmp_path / 'out', '--init', str(bad))) == 1
    assert ('the scores overflowed before the first epoch: --init is a network that diverged'
            in capsys.readouterr().err)


def test_classes_of_the_same_name_are_kept_wherever_they_stand(orchard, tmp_path) -> None:
    from lednet_ros.model.checkpoint import default_checkpoint
    from lednet_ros.model.labels import LabelSet
    from lednet_ros.training.trained_network import new_network, what_is_kept
    init = load_checkpoint(default_checkpoint())
    labels = LabelSet.from_dict({'name': 'mine', 'classes': [
        {'name': 'moss', 'color': [0, 0, 1]}, {'name': 'Road', 'color': [0, 0, 2]},
        {'name': 'SKY', 'color': [0, 0, 3]}]})
    ours, theirs = new_network(labels, init, 1)[0].state_dict(), init.network.state_dict()
    for name in ('apn.mid.conv.weight', 'apn.mid.bn.running_mean', 'encoder.output_conv.bias'):
        assert torch.equal(ours[name][1], theirs[name][3])  # road
        assert torch.equal(ours[name][2], theirs[name][0])  # sky
    assert what_is_kept(labels, init) == (
        '--init: all of lednet-camvid.safetensors is kept but its class layers, and of these what '
        'is for Road, SKY; what is for moss is new, as camvid has no class of this name')


def test_crops_much_larger_than_the_images_are_warned_of(
    orchard, recipe_file, tmp_path, monkeypatch, capsys
) -> None:
    stop_after(1, monkeypatch)
    assert main(words(recipe_file(crops=[[0.0, 96, 128]]), orchard, tmp_path / 'out')) == 0
    assert 'warning: 75 % of a crop lies beside the image' in capsys.readouterr().err


def test_a_size_is_told_in_one_word(
    orchard, recipe_file, tmp_path, monkeypatch, capsys
) -> None:
    stop_after(1, monkeypatch)
    assert main(words(recipe_file(), orchard, tmp_path / 'out', '--set', 'epochs=1', '--size',
                      '96x64')) == 0
    written = yaml.safe_load((tmp_path / 'out' / 'recipe.yaml').read_text())
    assert (written['input_height'], written['input_width'], written['epochs']) == (64, 96, 1)
    assert written['crops'] == [[0.0, 40, 72], [0.5, 64, 96]]
    with pytest.raises(SystemExit):
        main(words(recipe_file(), orchard, tmp_path / 'other', '--size', '96'))
    assert "'96': give WIDTHxHEIGHT, such as 480x272" in capsys.readouterr().err


def test_a_listener_of_one_s_own_hears_steps_and_epochs(whole) -> None:
    assert whole.heard[0] == (2, 'out')
    assert len(whole.heard) == 1 + 4 + 2  # four steps, two epochs


@pytest.mark.parametrize(('name', 'said'), [
    ('my_tracker', 'give MODULE:FUNCTION'), ('nowhere:make', 'cannot be imported'),
    ('operator:is_', 'returned bool: return a')], ids=['no function', 'no module', 'no listener'])
def test_a_listener_that_cannot_be_had_is_named(name, said, tmp_path) -> None:
    with pytest.raises(ConfigError, match=said):
        load_listener(name, {}, tmp_path)


def test_at_the_end_both_checkpoints_are_calibrated_once(
    whole, orchard, recipe_file, tmp_path, capsys
) -> None:
    assert 'confidence: temperature ' in whole.said
    for name in ('last', 'best'):
        metadata = load_checkpoint(whole.output / f'{name}.safetensors').metadata
        assert metadata.temperature == pytest.approx(
            metadata.training['calibration']['temperature'], abs=1e-4)
        assert metadata.training['calibration']['split'] == 'val'
    assert main(words(recipe_file(), orchard, whole.copy(tmp_path / 'out'))) == 0
    assert 'confidence' not in capsys.readouterr().out


def test_it_learns(recipe_file, tmp_path, monkeypatch) -> None:
    """Twenty steps; the running statistics of batch normalisation lag behind, so no mIoU."""
    found = []
    original = train._Loop._step

    def step(self: train._Loop, *batch: torch.Tensor) -> float:
        found.append(original(self, *batch))
        return found[-1]

    monkeypatch.setattr(train._Loop, '_step', step)
    recipe = recipe_file(epochs=1, crops=[], scale=[1.0, 1.0], color=0.0, dropout=[0.0, 0.0],
                         ema=0.0, learning_rate=0.005)
    data = make_orchard(tmp_path / 'orchard', train=80)
    assert main(words(recipe, data, tmp_path / 'out')) == 0
    assert sum(found[-2:]) < 0.5 * sum(found[:2])


def test_two_stages_the_encoder_first(orchard, recipe_file, tmp_path, monkeypatch) -> None:
    recipe = recipe_file(encoder_epochs=1, auxiliary_loss=0.0, epochs=1)
    assert main(words(recipe, orchard, tmp_path / 'whole')) == 0
    assert [row[:2] for row in losses(tmp_path / 'whole')] == [('encoder', '1'), ('network', '1')]
    with monkeypatch.context() as patch:
        stop_after(2, patch)  # the encoder's last step
        assert main(words(recipe, orchard, tmp_path / 'parts')) == 0
    assert not (tmp_path / 'parts' / 'best.safetensors').exists()
    assert main(words(recipe, orchard, tmp_path / 'parts')) == 0
    assert losses(tmp_path / 'parts') == losses(tmp_path / 'whole')


@pytest.mark.parametrize('name', [pytest.param('cgnet', marks=pytest.mark.full), 'espnet'])
def test_another_network_is_trained_shipped_and_gone_on_with(
    orchard, recipe_file, tmp_path, name
) -> None:
    recipe = recipe_file(network=name, auxiliary_loss=0.0, epochs=1)
    assert main(words(recipe, orchard, tmp_path / 'out')) == 0
    best = tmp_path / 'out' / 'best.safetensors'
    assert name_of(load_checkpoint(best).network) == name
    assert main(words(recipe, orchard, tmp_path / 'more', '--init', str(best))) == 0


def test_a_training_begun_before_networks_had_names_goes_on_as_lednet(
    whole, orchard, recipe_file, tmp_path, capsys
) -> None:
    path = whole.copy(tmp_path / 'out') / 'state.pt'
    state = torch.load(path, weights_only=True)
    assert state['identity'].pop('network') == 'lednet'
    torch.save(state, path)
    assert main(words(recipe_file(), orchard, tmp_path / 'out')) == 0
    assert main(words(recipe_file(network='enet', auxiliary_loss=0.0), orchard,
                      tmp_path / 'out')) == 1
    assert 'was begun with another' in capsys.readouterr().err


@pytest.mark.parametrize(('knobs', 'more', 'said'), [
    ({'network': 'erf'}, [], "network is 'erf': did you mean 'erfnet'?"),
    ({'network': 'enet', 'auxiliary_loss': 0.4}, [], 'give auxiliary_loss=0'),
    ({'network': 'enet', 'auxiliary_loss': 0.0}, ['--init', 'camvid'],
     'lednet-camvid.safetensors holds LEDNet but the recipe trains ENet')])
def test_a_network_that_does_not_fit_the_recipe_is_one_line(
    orchard, recipe_file, tmp_path, capsys, knobs, more, said
) -> None:
    assert main(words(recipe_file(**knobs), orchard, tmp_path / 'out', *more)) == 1
    assert said in capsys.readouterr().err


def test_other_classes_keep_the_encoder(orchard, recipe_file, tmp_path, monkeypatch) -> None:
    from lednet_ros.model.checkpoint import default_checkpoint
    from lednet_ros.model.labels import LabelSet
    from lednet_ros.training.trained_network import new_network
    init = load_checkpoint(default_checkpoint())
    labels = LabelSet.from_yaml(orchard / 'labels.yaml')
    theirs = init.network.state_dict()
    ours = new_network(labels, init, seed=1)[0].state_dict()
    for name, value in ours.items():
        is_new = name.startswith(('encoder.output_conv.', 'apn.global_branch.', 'apn.mid.'))
        assert (name in theirs and value.shape == theirs[name].shape
                and torch.equal(value, theirs[name])) or is_new, name
    same = new_network(init.labels, init, seed=1)[0].state_dict()
    assert all(torch.equal(same[k], theirs[k]) for k in same)
    stop_after(1, monkeypatch)
    assert main(words(recipe_file(), orchard, tmp_path / 'out', '--init', 'camvid')) == 0
    record = load_checkpoint(tmp_path / 'out' / 'last.safetensors').metadata.training
    assert record['init'] == {'name': default_checkpoint().name, 'sha256': init.sha256}


def test_ctrl_c_saves_and_ends_well_and_epochs_reach_a_pipe(
    orchard, recipe_file, tmp_path
) -> None:
    """The real signal, to the whole group as a terminal sends it, workers included."""
    command = words(recipe_file(epochs=1000), orchard, tmp_path / 'out')
    process = subprocess.Popen([*TRAIN, *command], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        for epoch in (1, 2):
            assert process.stdout.readline().startswith(f'epoch {epoch}: ')
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert 'stopped and saved' in out
    assert 'Traceback' not in err
    assert (tmp_path / 'out' / 'state.pt').exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_step_and_a_second_at_once(
    orchard, recipe_file, tmp_path, monkeypatch, capsys, number
) -> None:
    came: list[int] = []
    before = signal.signal(number, lambda *_: came.append(1))
    try:
        before_each_step(monkeypatch, lambda _: [signal.raise_signal(number) for _ in '12'])
        assert main(words(recipe_file(epochs=1000), orchard, tmp_path / 'out')) == 0
        assert came == [1]  # the second, which is not the training's
        signal.raise_signal(number)
        assert came == [1, 1]
    finally:
        signal.signal(number, before)
    assert 'stopped and saved: the same command goes on' in capsys.readouterr().out
    assert (tmp_path / 'out' / 'state.pt').exists()


@pytest.mark.parametrize(('room', 'unwritten', 'cause', 'kept'), [
    (1_000_000, 'last.safetensors', '[Errno 27] File too large',
     ('state.pt', 'last.safetensors', 'best.safetensors')),
    (5_000_000, 'state.pt', 'File too large: make room, then the same command goes on',
     ('state.pt',)),
], ids=['for a checkpoint', 'for the state'])
def test_on_a_full_disk_the_last_good_state_stays(
    orchard, recipe_file, tmp_path, monkeypatch, capsys, room, unwritten, cause, kept
) -> None:
    """The limit on file sizes stands for the disk: a write fails just so."""
    output = tmp_path / 'out'
    command = words(recipe_file(), orchard, output)
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        assert main(command) == 0
    before = {p.name: p.read_bytes() for p in output.iterdir() if p.is_file()}
    with limited(resource.RLIMIT_FSIZE, room):
        assert main(command) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(
        f'lednet_train: {output / unwritten}: cannot be written: {cause}')
    for name in kept:
        assert (output / name).read_bytes() == before[name]
    assert not [p for p in output.iterdir() if 'partial' in p.name]
    assert main(command) == 0  # with room again it goes on
    assert len(losses(output)) == 2


@pytest.mark.parametrize('name', ['curves.png', 'tensorboard'])
def test_a_picture_that_cannot_be_written_is_one_line(
    orchard, recipe_file, tmp_path, monkeypatch, capsys, name
) -> None:
    pytest.importorskip({'curves.png': 'matplotlib', 'tensorboard': 'tensorboard'}[name])
    monkeypatch.setattr(run_dir, 'draw_history', curves.draw_history)
    output = tmp_path / 'out'
    command = words(recipe_file(), orchard, output, '--set', 'epochs=1')
    stop_at = output / name
    with pytest.MonkeyPatch.context() as patch:
        stop_after(1, patch)
        assert main(command) == 0
    if name == 'tensorboard':
        stop_at.write_text('')  # where a directory should be
    else:
        stop_at.mkdir()
    assert main(command) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f'lednet_train: {stop_at}: cannot be written: ')
    assert (output / 'last.safetensors').exists()


def test_what_it_will_see_is_drawn_before_it_begins(
    orchard, recipe_file, tmp_path, monkeypatch
) -> None:
    stop_after(1, monkeypatch)
    output = tmp_path / 'out'
    assert main(words(recipe_file(), orchard, output)) == 0
    sheet = cv2.imread(str(output / 'views.png'))
    assert sheet.shape[1] == 4 * 244 + 620  # four views in a row, and below each its labels
    assert sheet.shape[0] == 4 * (180 + 22)
    assert (sheet[:, 4 * 244:] == [0, 200, 0]).all(axis=2).sum() > 100, "a class's colour"
    assert (output / 'augmentation.png').exists()
    assert (output / 'data.png').exists()
    (output / 'state.pt').unlink()  # killed before there was one
    assert main(words(recipe_file(), orchard, output)) == 0


def test_another_training_is_not_overwritten(
    whole, orchard, recipe_file, tmp_path, capsys
) -> None:
    output = whole.copy(tmp_path / 'out')
    assert main(words(recipe_file(), orchard, output, '--set', 'seed=2')) == 1
    assert (f'was begun with another seed: go on with the same, or begin anew where this one '
            f'stands: --init {output}/best.safetensors and another --output'
            ) in capsys.readouterr().err
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'thesis.tex').write_text('')
    assert main(words(recipe_file(), orchard, tmp_path / 'other')) == 1
    assert 'holds thesis.tex but no state.pt' in capsys.readouterr().err
    labels = (orchard / 'labels.yaml').read_text()
    (orchard / 'labels.yaml').write_text(labels.replace('grass', 'moss'))
    assert main(words(recipe_file(), orchard, output)) == 1
    assert 'was begun with another labels' in capsys.readouterr().err
    (orchard / 'labels.yaml').write_text(labels)
    for split in ('train', 'val'):
        label = orchard / 'labels' / split / '0.png'
        before = label.read_bytes()
        cv2.imwrite(str(label), cv2.imread(str(label), cv2.IMREAD_UNCHANGED)[::-1])
        assert main(words(recipe_file(), orchard, output)) == 1
        assert 'was begun with another content of the data: ' in capsys.readouterr().err
        label.write_bytes(before)
    (output / 'state.pt').write_bytes(b'rubbish')
    assert main(words(recipe_file(), orchard, output)) == 1
    assert 'state.pt: damaged' in capsys.readouterr().err


@pytest.mark.parametrize('spoiled', ['train', 'val'])
def test_a_bad_pair_ends_it_before_the_first_step(
    orchard, recipe_file, tmp_path, capsys, spoiled
) -> None:
    (orchard / 'labels' / spoiled / '1.png').unlink()
    assert main(words(recipe_file(), orchard, tmp_path / 'out')) == 1
    assert f'{spoiled}/1.png: does not exist' in capsys.readouterr().err
    assert not (tmp_path / 'out' / 'state.pt').exists()


def test_colours_of_a_data_yaml_train_as_ids_do(whole, orchard, recipe_file, tmp_path) -> None:
    """Through the worker processes too."""
    colors = np.full((256, 3), 255, np.uint8)
    colors[:3] = [0, 200, 0], [90, 60, 0], [0, 0, 0]
    for path in orchard.glob('labels/*/*.png'):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        target = orchard / 'masks' / path.parent.name / f'{path.stem}_mask.png'
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), colors[ids][..., ::-1])
    (orchard / 'data.yaml').write_text("""
name: orchard
train: {images: images/train/*.png, labels: masks/train/*_mask.png}
val: {images: images/val/*.png, labels: masks/val/*_mask.png}
classes:
  - {name: grass, color: [0, 200, 0], category: flat}
  - {name: trunk, color: [90, 60, 0], category: object}
  - {name: rest, color: [0, 0, 0], category: void, void: true}
ignore: ['#ffffff']
""")
    assert main(words(recipe_file(), orchard, tmp_path / 'colors')) == 0
    ids, by_color = (weights(d / 'last.safetensors') for d in (
        whole.output, tmp_path / 'colors'))
    assert all((ids[key] == by_color[key]).all() for key in ids)


def test_the_check_alone_trains_nothing(orchard, capsys, monkeypatch) -> None:
    monkeypatch.chdir(orchard.parent)
    assert main(['--data', str(orchard), '--check-data']) == 0
    out = capsys.readouterr().out
    assert 'train: 8 pairs' in out
    assert 'val: 3 pairs' in out
    cv2.imwrite(str(orchard / 'labels' / 'val' / '2.png'), cv2.imread(
        str(orchard / 'labels' / 'val' / '2.png'), cv2.IMREAD_GRAYSCALE) + 9)
    assert main(['--data', str(orchard), '--check-data']) == 1
    assert 'val/2.png: holds ' in capsys.readouterr().err


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_split_without_labels_is_refused(orchard, recipe_file, tmp_path, capsys, split) -> None:
    for file in (orchard / 'labels' / split).iterdir():
        cv2.imwrite(str(file), np.full((48, 64), 255, np.uint8))
    assert main(words(recipe_file(), orchard, tmp_path / 'out')) == 1
    assert f'orchard {split}: no pixel has a class that counts: label some' in (
        capsys.readouterr().err)


def labels_go(loop: train._Loop) -> None:
    for pair in loop._job.train.data.pairs:
        pair.label.unlink(missing_ok=True)


def memory_runs_out(_: train._Loop) -> None:
    torch.empty(2 ** 48)


def workers_are_killed(_: train._Loop) -> None:
    for worker in multiprocessing.active_children():
        worker.kill()


@pytest.mark.parametrize(('happens', 'line'), [
    (labels_go, r'lednet_train: \S+/labels/train/\d.png: '),
    (memory_runs_out, "lednet_train: the computer's memory does not hold a batch of 4 "),
    (workers_are_killed, r'lednet_train: \S+/images/train/\d.png and 3 more: the worker that read '
     'them was ended by SIGKILL, as Linux does where memory runs out: lower workers'),
])
def test_what_goes_wrong_in_the_middle_is_one_line_and_the_end(
    orchard, recipe_file, tmp_path, monkeypatch, capsys, happens, line
) -> None:
    """Of the workers too, which Python would wait for."""
    before_each_step(monkeypatch, happens)
    assert main(words(recipe_file(workers=2, epochs=20), orchard, tmp_path / 'out')) == 1
    said = capsys.readouterr().err
    assert 'Traceback' not in said
    assert re.match(line, said.splitlines()[-1])
    assert not multiprocessing.active_children()


def test_averaged_weights_do_not_keep_the_first_ones_for_long() -> None:
    """Fifty steps of 0.997 would leave 86 % of them."""
    from torch.optim.swa_utils import AveragedModel

    from lednet_ros.training.train import _averaging
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(layer.weight)
    average = AveragedModel(layer, multi_avg_fn=_averaging(0.997))
    average.update_parameters(layer)
    torch.nn.init.ones_(layer.weight)
    for _ in range(50):
        average.update_parameters(layer)
    assert average.module.weight.item() > 0.99
    for _ in range(10_000):
        average.update_parameters(layer)
    torch.nn.init.zeros_(layer.weight)
    average.update_parameters(layer)
    assert average.module.weight.item() == pytest.approx(0.997)


def test_images_of_many_sizes_need_a_crop(orchard, recipe_file, tmp_path, capsys) -> None:
    for kind in ('images', 'labels'):
        path = str(orchard / kind / 'train' / '0.png')
        cv2.imwrite(path, cv2.imread(path, cv2.IMREAD_UNCHANGED)[:32])
    assert main(words(recipe_file(crops=[]), orchard, tmp_path / 'out')) == 1
    assert 'differ in size: give crops' in capsys.readouterr().err
    assert main(words(recipe_file(epochs=1), orchard, tmp_path / 'out2')) == 0


def test_a_loss_that_explodes_is_named(orchard, recipe_file, tmp_path, capsys) -> None:
    command = words(recipe_file(learning_rate=1e30, epochs=3), orchard, tmp_path / 'out')
    assert main(command) == 1
    assert 'lower learning_rate' in capsys.readouterr().err


@pytest.mark.parametrize('ema', [0.0, 0.5], ids=['', 'averaged'])
def test_an_update_that_overflows_at_an_epochs_end_is_not_written(
    orchard, recipe_file, tmp_path, capsys, monkeypatch, ema
) -> None:
    """Its loss was finite; only the raw weights, or only the averaged ones, are not."""
    output = tmp_path / 'out'
    command = words(recipe_file(ema=ema), orchard, output)
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        assert main(command) == 0
    before = {p.name: p.read_bytes() for p in output.iterdir() if p.is_file()}
    original = train._Loop._step

    def overflow(self, frames, labels):
        loss = original(self, frames, labels)
        if self._position.step == 3:  # the last
            network = self._average.module if self._average else self._network
            next(network.parameters()).data[0] = torch.inf
        return loss

    monkeypatch.setattr(train._Loop, '_step', overflow)
    assert main(command) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        'lednet_train: the weights overflowed in epoch 2: lower learning_rate; the best '
        'checkpoint is kept')
    assert {p.name: p.read_bytes() for p in output.iterdir() if p.is_file()} == before


def test_curves_for_tensorboard(whole) -> None:
    pytest.importorskip('tensorboard', reason='needs tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(whole.output / 'tensorboard'))
    events.Reload()
    drawn = [event.value for event in events.Scalars('network/loss')]
    assert drawn == pytest.approx([row[2] for row in losses(whole.output)])


def test_names_need_not_be_utf_8(orchard, recipe_file, tmp_path) -> None:
    """Those of images, which pictures are captioned with, and of the output."""
    for kind in ('images', 'labels'):
        file = orchard / kind / 'train' / '0.png'
        file.rename(file.with_name(os.fsdecode(b'caf\xe9.png')))
    output = tmp_path / os.fsdecode(b'out-\xe9')
    command = words(recipe_file(), orchard, output)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(3, patch)
        assert main(command) == 0
    assert main(command) == 0
    assert len(losses(output)) == 2
    assert (output / 'best.safetensors').exists()
    if find_spec('tensorboard'):
        assert list((output / 'tensorboard').glob('events.*'))


@pytest.mark.gpu
def test_it_trains_on_a_gpu(orchard, recipe_file, tmp_path) -> None:
    """Mixed precision and channels last."""
    if not torch.cuda.is_available():
        pytest.skip('needs a CUDA GPU')
    recipe = recipe_file(precision='auto', epochs=4)
    assert main([*words(recipe, orchard, tmp_path / 'out'), '--device', 'cuda:0']) == 0
    assert len(losses(tmp_path / 'out')) == 4
    assert load_checkpoint(tmp_path / 'out' / 'last.safetensors').metadata.training[
        'device'] == 'cuda'


TRAIN_AND_LOOK = """
import gc, sys, time
from pathlib import Path
from lednet_ros.cli.train import main
gc.disable()  # it comes when it likes
code = main(sys.argv[1:])
def threads():
    return [name for file in Path('/proc/self/task').glob('*/comm')
            if 'gloo' in (name := file.read_text())]
until_s = time.monotonic() + 60
while threads() and time.monotonic() < until_s:  # a joined one may still be listed
    time.sleep(0.01)
assert not threads(), threads()  # they abort whoever ends last
sys.exit(code)
"""


@pytest.mark.parametrize(('batch', 'epochs', 'first'), [
    pytest.param(8, 3, 1e-4, id=''),
    pytest.param(2, 1, 1e-3, id='an image each', marks=pytest.mark.full)])
def test_two_processes_learn_what_one_does(
    tmp_path, recipe_file, batch, epochs, first
) -> None:
    """The same recipe under torchrun, gloo on the CPU, batch normalisation over both.

    The first loss is equal to float32's noise, but for batch normalisation of two values.
    Gradients of so few pixels hold some percent of float32's noise (as float64 shows), which
    Adam's first steps enlarge: later losses are close.
    """
    data = make_orchard(tmp_path / 'orchard', train=batch)
    # Without dropout, of which each process draws its own.
    recipe = recipe_file(batch=batch, epochs=epochs, iou_loss=1.0, dropout=[0.0, 0.0], ema=0.0,
                         workers=0, learning_rate=1e-3)
    assert main(words(recipe, data, tmp_path / 'one')) == 0
    script = tmp_path / 'train_and_look.py'
    script.write_text(TRAIN_AND_LOOK)
    result = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
         '--log-dir', str(tmp_path / 'torchrun'),
         str(script), *words(recipe, data, tmp_path / 'two')],
        capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    one, two = losses(tmp_path / 'one'), losses(tmp_path / 'two')
    assert [row[:2] for row in one] == [row[:2] for row in two]
    assert two[0][2] == pytest.approx(one[0][2], rel=first)
    assert [row[2] for row in two] == pytest.approx([row[2] for row in one], rel=0.02)
    record = load_checkpoint(tmp_path / 'two' / 'last.safetensors').metadata
    assert record.training['processes'] == 2


FAILING = """
import os, sys, time
from lednet_ros.common.errors import DataError
from lednet_ros.training import train
from lednet_ros.training import distributed as processes
from lednet_ros.cli import train as train_command
processes.dist.destroy_process_group = lambda: time.sleep(1000)  # NCCL's waits for the other
step = train._Loop._step
def fail(self, frames, labels):
    if os.environ['RANK'] == '1':
        raise DataError('1.png: is gone')
    return step(self, frames, labels)
train._Loop._step = fail
sys.exit(train_command.main(sys.argv[1:]))
"""


def test_an_error_in_one_process_is_said_by_it_and_ends_all(
    orchard, recipe_file, tmp_path
) -> None:
    """Without torchrun, which would end the first before it can show that it ends by itself."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    group = {'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
    command = words(recipe_file(workers=0), orchard, tmp_path / 'out')
    both = [subprocess.Popen(
        [sys.executable, '-c', FAILING, *command], stderr=subprocess.PIPE, text=True,
        env={**os.environ, **group, 'RANK': rank}) for rank in '01']
    try:
        said = [process.communicate()[1] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [1, 1], said
    assert 'Traceback' not in ''.join(said)
    assert said[1].splitlines()[-1] == 'lednet_train: 1.png: is gone'
    assert said[0].splitlines()[-1].startswith('lednet_train: another process ended')


@pytest.mark.parametrize('rank', [0, 1])
def test_an_error_that_is_shared_is_said_by_the_first(monkeypatch, capsys, rank) -> None:
    from lednet_ros.training import distributed as processes

    def receive(values: list) -> None:
        values[0] = DataError('1.png: is gone')

    monkeypatch.setattr(processes.dist, 'broadcast_object_list', receive)
    with pytest.raises(DataError) as error:
        Processes(rank, 2).share(lambda: None)
    assert _say(error.value) == 1
    assert capsys.readouterr().err == ('' if rank else 'lednet_train: 1.png: is gone\n')


def test_the_others_wait_while_the_first_reads_a_large_data_set(monkeypatch) -> None:
    from lednet_ros.training import distributed as processes
    asked = {}
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setattr(processes.dist, 'init_process_group', lambda _, **how: asked.update(how))
    monkeypatch.setattr(processes.dist, 'get_rank', lambda: 1)
    assert processes.join_processes(torch.device('cpu')) == Processes(1, 2)
    assert asked['timeout'].total_seconds() == 7200


def test_one_process_alone_keeps_to_its_gpu_too(monkeypatch) -> None:
    """Pinned memory, and asking for bfloat16, are the current GPU's; the first, unless told."""
    from lednet_ros.training import distributed as processes
    chosen = []
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    monkeypatch.setattr(torch.cuda, 'set_device', chosen.append)
    assert processes.join_processes(torch.device('cuda:1')) == Processes()
    assert chosen == [torch.device('cuda:1')]


@pytest.mark.parametrize('device', ['gpu', '0', 'mps', 'cuda:01', 'cuda:999'])
def test_a_device_that_is_none_is_one_line(
    orchard, recipe_file, tmp_path, capsys, device
) -> None:
    command = words(recipe_file(), orchard, tmp_path / 'out')
    assert main([*command, '--device', device]) == 1
    assert capsys.readouterr().err == (
        f'lednet_train: device is {device!r}: choose auto, cpu or cuda:N\n')


def test_each_process_of_torchruns_has_its_own_gpu(monkeypatch) -> None:
    assert _own_device('cuda') == 'cuda'
    monkeypatch.setenv('LOCAL_RANK', '3')
    assert _own_device('cuda') == 'cuda:3'
    assert _own_device('cpu') == 'cpu'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert _own_device('auto') == 'cuda:3'
    with pytest.raises(ConfigError, match="device is 'cuda:0', but under torchrun"):
        _own_device('cuda:0')


BATCH_NORM = """
import torch, torch.distributed as dist
from torch import nn
from lednet_ros.training.losses import PixelLoss
from lednet_ros.training.distributed import (
    join_processes, leave_processes, synchronise_batch_norm)
me = join_processes(torch.device('cpu'))
torch.manual_seed(0)
images, wanted = 2 * torch.randn(4, 3, 5, 5) + 1, torch.randn(4, 3, 5, 5)
whole = nn.Sequential(nn.BatchNorm2d(3))
parts = nn.Sequential(nn.BatchNorm2d(3))
synchronise_batch_norm(parts, torch.device('cpu'))
x, mine = images.clone().requires_grad_(), images[me.rank::2].clone().requires_grad_()
(((whole(x) - wanted) ** 2 * whole(x).sigmoid()).mean()).backward()
(((parts(mine) - wanted[me.rank::2]) ** 2 * parts(mine).sigmoid()).mean()).backward()
assert torch.allclose(mine.grad / 2, x.grad[me.rank::2], atol=1e-7), 'gradients of the input'
weight = me.sum(parts[0].weight.grad) / 2
assert torch.allclose(weight, whole[0].weight.grad, atol=1e-6), 'gradients of the weight'
for knobs in ({}, {'iou': 2.0}, {'weights': torch.tensor([1.0, 3.0, 2.0])}, {'hardest': 0.3}):
    scores, labels = torch.randn(4, 3, 5, 5), torch.randint(0, 3, (4, 9, 9))
    labels[0] = 255  # one process has more to count than the other
    x, mine = scores.clone().requires_grad_(), scores[me.rank::2].clone().requires_grad_()
    loss = PixelLoss(**knobs).full_size(x, labels)
    loss.backward()
    part = PixelLoss(**knobs, processes=me).full_size(mine, labels[me.rank::2])
    part.backward()
    assert torch.allclose(me.sum(part.detach()) / 2, loss), 'loss'
    assert torch.allclose(mine.grad / 2, x.grad[me.rank::2], atol=1e-7), 'gradients of the loss'
for a, b in zip(parts.buffers(), whole.buffers()):
    assert torch.allclose(a, b, atol=1e-6), 'running statistics'
me.sum(torch.zeros(1))  # all are here
leave_processes()
print('equal')
"""


def test_batch_norm_over_two_processes_is_that_of_the_whole_batch(tmp_path) -> None:
    script = tmp_path / 'batch_norm.py'
    script.write_text(BATCH_NORM)
    result = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
         '--log-dir', str(tmp_path / 'torchrun'),
         str(script)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('equal') == 2
