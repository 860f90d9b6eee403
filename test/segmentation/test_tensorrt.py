# SPDX-License-Identifier: Apache-2.0
"""What TensorRT makes of the graph, as far as a machine without a GPU can tell."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lednet_ros.checkpoint import default_checkpoint, load_checkpoint
from lednet_ros.errors import BackendUnavailable
from lednet_ros.segmentation import SegmenterConfig
from lednet_ros.segmentation.backends import tensorrt

CHECKED_WITH = '2.13.0'  # the check uses private API


def _why_not() -> str | None:
    try:
        version = importlib.metadata.version('torch-tensorrt-rtx')
    except importlib.metadata.PackageNotFoundError:
        return 'no torch-tensorrt-rtx: pip install -r requirements/tensorrt_check.txt'
    ours = torch.__version__.partition('+')[0]
    if (version, ours) != (CHECKED_WITH, CHECKED_WITH):
        return (f'torch-tensorrt-rtx {version} and torch {ours}: the check is for '
                f'{CHECKED_WITH} of both')
    return None


pytestmark = pytest.mark.timeout(3600)  # two minutes each on two idle cores
needs_torch_tensorrt = pytest.mark.skipif(_why_not() is not None, reason=str(_why_not()))


def run_check(what: str, *arguments: Any) -> tuple[Any, str]:
    command = [sys.executable, str(Path(__file__).with_name('tensorrt_check.py')), what,
               json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer['found'], done.stdout


def assert_one_engine(
    classes: int, height: int, width: int, batch: int, confidence: bool, precision: str = 'fp16'
) -> None:
    found, _ = run_check('graph', classes, height, width, batch, confidence, precision)
    assert len(found['engines']) == 1, found['engines']
    engine = found['engines'][0]
    frames = -1 if batch > 1 else 1  # one engine for 1 to `batch` frames
    assert engine['inputs'] == [['UINT8', [frames, height, width, 3]]]
    assert engine['outputs'] == [['INT32', [frames, height, width]]] * (1 + confidence)
    assert engine['bytes'] > 1_000_000
    assert found['lowered_is_exact']


@needs_torch_tensorrt
@pytest.mark.parametrize(
    ('classes', 'height', 'width', 'batch', 'confidence'),
    [pytest.param(20, 512, 1024, 1, False, id='cityscapes'),
     pytest.param(11, 365, 479, 2, True, id='camvid-odd-size-two-cameras-confidence')])
def test_the_graph_becomes_one_engine(
    classes: int, height: int, width: int, batch: int, confidence: bool
) -> None:
    assert_one_engine(classes, height, width, batch, confidence)


@needs_torch_tensorrt
@pytest.mark.full
@pytest.mark.parametrize('confidence', [False, True], ids=['labels', 'confidence'])
@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize(('height', 'width'), [(512, 1024), (365, 479)], ids=['512x1024', 'odd'])
@pytest.mark.parametrize('classes', [20, 11])
def test_every_configuration_becomes_one_engine(
    classes: int, height: int, width: int, batch: int, confidence: bool
) -> None:
    assert_one_engine(classes, height, width, batch, confidence)


@needs_torch_tensorrt
@pytest.mark.full
def test_fp32_becomes_one_engine() -> None:
    assert_one_engine(20, 512, 1024, 1, True, 'fp32')


@needs_torch_tensorrt
def test_the_check_sees_what_falls_back() -> None:
    """uint8 out of the engine is what the graph avoids; the check must be able to tell."""
    parts, _ = run_check('fallback')
    assert {'falls_back': ['aten._to_copy.default']} in parts


@needs_torch_tensorrt
def test_every_keyword_is_known_to_torch_tensorrt() -> None:
    """It ignores unknown ones without a word."""
    found, _ = run_check('signatures')
    settings = tensorrt.compile_settings('fp16', torch.device('cuda:0'))
    dry_run = {'dryrun', 'use_fast_partitioner'}
    assert {'arg_inputs', *settings, *dry_run} - set(found['compile']) == set()
    assert {'arg_inputs', 'dynamic_shapes'} - set(found['save']) == set()


@needs_torch_tensorrt
def test_dry_run_reports_the_partition() -> None:
    code, printed = run_check('dry-run', '--input-height=64', '--input-width=96')
    assert code == 0
    assert 'engines    1\n' in printed
    assert 'fallbacks  none\n' in printed


@pytest.mark.parametrize(
    ('ours', 'theirs'), [('2.12.1+cpu', '2.12.0'), ('2.13.0', '2.14.0'), ('2.15.0', '2.15.0')])
def test_unsupported_versions_are_named_in_one_line(ours: str, theirs: str) -> None:
    with pytest.raises(BackendUnavailable) as error:
        tensorrt._check_versions(ours, theirs)
    assert f'torch {ours} and torch_tensorrt {theirs}' in str(error.value)
    assert 'install torch 2.13 to 2.14' in str(error.value)
    assert '\n' not in str(error.value)


def test_supported_versions_pass() -> None:
    tensorrt._check_versions('2.13.0+cu130', '2.13.0')
    tensorrt._check_versions('2.14.1', '2.14.0')


@pytest.mark.parametrize(
    'raised', [RuntimeError('no NVIDIA driver\nmore'), AssertionError(), ImportError('no module'),
               OSError('libnvinfer.so.10: cannot open'), Exception('proxy')], ids=repr)
def test_an_import_that_fails_is_one_line_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    def fail(name: str) -> None:
        raise raised
    monkeypatch.setattr(tensorrt, '_installed_version', lambda: '2.13.0')
    monkeypatch.setattr(tensorrt.importlib, 'import_module', fail)
    with pytest.raises(BackendUnavailable, match='cannot be imported') as error:
        tensorrt.import_torch_tensorrt()
    assert 'torch_tensorrt 2.13.0' in str(error.value)
    assert 'driver' in str(error.value)
    assert 'choose backend' in str(error.value)
    assert '\n' not in str(error.value)
    assert error.value.__cause__ is raised


def test_without_torch_tensorrt_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, '_installed_version', lambda: None)
    monkeypatch.setitem(sys.modules, 'torch_tensorrt', None)
    with pytest.raises(BackendUnavailable, match='is not installed: install the torch_tensorrt'):
        tensorrt.import_torch_tensorrt()


def test_a_keyword_it_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        __version__ = '2.14.0'

        class dynamo:  # noqa: N801
            @staticmethod
            def compile(exported: Any, *, arg_inputs: Any, device: Any, **kwargs: Any) -> None:
                raise AssertionError('never called')

    monkeypatch.setattr(tensorrt, 'import_torch_tensorrt', lambda: Fake)
    settings = {'device': 'cuda:0', 'min_block_size': 1}
    with pytest.raises(BackendUnavailable, match=r'2\.14\.0 does not know min_block_size'):
        tensorrt.compile_exported(None, 64, 96, 1, settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_asked_for_by_name_without_a_gpu_it_is_an_error_and_no_substitute() -> None:
    with pytest.raises(BackendUnavailable, match='tensorrt: '):
        tensorrt.TensorRTBackend(
            load_checkpoint(default_checkpoint()), SegmenterConfig(backend='tensorrt'))
