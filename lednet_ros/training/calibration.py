# SPDX-License-Identifier: Apache-2.0
"""
Fits the temperature that scores are divided by before softmax, so that confidence is true.

One number changes no label: the class with the largest score stays the same (Guo et al., 2017).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lednet_ros.common.errors import DataError
from lednet_ros.datasets.checks import require_classes
from lednet_ros.datasets.drives import drive_of
from lednet_ros.datasets.layouts import DataSet
from lednet_ros.model.checkpoint import Checkpoint, write_checkpoint
from lednet_ros.model.labels import UNLABELLED
from lednet_ros.model.networks import upsample
from lednet_ros.model.score_floors import ScoreFloors
from lednet_ros.segmentation.backends.graph import ScoreGraph
from lednet_ros.segmentation.letterbox import Fit, place_all

BINS = 15            # of confidence, of equal width, in the expected calibration error
RANGE = (0.1, 10.0)  # a network that is always right would have its temperature fall to 0

_PIXELS = 400_000    # of a split, at most: enough for one number, and little memory
_HALVINGS = 40       # of RANGE, by its logarithm


@dataclass(frozen=True)
class Samples:
    """Labelled pixels of a split, at random, in the order of its images."""

    scores: np.ndarray  # float32 (pixels, classes)
    truth: np.ndarray   # uint8 (pixels,): class id
    image: np.ndarray   # int32 (pixels,): index of the image


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it was fitted to."""

    temperature: float
    ece_before: float  # expected calibration error, 0 to 1, without it
    ece_after: float   # with one fitted on the other half of the images; NaN for a single image
    data: str
    split: str
    images: int
    pixels: int
    drives: list[str]  # that the images are of, where their names say so
    floors: ScoreFloors

    def __str__(self) -> str:
        """Return it as a line."""
        after = ('' if np.isnan(self.ece_after) else
                 f' -> {100 * self.ece_after:.2f} % on the half that was not fitted to')
        return (f'temperature {self.temperature:.3f}{_at_limit(self.temperature)}, fitted on '
                f'{self.split} of {self.data} ({self.images} images): expected calibration error '
                f'{100 * self.ece_before:.2f} %{after}')

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint's record keeps, in plain numbers."""
        return {key: (None if np.isnan(value) else round(value, 5))
                if isinstance(value, float) else value for key, value in asdict(self).items()
                if key != 'floors'}


def calibrate(
    checkpoint: Checkpoint, data: DataSet, device: torch.device,
    on_image: Callable[[], None] = lambda: None,
) -> Calibration:
    """
    Fit a temperature to labelled images that the network has not learnt from.

    Raise ConfigError for other classes than the network's, DataError for what cannot be read.
    """
    require_classes(checkpoint.name, checkpoint.labels, data)
    samples = sample(checkpoint, data, device, on_image)
    before, after = judge(samples)
    named = [pair.image for pair in data.pairs if '_' in pair.image.stem]
    return Calibration(
        fit_temperature(samples.scores, samples.truth), before, after, data.root.name, data.split,
        len(data), len(samples.truth), sorted({drive_of(image) for image in named}),
        ScoreFloors.of(samples.scores.max(1), samples.scores.argmax(1), len(data.labels)))


def write_calibrated(checkpoint: Checkpoint, calibration: Calibration, path: Path) -> None:
    """Write a checkpoint with its temperature, and where that comes from in its record."""
    metadata = checkpoint.metadata
    write_checkpoint(path, replace(checkpoint, metadata=replace(
        metadata, training={**metadata.training, 'calibration': calibration.to_dict()},
        temperature=calibration.temperature, score_floors=calibration.floors)))


