# SPDX-License-Identifier: Apache-2.0
"""lednet_evaluate as a user calls it."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from lednet_ros.cli.evaluate import main
from lednet_ros.model.checkpoint import default_checkpoint
from lednet_ros.model.labels import LabelSet
from lednet_ros.training import evaluate
from lednet_ros.training.evaluate import Evaluation, left_out, table
from lednet_ros.training.metrics import Confusion, Scores


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A data set and a checkpoint that knows it well enough on any machine."""
    import yaml
    from orchard import RECIPE, make_orchard

    from lednet_ros.cli.train import main as train
    place = tmp_path_factory.mktemp('trained')
    data = make_orchard(place / 'orchard', train=40)  # few epochs: to end one takes longest
    (place / 'recipe.yaml').write_text(yaml.safe_dump(
        {**yaml.safe_load(RECIPE), 'epochs': 4, 'crops': [], 'scale': [1.0, 1.0],
         'input_width': 96}))
    assert train(['--recipe', str(place / 'recipe.yaml'), '--data', str(data), '--output',
                  str(place / 'out'), '--device', 'cpu']) == 0
    return data, place / 'out' / 'best.safetensors'


def run(trained, *more) -> int:
    data, checkpoint = trained
    return main(['--data', str(data), '--checkpoint', str(checkpoint), '--device', 'cpu', *more])


def test_it_scores_what_training_scored(trained, tmp_path, capsys) -> None:
    from lednet_ros.model.checkpoint import load_checkpoint
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


@pytest.fixture(scope='module')
def untrained(trained, tmp_path_factory):
    """A checkpoint of another network for the same classes."""
    from lednet_ros.model.checkpoint import load_checkpoint, save_checkpoint
    from lednet_ros.model.networks import make_network
    path = tmp_path_factory.mktemp('untrained') / 'peer.safetensors'
    labels = load_checkpoint(trained[1]).labels
    save_checkpoint(path, make_network('cgnet', len(labels)), labels,
                    input_height=48, input_width=96)
    return path


def test_table_3_lays_checkpoints_of_any_networks_beside_each_other(
    trained, untrained, tmp_path, capsys
) -> None:
    data, checkpoint = trained
    facts = tmp_path / 'table.json'
    common = ['--data', str(data), '--device', 'cpu', '--backend', 'torch']
    assert main([*common, '--table', '3', '--checkpoints', str(checkpoint), str(untrained),
                 '--json', str(facts), '--output', str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ['Gra', 'Tru', 'Cla', 'Cat']
    assert lines[3].startswith('LEDNet (best) ')
    assert lines[4].startswith('CGNet (peer)  ')
    assert not any('paper' in line for line in lines)
    rows = json.loads(facts.read_text())['rows']
    assert run(trained, '--json', str(facts), '--backend', 'torch') == 0
    assert rows[0]['scores'] == json.loads(facts.read_text())['scores']
    assert rows[1]['parameters'] < rows[0]['parameters']
    assert min(row['ms'] for row in rows) > 0
    assert (tmp_path / 'table3.png').stat().st_size > 1000


def test_table_3_of_cityscapes_has_the_papers_rows_below() -> None:
    from lednet_ros.model.labels import builtin_label_set
    from lednet_ros.training.table3 import PAPER, Row, Table3
    labels = builtin_label_set('cityscapes')
    counts = Confusion(len(labels))
    counts.add(np.arange(19), np.arange(19))
    row = Row('mine', 'LEDNet', 925_663, counts.scores(labels), 10.0, 'torch cpu fp32')
    lines = list(Table3('cityscapes', 'val', 1, True, (row,)).lines())
    assert lines[0].split()[:3] == ['Roa', 'Sid', 'Bui']
    assert lines[1].split()[-2:] == ['100.0', '100.0']
    found = {line.partition(' (paper')[0]: line.split()[-2:] for line in lines[2:2 + len(PAPER)]}
    assert found['SegNet'] == ['57.0', '79.1']
    assert found['LEDNet, coarse too'] == ['70.6', '87.1']
    # A slip in copying would show in the mean. The paper's own means are up to 0.6 above those of
    # its figures.
    for cells in PAPER.values():
        *classes, mean, _ = map(float, cells.split())
        assert np.mean(classes) == pytest.approx(mean, abs=0.6)


def test_table_3_goes_with_checkpoints_and_they_with_it(trained, capsys) -> None:
    assert run(trained, '--table', '3') == 1
    assert run(trained, '--checkpoints', 'a.safetensors') == 1
    assert 'go together' in capsys.readouterr().err


@pytest.mark.parametrize(('alone', 'more', 'said'), [
    (('--calibrate', 'C'), ('--output', 'O', '--flicker', 'F'),
     '--calibrate leaves out --flicker, --output: call it by itself'),
    (('--table', '3', '--checkpoints', 'C'), ('--against', 'A', '--robustness'),
     '--table leaves out --against, --robustness: call it by itself')])
def test_what_would_be_left_out_is_refused(trained, tmp_path, monkeypatch, capsys, alone, more,
                                           said) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(trained, *alone, *more) == 1
    assert said in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_what_min_confidence_does_to_the_ground_is_told(trained, tmp_path, capsys) -> None:
    file = tmp_path / 'ground.yaml'
    file.write_text(f'labels: {trained[0]}/labels.yaml\n'
                    'classes: {grass: obstacle, trunk: free, rest: unknown}\n')
    facts = tmp_path / 'scores.json'
    assert run(trained, '--traversability', str(file), '--json', str(facts),
               '--output', str(tmp_path / 'out'), '--pictures', '0') == 0
    record = json.loads(facts.read_text())
    assert 0 <= record['reliability']['expected_calibration_error'] < 0.5
    rows = record['min_confidence']
    assert [row['min_confidence'] for row in rows][:2] == [0.0, 0.5]
    lost = [row['ground_lost'] for row in rows]
    assert lost == sorted(lost)
    assert lost[-1] > lost[0]
    assert set(rows[0]['seen_as_free']) == {'grass'}
    assert 'min_confidence  ground lost' in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / 'out' / 'min_confidence.png')) is not None


