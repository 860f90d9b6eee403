# SPDX-License-Identifier: Apache-2.0
"""tools/average_checkpoints.py, which made the shipped checkpoint."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from orchard import make_orchard

from lednet_ros.cli.evaluate import main as evaluate
from lednet_ros.datasets.layouts import open_data_set
from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint, save_checkpoint
from lednet_ros.model.lednet import LEDNet

TOOL = Path(__file__).parents[2] / 'tools' / 'average_checkpoints.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('average_checkpoints', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_mean_of_two_is_scored_and_calibrated_and_names_them(tool, tmp_path, capsys) -> None:
    data = make_orchard(tmp_path / 'orchard', train=1)
    labels = open_data_set(data, 'val').labels
    for seed, name in enumerate('ab'):
        torch.manual_seed(seed)
        save_checkpoint(tmp_path / f'{name}.safetensors', LEDNet(len(labels)), labels,
                        input_height=48, input_width=96, training={'run': name}, temperature=2.0)
    paths = [str(tmp_path / f'{name}.safetensors') for name in 'ab']
    assert tool.main([str(data), str(tmp_path / 'mean.safetensors'), *paths]) == 0
    one, other, mean = (load_checkpoint(path) for path in (
        *paths, tmp_path / 'mean.safetensors'))
    for (name, found), a, b in zip(
            mean.network.state_dict().items(), one.network.state_dict().values(),
            other.network.state_dict().values(), strict=True):
        assert torch.allclose(found.double(), (a.double() + b.double()) / 2), name
    record = mean.metadata.training
    assert record['run'] == 'b'
    assert record['averaged'] == [one.sha256, other.sha256]
    assert record['calibration']['temperature'] == pytest.approx(mean.metadata.temperature, 1e-4)
    assert f'val mIoU {mean.metadata.scores["val"]["miou"]:.4f}; temperature' in (
        capsys.readouterr().out)


def test_a_mean_that_has_learnt_from_val_takes_the_calibration_of_one_that_has_not(
    tool, tmp_path, capsys
) -> None:
    data = make_orchard(tmp_path / 'orchard', train=1)
    labels = open_data_set(data, 'val').labels
    for seed, name in enumerate('ab'):
        torch.manual_seed(seed)
        save_checkpoint(tmp_path / f'{name}.safetensors', LEDNet(len(labels)), labels,
                        input_height=48, input_width=96)
    unseen, other, mean = (tmp_path / f'{name}.safetensors' for name in ('a', 'b', 'mean'))
    words = [str(data), str(mean), str(unseen), str(other)]
    assert tool.main([*words, '--calibration-of', str(unseen)]) == 1
    assert 'a.safetensors: is not calibrated: ' in capsys.readouterr().err
    assert not mean.exists()
    assert evaluate(['--data', str(data), '--checkpoint', str(unseen), '--calibrate',
                     str(tmp_path / 'c.safetensors')]) == 0
    calibrated = load_checkpoint(tmp_path / 'c.safetensors')
    assert tool.main([*words, '--calibration-of', str(tmp_path / 'c.safetensors')]) == 0
    found = load_checkpoint(mean).metadata
    assert found.temperature == calibrated.metadata.temperature
    assert found.score_floors == calibrated.metadata.score_floors
    assert found.training['calibration']['of'] == calibrated.sha256
    assert list(found.scores) == ['val, learnt from']


def test_others_than_of_one_network_and_classes_are_refused(tool, tmp_path, capsys) -> None:
    data = make_orchard(tmp_path / 'orchard', train=1)
    labels = open_data_set(data, 'val').labels
    save_checkpoint(tmp_path / 'a.safetensors', LEDNet(len(labels)), labels,
                    input_height=48, input_width=96)
    assert tool.main([str(data), str(tmp_path / 'mean.safetensors'), str(default_checkpoint()),
                      str(tmp_path / 'a.safetensors')]) == 1
    assert capsys.readouterr().err.startswith(
        'average_checkpoints: lednet-camvid.safetensors and a.safetensors: are of different ')
    assert not (tmp_path / 'mean.safetensors').exists()