def sample(
    checkpoint: Checkpoint, data: DataSet, device: torch.device,
    on_image: Callable[[], None] = lambda: None,
) -> Samples:
    """Return the scores of labelled pixels, as many of each image, seen as the node sees it."""
    size = checkpoint.metadata.input_height, checkpoint.metadata.input_width
    graph = ScoreGraph(copy.deepcopy(checkpoint.network), checkpoint.preprocessing)
    graph = graph.to(device).eval()
    rng = np.random.default_rng(0)
    found: list[tuple[np.ndarray, np.ndarray, int]] = []
    for index in range(len(data)):
        image, truth = data.read(index)
        fit = Fit.make(image.shape[:2], size, 'letterbox')
        known = np.flatnonzero(truth != UNLABELLED)
        chosen = rng.permutation(known)[:max(1, _PIXELS // len(data))]
        # Which of the input's pixels each of the image's is shown by.
        places = fit.back(np.arange(size[0] * size[1], dtype=np.int32).reshape(size))
        with torch.no_grad():
            frame = torch.from_numpy(place_all([image], [True], [fit])).to(device)
            full = upsample(graph.network, graph(frame).float(), size)[0]
            scores = full.flatten(1).cpu().numpy()
        if not np.isfinite(scores).all():
            raise checkpoint.diverged(data.pairs[index].image)
        found.append((scores[:, places.ravel()[chosen]].T, truth.ravel()[chosen], index))
        on_image()
    if not sum(len(truth) for _, truth, _ in found):
        raise DataError(f'{data.root} {data.split}: no pixel has a class that counts: label some')
    return Samples(
        np.concatenate([scores for scores, _, _ in found]),
        np.concatenate([truth for _, truth, _ in found]),
        np.concatenate([np.full(len(truth), index, np.int32) for _, truth, index in found]))


def fit_temperature(scores: np.ndarray, truth: np.ndarray) -> float:
    """
    Return the temperature of the largest likelihood: scores (N, classes), class ids (N,).

    The likelihood has one maximum; where its slope changes sign is found by halving.
    """
    own = np.take_along_axis(scores, truth[:, None].astype(np.intp), 1)[:, 0]
    low, high = np.log(RANGE)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        expected = (softmax(scores, float(np.exp(middle))) * scores).sum(1)
        if float(np.mean(expected - own, dtype=np.float64)) > 0:  # too sure
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def softmax(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities of scores (N, classes), float32."""
    behind = (scores - scores.max(1, keepdims=True)) * np.float32(1 / temperature)
    np.exp(behind, out=behind)
    behind /= behind.sum(1, keepdims=True)
    return behind


def _at_limit(temperature: float) -> str:
    """Return what it says of the network where no temperature within RANGE is the best."""
    low, high = RANGE
    if temperature > 0.99 * high:
        return (' (the largest allowed: the network is hardly ever right about these images, so '
                'train longer or look at the labels)')
    if temperature < 1.01 * low:
        return (' (the smallest allowed: the network is always right about these images, so fit '
                'to others that it has not learnt from)')
    return ''


def judge(samples: Samples) -> tuple[float, float]:
    """
    Return the calibration error without a temperature, and with one of the other half.

    Halves in the order of the images: neighbours in a drive are much alike.
    """
    before = sample_error(samples.scores, samples.truth, 1.0)
    late = samples.image > np.median(np.unique(samples.image))
    if not 0 < late.sum() < len(late):
        return before, float('nan')
    after = 0.0
    for half in (late, ~late):
        temperature = fit_temperature(samples.scores[~half], samples.truth[~half])
        after += half.mean() * sample_error(
            samples.scores[half], samples.truth[half], temperature)
    return before, float(after)


def sample_error(scores: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """Return the expected calibration error of scores (N, classes) and class ids (N,)."""
    probabilities = softmax(scores, temperature)
    confidence, is_right = probabilities.max(1), probabilities.argmax(1) == truth
    bins = bin_of(confidence)
    said, right = (np.bincount(bins, values, BINS) for values in (confidence, is_right))
    return float(np.abs(said - right).sum() / len(truth))


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence from 0 to 1, integer."""
    return np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