def test_without_a_traversability_the_table_s_absence_is_said(trained, capsys) -> None:
    assert run(trained) == 0
    assert 'no table of min_confidence: give --traversability' in capsys.readouterr().out


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
    assert names == ['best_1.png', 'best_2.png', 'confusion.png', 'reliability.png',
                     'worst_1.png', 'worst_2.png']
    for name in names:
        assert cv2.imread(str(tmp_path / 'out' / name)) is not None


def test_another_checkpoint_is_compared_and_shown_side_by_side(
    trained, tmp_path, capsys
) -> None:
    import torch

    from lednet_ros.model.checkpoint import load_checkpoint, save_checkpoint
    from lednet_ros.model.lednet import LEDNet
    other = tmp_path / 'other.safetensors'
    torch.manual_seed(0)
    ours = load_checkpoint(trained[1])
    save_checkpoint(other, LEDNet(3), ours.labels, input_height=48, input_width=96)
    facts, out = tmp_path / 'scores.json', tmp_path / 'out'
    assert run(trained, '--against', str(other), '--json', str(facts), '--output', str(out),
               '--pictures', '1', '--backend', 'torch') == 0
    record = json.loads(facts.read_text())['against']
    assert record['names'] == ['out/best.safetensors', 'other.safetensors']
    assert record['difference'] == pytest.approx(record['miou'][0] - record['miou'][1], abs=1e-5)
    shown = [path for path in ('won_1.png', 'lost_1.png') if (out / path).exists()]
    assert shown or record['frames_won'] == record['frames_lost'] == 0
    assert 'resamples' in capsys.readouterr().out


@pytest.mark.parametrize(('more', 'said'), [
    (('--output', '{file}'), '{file}: cannot be written to: File exists: choose another --output'),
    (('--against', '{file}'), '{file}: '),
    (('--against', 'other.safetensors'), 'other.safetensors: '),
    (('--against', str(default_checkpoint())), 'knows 11 classes (camvid)'),
    (('--flicker', 'film.mp4'), 'film.mp4: '),
    (('--flicker', '{data}/images/val/0.png'), 'holds no two frames of one size'),
    (('--pictures', '-1'), '--pictures -1: give 0 or more'),
])
def test_what_cannot_be_done_is_said_before_the_scoring(
    trained, tmp_path, monkeypatch, capsys, more, said
) -> None:
    monkeypatch.setattr(evaluate, 'evaluate', None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').touch()
    words = {'file': tmp_path / 'file', 'data': trained[0]}
    assert run(trained, *(word.format(**words) for word in more)) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith('lednet_evaluate: ')
    assert said.format(**words) in err


def test_pictures_of_an_earlier_evaluation_are_not_left_beside_its_own(
    trained, tmp_path
) -> None:
    for name in ('won_1.png', 'best_12.png', 'changes.png', 'worst_case.png'):
        (tmp_path / name).touch()
    assert run(trained, '--output', str(tmp_path), '--pictures', '1') == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'best_1.png', 'confusion.png', 'reliability.png', 'worst_1.png', 'worst_case.png']


def test_flicker_is_told_of_a_film(trained, tmp_path, capsys) -> None:
    film = trained[0] / 'images' / 'val'
    facts = tmp_path / 'scores.json'
    assert run(trained, '--flicker', str(film), '--json', str(facts), '--backend', 'torch') == 0
    assert json.loads(facts.read_text())['flicker']['pairs'] == 2
    assert 'flicker along the optical flow' in capsys.readouterr().out
    assert run(trained, '--flicker', str(film / '0.png')) == 1
    assert 'holds no two frames of one size' in capsys.readouterr().err


