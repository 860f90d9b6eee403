# SPDX-License-Identifier: Apache-2.0
"""The benchmark's arithmetic and its command, at a size that takes seconds."""

import json
from pathlib import Path

import pytest
import torch

import lednet_ros.cli.benchmark
from lednet_ros.cli import benchmark_measuring, benchmark_table2
from lednet_ros.cli.benchmark import PRODUCT, Report, Row, main
from lednet_ros.cli.benchmark_measuring import Knobs, count_gmac, make_checkpoint, take_turn
from lednet_ros.cli.benchmark_table2 import (
    PAPER,
    measure,
    without_batch_norm,
)
from lednet_ros.model.networks import NETWORKS, make_network

pytest.importorskip('onnxruntime')
pytest.importorskip('onnx')


def test_the_network_at_1024x512_is_11_21_gmac_and_925_663_parameters() -> None:
    """As in the authors' code with 20 classes."""
    checkpoint = make_checkpoint(Knobs(classes=20))
    assert count_gmac(checkpoint, (512, 1024)) == pytest.approx(11.21, abs=0.005)
    assert sum(p.numel() for p in checkpoint.network.parameters()) == 925_663


def test_table_2_has_the_papers_columns_and_no_figure_that_was_not_measured() -> None:
    row = Row('onnxruntime cpu fp32', 512, 1024, 1, 200.0)
    report = Report('some machine', Knobs(), 925_663, {'512x1024': 11.21}, 100.0, [row], [])
    table = report.markdown().splitlines()[-4:]
    assert table[0] == '| Method | Cla | Cat | Time(ms) | Speed(Fps) | Para(M) |'
    assert table[2] == '| LEDNet, paper (GTX 1080Ti) | 70.6 | 87.1 | 14 | 71 | 0.94 |'
    assert table[3] == (
        '| LEDNet, onnxruntime cpu fp32 (some machine) | - | - | 200 | 5.0 | 0.93 |')


@pytest.mark.parametrize('names', [
    pytest.param(('segnet', 'enet', 'lednet'), id='those that it compares'),
    pytest.param(tuple(PAPER), id='all', marks=pytest.mark.full)])
def test_table_2_has_networks_of_the_paper_measured_beside_its_figures(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(PAPER) <= set(NETWORKS)
    monkeypatch.setattr(benchmark_table2, 'PAPER', {name: PAPER[name] for name in names})
    table2 = measure('cpu', rounds=1, with_memory=False, size=(64, 96))
    assert tuple(row.name for row in table2.rows) == names
    for row in table2.rows:
        assert min(row.bare_ms, row.whole_ms, row.labels_ms, row.gmac) > 0
    lines = table2.markdown().splitlines()
    segnet = next(line for line in lines if line.startswith('| SegNet | 29.45 | '))
    assert segnet.endswith(' | - | 57.0 | 79.1 | 67 | 15 | 29.5 |')
    assert any('Here: ' in line and '31.8x smaller' in line for line in lines)


def test_what_the_paper_left_out_of_its_timing_is_left_out() -> None:
    network = make_network('enet', 5)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    bare = without_batch_norm(network)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in bare.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


def test_transposed_convolutions_are_counted_by_their_inputs() -> None:
    """ERFNet's last: 16 channels of 32x48 to 2x2 pixels of 20 classes each."""
    checkpoint = benchmark_table2.make_checkpoint('erfnet', (64, 96))
    whole = count_gmac(checkpoint, (64, 96))
    last = checkpoint.network.output_conv
    checkpoint.network.output_conv = torch.nn.Identity()
    assert whole - count_gmac(checkpoint, (64, 96)) == pytest.approx(
        32 * 48 * last.weight.numel() / 1e9)


@pytest.mark.parametrize(('device', 'rests', 'calls'), [('cpu', 1, 1), ('cuda:0', 0, 5)])
def test_a_cpu_rests_before_its_turn_and_a_gpu_is_warm(
    monkeypatch: pytest.MonkeyPatch, device: str, rests: int, calls: int
) -> None:
    """A GPU that has waited for a tenth of a second runs at other clocks than one at work."""
    slept, counted = [], iter(range(1, 99))
    monkeypatch.setattr(benchmark_measuring.time, 'sleep', slept.append)
    assert take_turn(lambda: next(counted), device) == calls
    assert len(slept) == rests


def test_a_matrix_product_is_called_no_floor_and_stands_in_no_table_of_ours() -> None:
    rows = [Row(name, 512, 1024, 1, 100.0) for name in (PRODUCT, 'onnxruntime cpu fp32')]
    shown = Report('some machine', Knobs(), 925_663, {'512x1024': 11.21}, 200.0, rows, []
                   ).markdown()
    assert '200 GFLOP/s of one by torch; no limit' in shown
    assert f'| {PRODUCT} | - | - | - | 100.0 |' in shown
    assert f'LEDNet, {PRODUCT}' not in shown
    assert 'floor' not in shown.lower()


def test_the_command_measures_all_in_one_run_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    path = tmp_path / 'figures.json'
    assert main(['--sizes', '128x64', '--batches', '1', '2', '--rounds', '2', '--no-footprints',
                 '--json', str(path)]) == 0
    report = json.loads(path.read_text())
    rows = {(row['name'], row['batch']): row for row in report['rows']}
    for batch in (1, 2):
        for name in ('eager', 'plain onnx', 'torch cpu fp32', 'onnxruntime cpu fp32', PRODUCT):
            row = rows[name, batch]
            assert row['total_ms'] > 0
            assert set(row['ratios']) == {'eager', 'plain onnx'}
        assert rows['eager', batch]['ratios']['eager'] == 1.0
        assert rows['onnxruntime cpu fp32', batch]['postprocess_ms'] > 0
    assert '| 128x64 | 2 |' in capsys.readouterr().out


def test_an_unusable_directory_of_images_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['--sizes', '128x64', '--images', str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith('lednet_benchmark: images: ')


@pytest.mark.parametrize(('arguments', 'says'), [
    (['--device', 'cuda:7'], 'device cuda:7: '), (['--device', 'banana'], "device is 'banana'"),
    (['--images', '/nowhere'], 'images: /nowhere: No such file or directory: '),
    (['--sizes', '16x16'], 'input_height is 16'),
], ids=str)
def test_what_cannot_be_measured_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, '--no-footprints', '--rounds', '1']) == 1
    error = capsys.readouterr().err
    assert error.startswith(f'lednet_benchmark: {says}')
    assert error.count('\n') == 1


def test_an_image_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'a.png').write_bytes(b'no picture')
    assert main(['--sizes', '128x64', '--images', str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f'lednet_benchmark: images: {tmp_path}/a.png: 10 bytes and no PNG, JPEG, BMP, PNM, TIFF '
        'or WebP image: remove it\n')


@pytest.mark.parametrize('option', ['--rounds', '--batches', '--classes'])
def test_counts_begin_at_one(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([option, '0'])
    assert "'0': give a whole number from 1" in capsys.readouterr().err


def test_ctrl_c_ends_it_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lednet_ros.cli.benchmark, 'benchmark', stopped)
    assert main([]) == 130


@pytest.mark.gpu
@pytest.mark.skipif('not __import__("torch").cuda.is_available()', reason='no CUDA GPU')
def test_the_command_on_a_gpu(tmp_path: Path) -> None:
    assert main(['--device', 'cuda', '--sizes', '1024x512', '--batches', '1', '--rounds', '3',
                 '--json', str(tmp_path / 'figures.json')]) == 0
