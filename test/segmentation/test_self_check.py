# SPDX-License-Identifier: Apache-2.0
"""A compiled program must say what the network says."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from lednet_ros.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from lednet_ros.model.labels import LabelClass, LabelSet
from lednet_ros.model.lednet import LEDNet
from lednet_ros.segmentation.backends.graph import make_graph
from lednet_ros.segmentation.self_check import SelfCheck, make_frames, self_check

SIZE = (96, 160)


@pytest.fixture(scope='module')
def checkpoint() -> Checkpoint:
    return load_checkpoint(default_checkpoint())


def program_of(
    checkpoint: Checkpoint, dtype: torch.dtype, confidence: bool = False,
    floors: Sequence[float] = (),
) -> Callable[[np.ndarray], list[np.ndarray]]:
    graph = make_graph(checkpoint, confidence, torch.device('cpu'), 'fp32', floors).to(dtype)

    @torch.no_grad()
    def run(frames: np.ndarray) -> list[np.ndarray]:
        return [output.numpy() for output in graph(torch.from_numpy(frames))]

    return run


def test_the_network_agrees_with_itself(checkpoint: Checkpoint) -> None:
    found = self_check(checkpoint, program_of(checkpoint, torch.float32), *SIZE, batch=2)
    assert found.agreement == 1.0
    assert found.refusal is None


@pytest.mark.parametrize('size', [(360, 480), (512, 1024), (33, 47)], ids=str)
def test_made_up_frames_leave_the_shipped_network_in_little_doubt(
    checkpoint: Checkpoint, size: tuple[int, int]
) -> None:
    """Where torch itself is unsure nothing can be judged, so most pixels must be clear."""
    found = self_check(
        checkpoint, lambda frames: [np.zeros(frames.shape[:3], np.int32)], *size)
    assert found.decided > 0.8


def test_the_frames_show_more_than_one_class(checkpoint: Checkpoint) -> None:
    labels, = program_of(checkpoint, torch.float32)(make_frames(1, 360, 480))
    assert np.count_nonzero(np.bincount(labels.ravel()) > labels.size // 100) >= 3


def test_what_fp16_rounds_away_passes(checkpoint: Checkpoint) -> None:
    found = self_check(checkpoint, program_of(checkpoint, torch.float16), *SIZE)
    assert 0.995 < found.agreement <= 1.0
    assert found.refusal is None


def test_a_wrong_program_is_refused_with_its_number(checkpoint: Checkpoint) -> None:
    right = program_of(checkpoint, torch.float32)

    def wrong(frames: np.ndarray) -> list[np.ndarray]:  # as if blue and red were not swapped
        return right(np.ascontiguousarray(frames[..., ::-1]))

    found = self_check(checkpoint, wrong, *SIZE)
    assert found.agreement < 0.99
    assert found.refusal is not None
    assert f'{found.agreement:.3%}' in found.refusal
    assert 'at least 99% are needed' in found.refusal


def test_two_frames_swapped_in_a_batch_are_noticed(checkpoint: Checkpoint) -> None:
    right = program_of(checkpoint, torch.float32)
    found = self_check(checkpoint, lambda frames: [right(frames)[0][::-1]], *SIZE, batch=2)
    assert found.refusal is not None


def floors_of(checkpoint: Checkpoint) -> tuple[float, ...]:
    assert checkpoint.metadata.score_floors is not None
    return checkpoint.metadata.score_floors.at(0.2)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize('has_floors', [False, True])
def test_confidence_agrees_too(
    checkpoint: Checkpoint, dtype: torch.dtype, has_floors: bool
) -> None:
    floors = floors_of(checkpoint) if has_floors else ()
    found = self_check(checkpoint, program_of(checkpoint, dtype, True, floors), *SIZE,
                       confidence=True, floors=floors)
    assert found.agreement > 0.998


@pytest.mark.parametrize('what', ['temperature', 'floors', 'none'])
def test_a_program_with_another_confidence_is_refused(checkpoint: Checkpoint, what: str) -> None:
    """Its labels are right: a planner that asks for 0.9 would get other ground for all that."""
    cold = replace(checkpoint, metadata=replace(checkpoint.metadata, temperature=5.0))
    wrong = program_of(cold if what == 'temperature' else checkpoint, torch.float32, True,
                       floors_of(checkpoint) if what == 'floors' else ())

    def run(frames: np.ndarray) -> list[np.ndarray]:
        labels, certainty = wrong(frames)
        return [labels, np.zeros_like(certainty) if what == 'none' else certainty]

    assert self_check(checkpoint, run, *SIZE).refusal is None
    assert self_check(checkpoint, run, *SIZE, confidence=True).refusal is not None


@pytest.mark.parametrize(
    ('agreement', 'decided', 'refused'),
    [(0.99, 0.51, False), (0.9899, 0.9, True), (1.0, 0.5, True), (float('nan'), 0.9, True)])
def test_the_limits(agreement: float, decided: float, refused: bool) -> None:
    assert (SelfCheck(agreement, decided).refusal is not None) == refused


def test_a_network_of_one_class_has_no_second_best(checkpoint: Checkpoint) -> None:
    labels = LabelSet('one', (LabelClass('road', (1, 2, 3), 'flat'),))
    one = Checkpoint(
        LEDNet(1).eval(), labels, checkpoint.preprocessing, checkpoint.metadata)
    found = self_check(one, program_of(one, torch.float32), *SIZE)
    assert found == SelfCheck(1.0, 1.0)


def test_the_frames_are_the_same_every_time() -> None:
    np.testing.assert_array_equal(make_frames(2, 48, 64), make_frames(2, 48, 64))
