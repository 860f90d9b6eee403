# SPDX-License-Identifier: Apache-2.0
"""The ONNX Runtime backend against the torch one, and what it does where it cannot run."""

import ast
import os
import re
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from lednet_ros.cli.benchmark_measuring import Knobs, camera_frames
from lednet_ros.common.errors import BackendUnavailable, ConfigError
from lednet_ros.common.free_cores import FreeCores
from lednet_ros.model.checkpoint import (
    Checkpoint,
    Metadata,
    Preprocessing,
    default_checkpoint,
    load_checkpoint,
)
from lednet_ros.model.labels import builtin_label_set
from lednet_ros.model.lednet import LEDNet
from lednet_ros.model.networks import NETWORKS, make_network
from lednet_ros.segmentation import Segmenter, SegmenterConfig
from lednet_ros.segmentation.backends import onnxruntime as onnx_backend
from lednet_ros.segmentation.backends.engine_cache import EngineCache
from lednet_ros.segmentation.backends.graph import ScoreGraph, graph_sources
from lednet_ros.segmentation.backends.onnxruntime import engine_key, session_options, waiting

pytest.importorskip('onnxruntime')
pytest.importorskip('onnx')

SHARED = Path(os.environ.get('LEDNET_SHARED') or Path(__file__).parents[3] / 'shared')
CAMVID = SHARED / 'data' / 'camvid' / 'val'


@pytest.fixture(scope='module')
def trained() -> Checkpoint:
    return load_checkpoint(default_checkpoint())


@pytest.fixture
def config(tmp_path: Path) -> SegmenterConfig:
    return SegmenterConfig(backend='onnxruntime', engine_cache_dir=str(tmp_path))


def random_checkpoint(classes_of: str, preprocessing: Preprocessing | None = None) -> Checkpoint:
    """Weights and statistics that make every channel matter."""
    labels = builtin_label_set(classes_of)
    torch.manual_seed(0)
    network = LEDNet(len(labels)).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
    return Checkpoint(network, labels, preprocessing or Preprocessing(), Metadata(64, 96))


def resident_mb() -> float:
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def random_pixels(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)


@pytest.mark.parametrize('preprocessing', [
    Preprocessing(), Preprocessing((0.4, 0.45, 0.5), (0.2, 0.25, 0.3))], ids=['plain', 'mean'])
@pytest.mark.parametrize('size', [(64, 96), (32, 32), (33, 47), (97, 131)])
def test_the_model_equals_the_graph(size: tuple[int, int], preprocessing: Preprocessing) -> None:
    """Odd sizes round up at each stage; shuffles, folding and padding must all be right."""
    import onnxruntime

    from lednet_ros.segmentation.backends.onnx_writer import build_onnx_model
    checkpoint = random_checkpoint('cityscapes', preprocessing)
    session = onnxruntime.InferenceSession(build_onnx_model(checkpoint, *size),
                                           providers=['CPUExecutionProvider'])
    graph = ScoreGraph(checkpoint.network, preprocessing)
    for batch in (1, 2):
        pixels = random_pixels(batch, *size)
        ours, = session.run(None, {'frames': pixels})
        reference = graph(torch.from_numpy(pixels)).numpy()
        assert ours.shape == reference.shape
        assert np.abs(ours - reference).max() < 1e-5 * np.abs(reference).max()


def agreement(
    checkpoint: Any, config: SegmenterConfig, frames: list[np.ndarray]
) -> tuple[float, int]:
    """Share of pixels with equal labels, and the largest difference of confidence."""
    results = []
    for backend in ('onnxruntime', 'torch'):
        with Segmenter(checkpoint, replace(config, backend=backend)) as segmenter:
            results.append([segmenter.segment([frame], confidence=True)[0] for frame in frames])
    equal = [(a.labels == b.labels).mean() for a, b in zip(*results, strict=True)]
    apart = [np.abs(a.confidence.astype(int) - b.confidence).max()
             for a, b in zip(*results, strict=True)]
    return np.mean(equal), max(apart)


@pytest.mark.parametrize('size', [(256, 512), (97, 131)])
def test_labels_agree_with_torch_on_generated_frames(
    trained: Checkpoint, config: SegmenterConfig, size: tuple[int, int]
) -> None:
    config = replace(config, input_height=size[0], input_width=size[1])
    equal, apart = agreement(trained, config, camera_frames(Knobs(), size, 3))
    assert equal >= 0.9999
    assert apart <= 1


