# SPDX-License-Identifier: Apache-2.0
"""lednet_evaluate as a user calls it."""

from __future__ import annotations

import json

import cv2
import pytest

from lednet_ros.training.evaluate import table
from lednet_ros.training.evaluate_command import main
from lednet_ros.training.metrics import Scores


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A data set and a checkpoint that has begun to know it."""
    import yaml
    from orchard import RECIPE, make_orchard

    from lednet_ros.training.train_command import main as train
    place = tmp_path_factory.mktemp('trained')
    data = make_orchard(place / 'orchard')
    (place / 'recipe.yaml').write_text(yaml.safe_dump(
        {**yaml.safe_load(RECIPE), 'epochs': 6, 'crops': [], 'scale': [1.0, 1.0],
         'input_width': 96}))
    assert train(['--recipe', str(place / 'recipe.yaml'), '--data', str(data), '--output',
                  str(place / 'out'), '--device', 'cpu']) == 0
    return data, place / 'out' / 'best.safetensors'


def run(trained, *more) -> int:
    data, checkpoint = trained
    return main(['--data', str(data), '--checkpoint', str(checkpoint), '--device', 'cpu', *more])


def test_it_scores_what_training_scored(trained, tmp_path, capsys) -> None:
    from lednet_ros.checkpoint import load_checkpoint
    assert run(trained, '--json', str(tmp_path / 'scores.json'), '--backend', 'torch') == 0
    record = json.loads((tmp_path / 'scores.json').read_text())
    val = load_checkpoint(trained[1]).metadata.scores['val']
    assert record['scores']['miou'] == pytest.approx(val['miou'], abs=1e-3)
    assert (record['split'], record['images'], record['classes'][:2]) == (
        'val', 3, ['grass', 'trunk'])
    assert len(record['frames']) == 3
    out = capsys.readouterr().out
    assert '  Gra  Tru  Cla  Cat' in out
    assert 'by torch cpu fp32' in out


def test_scores_that_cannot_be_written_are_one_line(trained, tmp_path, capsys) -> None:
    assert run(trained, '--json', str(tmp_path / 'no' / 'scores.json')) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f'lednet_evaluate: {tmp_path}/no/scores.json: cannot be written: No such file or '
        'directory: choose another file')


def test_backends_can_be_compared(trained, tmp_path) -> None:
    pytest.importorskip('onnxruntime', reason='needs onnxruntime')
    scores = []
    for backend in ('torch', 'onnxruntime'):
        file = tmp_path / f'{backend}.json'
        assert run(trained, '--json', str(file), '--backend', backend) == 0
        record = json.loads(file.read_text())
        assert record['backend'].startswith(backend)
        scores.append(record['scores']['miou'])
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_it_draws_the_confusion_and_the_extremes(trained, tmp_path) -> None:
    assert run(trained, '--output', str(tmp_path / 'out'), '--pictures', '2') == 0
    names = sorted(p.name for p in (tmp_path / 'out').iterdir())
    assert names == ['best_1.png', 'best_2.png', 'confusion.png', 'worst_1.png', 'worst_2.png']
    for name in names:
        assert cv2.imread(str(tmp_path / 'out' / name)) is not None


def test_another_label_set_is_refused(trained, capsys) -> None:
    data, _ = trained
    assert main(['--data', str(data), '--device', 'cpu']) == 1
    assert ('lednet-camvid.safetensors knows 11 classes (camvid) but the data has 3 (orchard): '
            'choose a checkpoint trained on orchard') in capsys.readouterr().err


def test_the_table_is_the_papers() -> None:
    scores = Scores({'road': 0.971, 'traffic light': 0.604, 'traffic sign': 0.711,
                     'bus': float('nan')}, {'flat': 0.9}, 0.9, 10)
    assert list(table(scores))[:2] == ['  Roa  TLi  TSi  Bus  Cla  Cat',
                                       ' 97.1 60.4 71.1    - 76.2 90.0']
