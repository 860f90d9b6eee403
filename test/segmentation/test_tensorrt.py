# SPDX-License-Identifier: Apache-2.0
"""What TensorRT makes of the graph, as far as a machine without a GPU can tell."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorrt_check import why_not
from torch_tensorrt_facts import CONVERT

from lednet_ros.common.errors import BackendUnavailable
from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
from lednet_ros.model.networks import NETWORKS
from lednet_ros.segmentation import SegmenterConfig
from lednet_ros.segmentation.backends import tensorrt
from lednet_ros.segmentation.backends.tensorrt_versions import ROUTES, Route, check_versions

pytestmark = pytest.mark.timeout(3600)  # two minutes each on two idle cores
needs_torch_tensorrt = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def run_checks(*checks: tuple[Any, ...]) -> list[tuple[Any, str]]:
    """Return what each found and printed: in one process, as the import takes long."""
    command = [sys.executable, str(Path(__file__).with_name('tensorrt_check.py')),
               json.dumps(checks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [(found, printed) for found, printed in json.loads(done.stdout.splitlines()[-1])]


def assert_one_engine(
    classes: int, height: int, width: int, confidence: bool, precision: str = 'fp16',
    network: str = 'lednet',
) -> None:
    [(found, _)] = run_checks(
        ('graph', classes, height, width, confidence, precision, network))
    assert_is_one_engine(found, height, width, confidence)


def assert_is_one_engine(
    found: dict[str, Any], height: int, width: int, confidence: bool
) -> None:
    assert found['inputs'] == [['frames', 'UINT8', [1, height, width, 3]]]
    assert found['outputs'] == [
        [f'output{i}', 'INT32', [1, height, width]] for i in range(1 + confidence)]
    assert found['bytes'] > 1_000_000
    assert found['lowered_is_exact']


@pytest.fixture(scope='module')
def checks() -> dict[str, tuple[Any, str]]:
    """A representative of the full matrix below, and what else torch_tensorrt is needed for."""
    wanted = (('graph', 11, 365, 479, True, 'fp16'), ('fallback',),
              ('dry-run', '--input-height=64', '--input-width=96'))
    return dict(zip((what for what, *_ in wanted), run_checks(*wanted), strict=True))


@needs_torch_tensorrt
def test_the_graph_of_labels_and_confidence_becomes_one_engine_at_an_odd_size(checks) -> None:
    """It holds the graph of labels alone; both, and more sizes, are in the full matrix below."""
    assert_is_one_engine(checks['graph'][0], 365, 479, True)


@needs_torch_tensorrt
@pytest.mark.full
@pytest.mark.parametrize('confidence', [False, True], ids=['labels', 'confidence'])
@pytest.mark.parametrize(('height', 'width'), [(512, 1024), (365, 479)], ids=['512x1024', 'odd'])
@pytest.mark.parametrize('classes', [20, 11])
def test_every_configuration_becomes_one_engine(
    classes: int, height: int, width: int, confidence: bool
) -> None:
    assert_one_engine(classes, height, width, confidence)


@needs_torch_tensorrt
@pytest.mark.full
def test_fp32_becomes_one_engine() -> None:
    assert_one_engine(20, 512, 1024, True, 'fp32')


@needs_torch_tensorrt
@pytest.mark.full
@pytest.mark.parametrize(('height', 'width'), [(512, 1024), (365, 479)], ids=['512x1024', 'odd'])
@pytest.mark.parametrize('network', [name for name in NETWORKS if name != 'lednet'])
def test_each_of_the_papers_networks_becomes_one_engine(
    network: str, height: int, width: int
) -> None:
    assert_one_engine(20, height, width, True, network=network)


@needs_torch_tensorrt
def test_the_check_sees_what_falls_back(checks) -> None:
    """uint8 out of the engine is what the graph avoids; the check must be able to tell."""
    assert 'aten::_to_copy not currently supported' in checks['fallback'][0]


FACTS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / 'data' / 'torch_tensorrt_facts.json').read_text())


class Recorded:
    """torch_tensorrt as one version's sources have it: takes what that takes and notes it."""

    def __init__(self, version: str) -> None:
        self.__version__, self.facts = version, FACTS[version]
        self.calls: dict[str, dict[str, Any]] = {}
        for name in ('Device', 'Input'):
            setattr(self, name, self._callable(name))
        self.dynamo = SimpleNamespace(
            **{name: self._callable(name) for name in self.facts['dynamo']
               if name in self.facts},
            runtime=SimpleNamespace(**{name: self._callable(name) for name in
                                       self.facts['dynamo.runtime'] if name in self.facts}))

    def _callable(self, name: str) -> Callable[..., Any]:
        signature = inspect.Signature([
            inspect.Parameter(p, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
            for p in self.facts[name]])

        def call(*args: Any, **keywords: Any) -> Any:
            signature.bind(*args, **keywords)  # TypeError, where the real one would say nothing
            self.calls[name] = keywords
            return SimpleNamespace()

        call.__signature__ = signature  # type: ignore[attr-defined]
        return call


@pytest.fixture(params=FACTS)
def recorded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    module = Recorded(request.param)
    monkeypatch.setattr(tensorrt, 'import_torch_tensorrt', lambda: module)
    return module


def test_every_call_is_known_to_each_version_of_torch_tensorrt(recorded: Recorded) -> None:
    """It ignores unknown keywords without a word."""
    settings = tensorrt.build_settings('fp16', gpu=0, is_integrated=True)
    for call, name in ((tensorrt.build_engine, CONVERT), (tensorrt.partition, 'compile')):
        call(None, 64, 96, settings)
        passed = recorded.calls[name]
        # Else fp16 in the graph would be a hint, and fp32 be as fast as TensorRT likes.
        assert passed.get('use_explicit_typing', False) == (
            'use_explicit_typing' in recorded.facts[name])
        assert 'enabled_precisions' not in passed
    tensorrt.load_engine(b'engine', True, torch.device('cuda:0'))
    assert recorded.calls['TorchTensorRTModule'].keys() >= {
        'serialized_engine', 'input_binding_names', 'output_binding_names', 'settings'}
    assert recorded.calls['CompilationSettings'].keys() == {'device'}
    assert recorded.calls['Device'] == {'gpu_id': 0}
    assert recorded.calls['Input'].keys() == {'shape', 'dtype'}


@pytest.mark.parametrize('version', FACTS)
def test_what_we_leave_to_its_defaults_is_what_we_want(version: str) -> None:
    defaults = FACTS[version]['defaults']
    assert defaults['IMMUTABLE_WEIGHTS'] == 'True'
    assert {defaults[name] for name in (
        'LAZY_ENGINE_INIT', 'HARDWARE_COMPATIBLE', 'VERSION_COMPATIBLE')} == {'False'}
    assert defaults.get('ENABLED_PRECISIONS', '{dtype.f32}') == '{dtype.f32}'
    assert FACTS[version]['logger of that'] == 'logging.getLogger(__name__)'


def test_the_versions_that_only_log_what_goes_wrong_inside_are_these() -> None:
    assert [version for version, known in FACTS.items()
            if not known['raises what goes wrong inside']] == [
                '2.8.0', '2.9.0', '2.10.0', '2.11.0']


@pytest.mark.parametrize('route', ROUTES, ids=lambda route: f'{route.torch} {route.machine}')
def test_the_table_of_versions_is_what_the_packages_ask_for(route: Route) -> None:
    known = FACTS[f'{route.torch}.0']
    needs = ' '.join(known['needs'])
    assert re.search(rf'torch ?<[\d.]+,>={route.torch}\.0', needs)
    assert re.search(rf'tensorrt[-\w]* ?<[\d.]+,>={route.tensorrt}\.', needs)
    if route.machine == 'PC':
        assert known['cuda'] == route.cuda


def test_every_version_of_the_table_was_read() -> None:
    assert [f'{number}.0' for number in dict.fromkeys(r.torch for r in ROUTES)] == list(FACTS)


def test_a_keyword_it_does_not_know_is_refused(recorded: Recorded) -> None:
    with pytest.raises(BackendUnavailable, match=r'2\.\d+\.0 does not know precision: install'):
        tensorrt.build_engine(None, 64, 96, {'precision': 'fp16'})


@needs_torch_tensorrt
def test_dry_run_reports_the_partition(checks) -> None:
    code, printed = checks['dry-run']
    assert code == 0
    assert 'engines    1\n' in printed
    assert 'fallbacks  none\n' in printed


@pytest.mark.parametrize(('torch_', 'torch_tensorrt', 'trt', 'install'), [
    ('2.13.0', '2.14.0', None, 'install torch_tensorrt 2.13 and TensorRT 11.0'),
    ('2.8.0', '2.14.0', None, 'install torch_tensorrt 2.8 and TensorRT 10.3 or 10.12'),
    ('2.9.1+cu128', '2.8.0', '10.3.0', 'install torch_tensorrt 2.9 and TensorRT 10.13'),
    ('2.15.0', '2.15.0', None,
     'install torch 2.8 to 2.14 and torch_tensorrt of the same number (JetPack 6: 2.8, '
     'JetPack 7.0 and 7.1: 2.9, JetPack 7.2: 2.12)'),
    ('2.7.1', '2.7.0', None, 'install torch 2.8 to 2.14 and torch_tensorrt of the same number'),
    ('2.13.0', '2.13.0', '10.16.1', 'install TensorRT 11.0, or the torch and torch_tensorrt that'),
    ('2.8.0', '2.8.0', '11.0.0', 'install TensorRT 10.3 or 10.12'),
])
def test_versions_that_do_not_fit_are_named_in_one_line(
    torch_: str, torch_tensorrt: str, trt: str | None, install: str
) -> None:
    with pytest.raises(BackendUnavailable) as error:
        check_versions(torch_, torch_tensorrt, trt)
    text = str(error.value)
    assert text.startswith(f'tensorrt: torch {torch_}, torch_tensorrt {torch_tensorrt}')
    assert install in text
    assert 'choose backend torch' in text
    assert '\n' not in text


@pytest.mark.parametrize('route', ROUTES, ids=str)
def test_versions_of_the_table_fit(route: Route) -> None:
    assert check_versions(f'{route.torch}.1+cu', f'{route.torch}.0') is None
    assert check_versions(f'{route.torch}.1', f'{route.torch}.0', f'{route.tensorrt}.2.6') is None


def test_another_tensorrt_of_the_same_major_number_is_doubted() -> None:
    assert check_versions('2.8.0', '2.8.0', '10.7.0') == (
        'torch 2.8.0, torch_tensorrt 2.8.0 and TensorRT 10.7.0: made for TensorRT 10.3 or 10.12')


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
    monkeypatch.setattr(torch, '__version__', '2.13.0')
    with pytest.raises(BackendUnavailable, match=(
            r'is not installed: install torch_tensorrt 2\.13 and TensorRT 11\.0, or choose')):
        tensorrt.import_torch_tensorrt()


@pytest.mark.parametrize('version', ['2.8.0', None])
def test_what_torch_tensorrt_needs_is_named_where_it_was_installed_without(
    monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    """As on a Jetson, where pip has to be told --no-deps."""
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'dllist'", name='dllist')

    monkeypatch.setattr(torch, '__version__', '2.8.0')
    monkeypatch.setattr(tensorrt, '_installed_version', lambda: version)
    monkeypatch.setattr(tensorrt.importlib, 'import_module', fail)
    with pytest.raises(BackendUnavailable, match='needs dllist, which is not installed: pip inst'):
        tensorrt.import_torch_tensorrt()


def test_a_user_without_a_name_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as a number: torch_tensorrt asks for the name."""
    def fail(name: str) -> None:
        raise KeyError('getpwuid(): uid not found: 4711')

    monkeypatch.setattr(tensorrt, '_installed_version', lambda: torch.__version__)
    monkeypatch.setattr(torch, '__version__', '2.13.0')
    monkeypatch.setattr(tensorrt.importlib, 'import_module', fail)
    with pytest.raises(BackendUnavailable, match='give its id one in /etc/passwd'):
        tensorrt.import_torch_tensorrt()


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_asked_for_by_name_without_a_gpu_it_is_an_error_and_no_substitute() -> None:
    with pytest.raises(BackendUnavailable, match='tensorrt: '):
        tensorrt.TensorRTBackend(
            load_checkpoint(default_checkpoint()), SegmenterConfig(backend='tensorrt'))
