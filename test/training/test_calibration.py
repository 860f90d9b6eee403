# SPDX-License-Identifier: Apache-2.0
"""The temperature that makes confidence true."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from orchard import make_orchard

from lednet_ros.cli.evaluate import main as evaluate
from lednet_ros.datasets.layouts import open_data_set
from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint, save_checkpoint
from lednet_ros.model.labels import LabelSet
from lednet_ros.model.lednet import LEDNet
from lednet_ros.model.score_floors import SHARES, ScoreFloors
from lednet_ros.training.calibration import (
    Calibration,
    Samples,
    calibrate,
    fit_temperature,
    judge,
    sample,
    sample_error,
)

CPU = torch.device('cpu')
CAMVID = Path(os.environ.get('LEDNET_SHARED')
              or Path(__file__).parents[3] / 'shared') / 'data' / 'camvid'


def drawn(temperature: float, pixels: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and classes drawn by the probabilities that these have at a temperature."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 4, (pixels, 5)).astype(np.float32)
    truth = (scores / temperature + rng.gumbel(size=scores.shape)).argmax(1).astype(np.uint8)
    return scores, truth


@pytest.mark.parametrize('temperature', [0.6, 1.0, 2.5])
def test_the_temperature_that_classes_were_drawn_by_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.05)


def test_the_error_is_small_at_that_temperature_only() -> None:
    scores, truth = drawn(2.5)
    assert sample_error(scores, truth, 2.5) < 0.01
    assert sample_error(scores, truth, 1.0) > 0.1


def test_a_network_that_is_always_right_gets_a_temperature_that_is_a_number() -> None:
    scores, _ = drawn(1.0)
    assert fit_temperature(scores, scores.argmax(1).astype(np.uint8)) == pytest.approx(0.1)


@pytest.mark.parametrize(('temperature', 'said'), [
    (10.0, 'hardly ever right'), (0.1, 'always right'), (9.0, ''), (0.2, '')])
def test_a_temperature_at_its_limit_says_what_that_means(temperature: float, said: str) -> None:
    floors = ScoreFloors(SHARES, ())
    line = str(Calibration(temperature, 0.1, 0.05, 'x', 'val', 2, 10, [], floors))
    assert ('allowed' in line) == bool(said)
    assert said in line


def test_the_error_after_is_of_images_that_the_fit_did_not_see() -> None:
    """One half is right as often as it says, the other never: fitted on itself it would do."""
    scores, truth = drawn(1.0)
    image = np.repeat(np.arange(4), len(truth) // 4).astype(np.int32)
    truth[image >= 2] = scores[image >= 2].argmin(1)
    _, after = judge(Samples(scores, truth, image))
    assert after > 0.2


def test_a_single_image_has_no_other_half() -> None:
    scores, truth = drawn(1.0, 100)
    assert np.isnan(judge(Samples(scores, truth, np.zeros(100, np.int32)))[1])


@pytest.fixture
def untrained(tmp_path: Path) -> tuple[Path, Path]:
    """Labelled images, and a checkpoint of their classes."""
    data = make_orchard(tmp_path / 'orchard')
    path = tmp_path / 'net.safetensors'
    torch.manual_seed(0)
    save_checkpoint(path, LEDNet(3), LabelSet.from_yaml(data / 'labels.yaml'), input_height=48,
                    input_width=96, training={'epoch': 3})
    return data, path


def test_scores_are_those_of_the_pixels_beside_their_classes(untrained) -> None:
    data, path = untrained
    val = open_data_set(data, 'val')
    samples = sample(load_checkpoint(path), val, CPU)
    truth = [val.read(i)[1] for i in range(3)]
    for i in range(3):  # all known pixels are taken, each once
        found = samples.truth[samples.image == i]
        assert np.bincount(found, minlength=3).tolist() == [
            int((truth[i] == c).sum()) for c in range(3)]
    assert samples.scores.shape == (len(samples.truth), 3)


def test_the_command_writes_a_checkpoint_with_it_and_changes_nothing_else(
    untrained, tmp_path, capsys
) -> None:
    data, path = untrained
    out, facts = tmp_path / 'calibrated.safetensors', tmp_path / 'facts.json'
    assert evaluate(['--data', str(data), '--checkpoint', str(path), '--device', 'cpu',
                     '--calibrate', str(out), '--json', str(facts)]) == 0
    before, after = load_checkpoint(path), load_checkpoint(out)
    record = json.loads(facts.read_text())
    assert before.metadata.temperature == 1
    assert after.metadata.temperature == pytest.approx(record['temperature'], abs=1e-4)
    assert after.metadata.temperature != 1
    assert after.sha256 == before.sha256
    assert after.metadata.training == {'epoch': 3, 'calibration': record}
    assert (record['data'], record['split'], record['images']) == ('orchard', 'val', 3)
    assert capsys.readouterr().out.startswith(f'{out}: temperature ')


def test_scores_that_are_not_finite_are_refused_by_the_name_of_the_image(
    untrained, tmp_path, capsys
) -> None:
    data, path = untrained
    checkpoint = load_checkpoint(path)
    with torch.no_grad():  # finite weights, as of a training that diverged in its last step
        checkpoint.network.apn.mid.conv.weight.fill_(3e38)
    bad = tmp_path / 'bad.safetensors'
    save_checkpoint(bad, checkpoint.network, checkpoint.labels, input_height=48, input_width=96)
    assert evaluate(['--data', str(data), '--checkpoint', str(bad), '--device', 'cpu',
                     '--calibrate', str(tmp_path / 'out.safetensors')]) == 1
    err = capsys.readouterr().err
    assert str(data / 'images' / 'val') in err
    assert 'the scores of bad.safetensors are not finite' in err
    assert not (tmp_path / 'out.safetensors').exists()


def test_other_classes_are_refused(untrained, tmp_path, capsys) -> None:
    data, _ = untrained
    assert evaluate(['--data', str(data), '--device', 'cpu', '--calibrate',
                     str(tmp_path / 'out.safetensors')]) == 1
    assert 'knows 11 classes (camvid) but the data has 3' in capsys.readouterr().err


@pytest.mark.skipif(not CAMVID.is_dir(), reason='needs CamVid in ../shared/data')
def test_the_shipped_temperature_halves_the_calibration_error_at_least() -> None:
    checkpoint, data = load_checkpoint(default_checkpoint()), open_data_set(CAMVID, 'val')
    samples = sample(checkpoint, replace(data, pairs=data.pairs[::12]), CPU)
    before, after = (sample_error(samples.scores, samples.truth, temperature)
                     for temperature in (1.0, checkpoint.metadata.temperature))
    assert after <= before / 2


@pytest.mark.full
@pytest.mark.skipif(not CAMVID.is_dir(), reason='needs CamVid in ../shared/data')
def test_the_shipped_temperature_is_of_weights_that_had_not_learnt_from_val() -> None:
    """Fitted to val, which the shipped weights have learnt from, it would be smaller: too sure."""
    checkpoint = load_checkpoint(default_checkpoint())
    kept = checkpoint.metadata.training['calibration']
    assert kept['of'] in checkpoint.metadata.training['averaged']
    assert checkpoint.metadata.temperature == pytest.approx(kept['temperature'], rel=1e-4)
    found = calibrate(checkpoint, open_data_set(CAMVID, 'val'), CPU)
    assert 1 < found.temperature < checkpoint.metadata.temperature
    assert found.ece_after <= found.ece_before / 2