def test_an_obstacle_seen_as_ground_has_a_colour_of_its_own_and_a_legend() -> None:
    from lednet_ros.projection.traversability import Traversability
    from lednet_ros.training.evaluation_pictures import frame_picture, mistakes_picture
    labels = LabelSet.from_dict({'name': 'yard', 'classes': [
        {'name': 'road', 'color': [9, 9, 9]}, {'name': 'wall', 'color': [1, 1, 1]},
        {'name': 'grass', 'color': [2, 2, 2]}]})
    ground = Traversability(labels, ('free', 'obstacle', 'blocked'))
    image = np.full((60, 80, 3), 90, np.uint8)
    truth, seen = np.zeros((2, 60, 80), np.uint8)
    truth[:10] = 1                        # a wall seen as road
    truth[10:20], seen[10:20] = 0, 1      # road seen as a wall
    truth[20:30], seen[20:30] = 255, 1    # nobody looked
    picture, caption = mistakes_picture(image, truth, seen, ground)
    colors = [tuple(picture[row, 0]) for row in (0, 10, 20, 40)]
    assert len(set(colors)) == 4
    assert colors[2] == (0, 0, 0)
    assert caption == 'wrong: 40.0 %, dangerous: 20.00 %'
    assert 'dangerous' not in mistakes_picture(image, truth, seen, None)[1]
    whole = frame_picture(image, truth, seen, labels, 'title', ground)
    assert (whole == colors[0]).all(2).sum() > 50  # in the mistakes and in the legend
    legend = whole[-32:]
    assert (legend == colors[0]).all(2).any()


def test_robustness_is_in_table_json_and_pictures(trained, tmp_path, capsys) -> None:
    file = tmp_path / 'scores.json'
    assert run(trained, '--robustness', '--every', '2', '--pictures', '0', '--json', str(file),
               '--output', str(tmp_path / 'out'), '--backend', 'torch') == 0
    record = json.loads(file.read_text())
    assert record['images'] == 2
    assert record['robustness']['clean'] == record['scores']['miou']
    assert len(record['robustness']['changes']) == 11
    assert '\nmIoU at strength' in capsys.readouterr().out
    for name in ('robustness.png', 'changes.png'):
        assert cv2.imread(str(tmp_path / 'out' / name)) is not None


def test_every_needs_a_step(trained, capsys) -> None:
    assert run(trained, '--every', '0') == 1
    assert capsys.readouterr().err.splitlines()[-1] == 'lednet_evaluate: --every 0: give 1 or more'


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


def test_no_column_of_the_table_touches_another() -> None:
    scores = Scores({'road': 1.0, 'sky': float('nan'), 'tree': 1.0, 'bus': 0.05},
                    {'a': 1.0, 'b': 1.0}, 1.0, 10)
    rows = list(table(scores))
    assert [row.split() for row in rows[:2]] == [
        ['Roa', 'Sky', 'Tre', 'Bus', 'Cla', 'Cat'],
        ['100.0', '-', '100.0', '5.0', '68.3', '100.0']]
    assert [row.split() for row in rows[3:5]] == [['A', 'B', 'Cat'], ['100.0', '100.0', '100.0']]
    assert len(rows[0]) == len(rows[1])


def test_it_says_which_classes_no_pixel_has(trained, tmp_path, capsys) -> None:
    data, checkpoint = trained
    only_grass = tmp_path / 'grass'
    shutil.copytree(data, only_grass)
    for file in (only_grass / 'labels' / 'val').iterdir():
        cv2.imwrite(str(file), np.zeros((48, 64), np.uint8))
    assert run((only_grass, checkpoint), '--json', str(tmp_path / 'scores.json')) == 0
    assert '\nno pixel is labelled trunk' in capsys.readouterr().out
    record = json.loads((tmp_path / 'scores.json').read_text())
    assert record['classes_without_pixels'] == ['trunk']


@pytest.mark.parametrize(('counts', 'said'), [
    ([[5, 0, 0, 0], [0, 5, 0, 0], [0, 0, 0, 0]], []),
    ([[5, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
     ['no pixel is labelled trunk: left out of the mean']),
    ([[5, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
     ['no pixel is labelled trunk, but some are seen as that: counts as 0']),
], ids=['all', 'not seen', 'seen'])
def test_what_a_class_without_pixels_does_to_the_mean_is_said(orchard, counts, said) -> None:
    labels = LabelSet.from_yaml(orchard / 'labels.yaml')
    confusion = Confusion(3)
    confusion.counts += np.array(counts)
    result = Evaluation(confusion.scores(labels), confusion.counts, (), 'none',
                        np.zeros((len(labels), len(labels), 256), np.int64))
    assert list(left_out(result, labels)) == said


def test_masks_of_0_and_255_are_no_truth(trained, tmp_path, capsys) -> None:
    """What sees grass everywhere would score 100 %."""
    data, checkpoint = trained
    binary = tmp_path / 'binary'
    shutil.copytree(data, binary)
    for file in (binary / 'labels' / 'val').iterdir():
        mask = np.zeros((48, 64), np.uint8)
        mask[:20] = 255
        cv2.imwrite(str(file), mask)
    assert run((binary, checkpoint)) == 1
    captured = capsys.readouterr()
    assert 'binary val: the label images hold 0 and 255 only' in captured.err.splitlines()[-1]
    assert 'mIoU' not in captured.out
