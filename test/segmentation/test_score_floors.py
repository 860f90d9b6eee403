# SPDX-License-Identifier: Apache-2.0
"""Pixels that score lower than ordinary ones of their class become 255, in every backend alike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lednet_ros.common.errors import ConfigError
from lednet_ros.model.checkpoint import (
    Checkpoint,
    default_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from lednet_ros.model.lednet import resize
from lednet_ros.model.score_floors import SHARES, ScoreFloors
from lednet_ros.segmentation import Segmenter, SegmenterConfig
from lednet_ros.segmentation.backends.graph import ScoreGraph
from lednet_ros.segmentation.self_check import make_frames

FRAME = make_frames(1, 96, 128)[0]


@pytest.fixture(scope='module')
def trained() -> Checkpoint:
    """The shipped network, with floors that about half of this frame's pixels lie below."""
    checkpoint = load_checkpoint(default_checkpoint())
    graph = ScoreGraph(checkpoint.network, checkpoint.preprocessing)
    with torch.no_grad():
        scores = resize(graph(torch.from_numpy(FRAME)[None]), FRAME.shape[:2])[0]
    middle = float(scores.amax(0).median())
    floors = ScoreFloors((0.01, 0.2), tuple((middle - c / 10, middle + 1) for c in range(11)))
    return replace(checkpoint, metadata=replace(checkpoint.metadata, score_floors=floors))


def segment(checkpoint: Checkpoint, directory: Path, backend: str, share: float, **how):
    config = SegmenterConfig(backend=backend, device='cpu', input_height=96, input_width=128,
                             engine_cache_dir=str(directory), unfamiliar_share=share)
    with Segmenter(checkpoint, config) as segmenter:
        return segmenter.segment([FRAME], rgb=True, **how)[0]


@pytest.mark.parametrize('backend', ['torch', 'onnxruntime'])
def test_what_is_below_the_floor_of_its_class_becomes_255_and_nothing_else(
    trained: Checkpoint, tmp_path: Path, backend: str
) -> None:
    if backend == 'onnxruntime':
        pytest.importorskip('onnxruntime')
    graph = ScoreGraph(trained.network, trained.preprocessing)
    with torch.no_grad():
        scores = resize(graph(torch.from_numpy(FRAME)[None]), FRAME.shape[:2])[0].numpy()
    plain = segment(trained, tmp_path, backend, 0.0, confidence=True)
    found = segment(trained, tmp_path, backend, 0.01, confidence=True)
    assert trained.metadata.score_floors is not None
    above = scores.max(0) - np.array(trained.metadata.score_floors.at(0.01))[scores.argmax(0)]
    clear = np.abs(above) > 1e-3
    assert 0.2 < (above < 0).mean() < 0.8
    expected = np.where(above < 0, 255, plain.labels)
    assert np.array_equal(found.labels[clear], expected[clear])
    assert (found.confidence[clear & (above < 0)] == 0).all()
    assert np.array_equal(found.confidence[clear & (above > 0)],
                          plain.confidence[clear & (above > 0)])


def test_a_checkpoint_without_floors_is_named_with_the_remedy(
    trained: Checkpoint, tmp_path: Path
) -> None:
    bare = replace(trained, metadata=replace(trained.metadata, score_floors=None))
    with pytest.raises(ConfigError, match=r'unfamiliar_share is 0\.01, but lednet-camvid\.saf'
                                          r'etensors does not say .* lednet_evaluate --calibrate'):
        segment(bare, tmp_path, 'torch', 0.01)


def test_a_share_beyond_those_kept_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'unfamiliar_share is 0\.5: give one from 0 to 0\.2'):
        SegmenterConfig(unfamiliar_share=0.5)


def test_floors_are_the_scores_that_shares_of_a_class_lie_below() -> None:
    best = np.concatenate([np.arange(1000), 5000 + np.arange(1000), np.ones(3)])
    seen = np.repeat([0, 1, 2], [1000, 1000, 3])
    floors = ScoreFloors.of(best, seen, 4)
    assert floors.shares == SHARES
    low = floors.at(0.1)
    assert low[:2] == (pytest.approx(99.9), pytest.approx(5099.9))
    assert max(low[2:]) <= -1e4  # too few pixels to say: none is unfamiliar
    assert floors.at(0.03)[0] == pytest.approx(29.97, abs=0.5)


def test_floors_come_back_from_a_file(trained: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / 'net.safetensors'
    floors = ScoreFloors((0.1, 0.2), ((1.0, 2.0), *[None] * 10))
    save_checkpoint(path, trained.network, trained.labels, input_height=360, input_width=480,
                    score_floors=floors)
    assert load_checkpoint(path).metadata.score_floors == floors


@pytest.mark.parametrize('data', [
    {'shares': [0.2, 0.1], 'by_class': [[1, 2]]}, {'shares': [0.1], 'by_class': [[1, 2]]},
    {'shares': [0.1], 'by_class': [[float('nan')]]}, {'shares': [0.1], 'by_class': []},
], ids=['order', 'length', 'nan', 'classes'])
def test_damaged_floors_are_refused(data) -> None:
    with pytest.raises(ConfigError, match='score_floors are'):
        ScoreFloors.from_dict(data, 1)
