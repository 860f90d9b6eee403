# SPDX-License-Identifier: Apache-2.0
"""lednet_export as a user calls it."""

from __future__ import annotations

import pytest

pytest.importorskip('onnxruntime', reason='needs onnxruntime')
import onnxruntime

from lednet_ros.cli import export
from lednet_ros.common.errors import BackendUnavailable
from lednet_ros.segmentation import onnx_export
from lednet_ros.segmentation.self_check import SelfCheck

SMALL = ('--input-height', '96', '--input-width', '128')


def run(*words, code: int = 0) -> None:
    assert export.main([*map(str, words), *SMALL]) == code


def test_the_file_is_written_and_how_far_it_agrees_is_said(tmp_path, capsys) -> None:
    path = tmp_path / 'new' / 'street.onnx'
    run('--output', path, '--outputs', 'scores', '--batch', 2)
    said = capsys.readouterr().out
    assert said.startswith(f'{path}: scores of 11 classes from frames uint8 (2, 96, 128, 3) RGB, ')
    assert 'in ONNX Runtime it agrees with torch fp32 on ' in said
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    assert session.get_outputs()[0].shape == [2, 11, 12, 16]


def test_a_file_that_is_there_is_replaced_only_when_asked(tmp_path, capsys) -> None:
    path = tmp_path / 'street.onnx'
    path.write_text('mine')
    run('--output', path, code=1)
    assert 'exists already: choose another --output, or --overwrite' in capsys.readouterr().err
    assert path.read_text() == 'mine'
    run('--output', path, '--overwrite')
    assert path.stat().st_size > 1_000_000


def test_what_disagrees_with_torch_is_not_written(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(onnx_export, 'compare_with_torch', lambda *_: SelfCheck(0.5, 0.9))
    run('--output', tmp_path / 'street.onnx', code=1)
    assert 'is not written, as the self-check failed: ' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_onnxruntime_it_is_written_and_said_not_to_be_compared(
    tmp_path, capsys, monkeypatch
) -> None:
    def absent(_):
        raise BackendUnavailable('backend onnxruntime: it cannot be imported')

    monkeypatch.setattr(export, '_program', absent)
    run('--output', tmp_path / 'street.onnx')
    said = capsys.readouterr()
    assert 'not compared with torch: backend onnxruntime: it cannot be imported' in said.err
    assert said.out.endswith('not compared with torch\n')


@pytest.mark.parametrize(('words', 'said'), [
    (('--batch', '-1'), '--batch is -1: give 1 to 256 frames, or 0 for any number'),
    (('--input-height', '7'), 'input_height is 7: give 32 to 8192 pixels'),
])
def test_what_no_file_can_have_is_one_line(tmp_path, capsys, words, said) -> None:
    assert export.main(['--output', str(tmp_path / 'x.onnx'), *words]) == 1
    assert said in capsys.readouterr().err