@pytest.mark.skipif(not CAMVID.is_dir(), reason=f'{CAMVID} is not there (LEDNET_SHARED)')
@pytest.mark.parametrize('count', [4, pytest.param(40, marks=pytest.mark.full)])
def test_labels_agree_with_torch_on_real_frames(
    trained: Checkpoint, config: SegmenterConfig, count: int
) -> None:
    config = replace(config, input_height=512, input_width=1024)
    paths = sorted(CAMVID.glob('*.png'))
    frames = [cv2.resize(cv2.imread(str(path)), (1024, 512))
              for path in paths[::max(1, len(paths) // count)][:count]]
    equal, apart = agreement(trained, config, frames)
    assert equal >= 0.9999
    assert apart <= 1


def test_a_batch_gives_what_its_frames_give_alone_and_earlier_results_stay(
    trained: Checkpoint, config: SegmenterConfig
) -> None:
    """Its buffers are kept between frames and must not show through."""
    config = replace(config, input_height=96, input_width=128)
    frames = list(random_pixels(3, 96, 128))
    with Segmenter(trained, config) as segmenter:
        alone = [segmenter.segment([frame])[0].labels for frame in frames]
        before = [labels.copy() for labels in alone]
        together = [one.labels for one in segmenter.segment(frames)]
    assert np.array_equal(alone, before)
    assert np.array_equal(alone, together)


def test_run_and_finish_are_timed_apart(trained: Checkpoint, config: SegmenterConfig) -> None:
    with Segmenter(trained, replace(config, input_height=96, input_width=128)) as segmenter:
        timings = segmenter.segment([random_pixels(1, 96, 128)[0]])[0].timings
    assert set(timings) == {'preprocess', 'inference', 'postprocess'}
    assert min(timings.values()) > 0


def test_the_second_start_needs_no_onnx(
    trained: Checkpoint, config: SegmenterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, input_height=96, input_width=128)
    Segmenter(trained, config).close()
    for module in ('onnx_writer', 'onnx_plain'):
        monkeypatch.delitem(sys.modules, f'lednet_ros.segmentation.backends.{module}')
    monkeypatch.setitem(sys.modules, 'onnx', None)
    Segmenter(trained, config).close()
    with pytest.raises(BackendUnavailable, match='pip install onnxruntime onnx'):
        Segmenter(trained, replace(config, input_width=160))


def test_other_preprocessing_is_another_model(
    trained: Checkpoint, config: SegmenterConfig, tmp_path: Path
) -> None:
    config = replace(config, input_height=96, input_width=128)
    Segmenter(trained, config).close()
    Segmenter(replace(trained, preprocessing=Preprocessing(std=(2.0, 1.0, 1.0))), config).close()
    assert len(list(tmp_path.glob('*.engine'))) == 2


def scaled(model: bytes, factor: float) -> bytes:
    """Return a model whose scores are multiplied: by -1 other labels, else other confidence."""
    import onnx
    made = onnx.load_model_from_string(model)
    last = made.graph.node[-1]
    assert list(last.output) == ['scores']
    last.output[0] = 'unscaled'
    made.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array(factor, np.float32), 'factor'))
    made.graph.node.append(onnx.helper.make_node('Mul', ['unscaled', 'factor'], ['scores']))
    return made.SerializeToString()


@pytest.mark.parametrize('factor', [-1.0, 0.2], ids=['labels', 'confidence'])
def test_a_kept_model_that_says_something_else_is_set_aside_and_built_anew(
    trained: Checkpoint, config: SegmenterConfig, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, factor: float
) -> None:
    """It was refused at each start, with the file that is to blame left where it is."""
    from lednet_ros.segmentation.backends.onnx_plain import onnx_model
    config = replace(config, input_height=96, input_width=128)
    EngineCache(tmp_path).fetch(
        engine_key(trained, (96, 128)), lambda: scaled(onnx_model(trained, 96, 128), factor),
        lambda model: model)
    with Segmenter(trained, config) as segmenter:
        assert segmenter.self_check is not None
        assert segmenter.self_check.agreement > 0.999
        assert segmenter.build_s
    assert 'the self-check failed' in caplog.text
    assert 'set aside' in caplog.text
    assert {path.suffix for path in tmp_path.iterdir()} == {'.bad', '.engine', '.lock'}
    with Segmenter(trained, config) as segmenter:
        assert segmenter.build_s == 0.0


def test_a_new_model_that_says_something_else_is_refused_and_not_kept(
    trained: Checkpoint, config: SegmenterConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = onnx_backend._build
    monkeypatch.setattr(onnx_backend, '_build', lambda *args: scaled(build(*args), -1.0))
    with pytest.raises(BackendUnavailable, match=r'the self-check failed.*choose backend torch'):
        Segmenter(trained, replace(config, input_height=96, input_width=128))
    assert not list(tmp_path.glob('*.engine'))


def imported_by(module: str) -> set[str]:
    """Return the package's own modules of layers and blocks that a module imports, and theirs."""
    found: set[str] = set()
    left = [module]
    while left:
        tree = ast.parse(Path(find_spec(left.pop()).origin).read_text())
        new = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
               and re.match(r'lednet_ros\.model\.(lednet|networks)', node.module or '')} - found
        found |= new
        left += new
    return found


@pytest.mark.parametrize('name', NETWORKS)
def test_whatever_a_network_is_made_of_is_in_the_key(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CGNet's blocks are ESPNet's, too: where those change, no old model may be found."""
    hashed: set[str] = set()
    monkeypatch.setattr(
        onnx_backend, 'hash_of_sources', lambda *modules: hashed.update(modules) or '')
    labels = builtin_label_set('camvid')
    engine_key(Checkpoint(make_network(name, len(labels)).eval(), labels, Preprocessing(),
                          Metadata(64, 96)), (64, 96))
    module = f'lednet_ros.model.{NETWORKS[name].module}'
    assert {module, *imported_by(module), 'lednet_ros.model.networks', *graph_sources(),
            onnx_backend.__name__, *(f'lednet_ros.segmentation.backends.{writer}' for writer in (
                'onnx_plain', 'onnx_writer'))} <= hashed


@pytest.mark.parametrize('wrong', [{'device': 'cuda:0'}, {'precision': 'fp16'}])
def test_what_it_cannot_do_is_refused(
    trained: Checkpoint, config: SegmenterConfig, wrong: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match='choose'):
        Segmenter(trained, replace(config, **wrong))


@pytest.mark.parametrize(('version', 'key', 'value'), [
    ('1.32.0', 'spin_duration_us', '20'), ('1.26.0', 'spin_duration_us', '20'),
    ('2.0.1', 'spin_duration_us', '20'), ('1.25.1', 'allow_spinning', '0'),
    ('1.20.0', 'allow_spinning', '0'), ('1.26.0.dev20260401001', 'spin_duration_us', '20')])
def test_threads_wait_busily_for_microseconds_or_not_at_all(
    version: str, key: str, value: str
) -> None:
    """A version that does not know for how long would do it for as long as it likes."""
    assert waiting(version)[f'session.intra_op.{key}'] == value


def test_this_onnxruntime_takes_the_settings_and_as_many_threads_as_cores(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnx_backend, 'usable_cores', lambda: 3)
    asked: list[int] = []
    monkeypatch.setattr(onnx_backend, 'OnnxSessions', lambda make, most: asked.append(most))
    onnx_backend.load_sessions(onnxruntime, b'')
    assert asked == [3]
    options = session_options(onnxruntime, 3)
    assert options.intra_op_num_threads == 3
    for key, value in waiting(onnxruntime.__version__).items():
        assert options.get_session_config_entry(key) == value


def test_later_frames_take_no_more_memory(
    trained: Checkpoint, config: SegmenterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's memory pattern would take as much again, 67 MB here, from the second on."""
    monkeypatch.setattr(FreeCores, 'count', lambda self, window_s: None)  # no other session
    frame = np.zeros((512, 1024, 3), np.uint8)
    with Segmenter(trained, replace(config, input_height=512, input_width=1024)) as segmenter:
        before_mb = resident_mb()  # the first was the self-check's
        for _ in range(3):
            segmenter.segment([frame])
        assert resident_mb() - before_mb < 30
