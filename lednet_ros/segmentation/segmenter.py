# SPDX-License-Identifier: Apache-2.0
"""The one door: camera frames of any size in, label images of the same size out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np

from lednet_ros.common.cpu import limit_opencv
from lednet_ros.model.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from lednet_ros.model.labels import UNLABELLED, LabelSet
from lednet_ros.segmentation.backends.base import BackendInfo
from lednet_ros.segmentation.backends.registry import make_backend
from lednet_ros.segmentation.config import SegmenterConfig, fixed_output_size
from lednet_ros.segmentation.devices import device_health
from lednet_ros.segmentation.letterbox import Fit
from lednet_ros.segmentation.self_check import SelfCheck


@dataclass(frozen=True)
class Segmentation:
    """
    What the network sees in one frame. The arrays are the caller's.

    They have the size that `output_size` says. Of the network's, what lies beside a letterboxed
    frame is unlabelled, with no confidence; of others, the whole frame is scaled onto the whole.
    """

    labels: np.ndarray             # uint8 (H, W): class id, 255 unlabelled
    confidence: np.ndarray | None  # uint8 (H, W): 255 x probability of the chosen class
    timings: dict[str, float]      # ms of preprocess, inference and postprocess, of its batch
    fit: Fit                       # where the frame lay in the network's input
    place: Fit                     # where it lies in the label image


class Segmenter:
    """
    A checkpoint made ready to run. Use it from one thread at a time; close it once.

    `checkpoint` is a file, a loaded Checkpoint, or None for the one that comes with the package.
    Raise CheckpointError, ConfigError, BackendUnavailable or OutOfMemory.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | str | Path | None = None,
        config: SegmenterConfig | None = None,
    ) -> None:
        limit_opencv()
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = load_checkpoint(checkpoint or default_checkpoint())
        self.checkpoint = checkpoint
        self.config = config = config or SegmenterConfig()
        self.input_size = config.input_size(checkpoint)
        self._backend = make_backend(checkpoint, config)
        self._to_label = np.arange(256, dtype=np.uint8)
        self._to_label[checkpoint.labels.void_ids] = UNLABELLED

    @property
    def labels(self) -> LabelSet:
        """Names and colours of what `Segmentation.labels` holds."""
        return self.checkpoint.labels

    @property
    def backend(self) -> str:
        """What runs the network and why, for people: 'torch cpu fp32 (no CUDA GPU)'."""
        return str(self._backend.info)

    @property
    def backend_info(self) -> BackendInfo:
        """The same as fields: kind, device, precision and reason."""
        return self._backend.info

    @property
    def self_check(self) -> SelfCheck | None:
        """How far the compiled program agrees with torch in fp32; None where none was compiled."""
        return self._backend.self_check

    @property
    def build_s(self) -> float | None:
        """How long the compiled program took to build; 0: cached; None: none is needed."""
        return self._backend.build_s

    def device_health(self) -> dict[str, float]:
        """Return the GPU's `gpu_used_mb`, `gpu_total_mb`, `gpu_temperature_c`, as far as known."""
        return device_health(self._backend.info.device)

    def segment(
        self,
        frames: Sequence[np.ndarray],
        rgb: bool | Sequence[bool] = False,
        confidence: bool = False,
        min_confidence: float | None = None,
        output_size: str | None = None,
    ) -> list[Segmentation]:
        """
        Segment frames in one batch.

        Frames are uint8 (H, W, 3) of any sizes, rows possibly padded; BGR, or RGB where `rgb`
        says so (for all, or one by one). They are read only. `min_confidence` (0 to 1) and
        `output_size` override the configuration's.
        """
        if not frames:
            return []
        are_rgb = [rgb] * len(frames) if isinstance(rgb, bool) else list(rgb)
        floor = self.config.min_confidence if min_confidence is None else min_confidence

        started_s = perf_counter()
        for frame in frames:
            _check(frame)
        fits = [Fit.make(frame.shape[:2], self.input_size, self.config.fit) for frame in frames]
        batch = self._backend.preprocess(frames, are_rgb, fits)
        prepared_s = perf_counter()
        # Where the score is too low for any class, the backend gives a confidence of 0.
        least = max(floor * 255, 1.0 if self.config.unfamiliar_share else 0.0)
        result = self._backend.run(batch, confidence or least > 0)
        labels = result.labels
        if self.labels.void_ids:
            labels = self._to_label[labels]
        if least > 0:
            assert result.confidence is not None
            labels = np.where(result.confidence < least, np.uint8(UNLABELLED), labels)
        places = [self.place(frame.shape[:2], output_size) for frame in frames]
        label_images = [_outwards(fit, place, one, UNLABELLED)
                        for fit, place, one in zip(fits, places, labels, strict=True)]
        certainties: list[Any] = [None] * len(frames)
        if confidence:
            assert result.confidence is not None
            certainties = [_outwards(fit, place, one, 0) for fit, place, one in zip(
                fits, places, result.confidence, strict=True)]
        preprocess_ms = (prepared_s - started_s) * 1e3 + result.preprocess_ms
        took_ms = (perf_counter() - started_s) * 1e3
        # All that is neither: so they account for the whole, thread switches included.
        postprocess_ms = max(0.0, took_ms - preprocess_ms - result.inference_ms)
        timings = {'preprocess': preprocess_ms, 'inference': result.inference_ms,
                   'postprocess': postprocess_ms}
        return [Segmentation(label, certainty, timings, fit, place)
                for label, certainty, fit, place in zip(
                    label_images, certainties, fits, places, strict=True)]

    def place(self, camera: tuple[int, int], output_size: str | None = None) -> Fit:
        """Return where a camera's frame, of (height, width), lies in its label image."""
        output_size = self.config.output_size if output_size is None else output_size
        if output_size == 'network':
            return Fit.make(camera, self.input_size, self.config.fit)
        return Fit.make(camera, fixed_output_size(output_size) or camera, 'stretch')

    def colorize(self, labels: np.ndarray) -> np.ndarray:
        """Paint a label image, uint8 (H, W), in its classes' colours: uint8 (H, W, 3) RGB."""
        return cv2.applyColorMap(labels, self.labels.palette[:, None])

    def close(self) -> None:
        """Release the device's memory. The Segmenter cannot be used afterwards."""
        self._backend.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _outwards(fit: Fit, place: Fit, image: np.ndarray, beside: int) -> np.ndarray:
    """Bring a (H, W) image of the network's size to the label image's."""
    if place == fit:
        fit.blank(image, beside)
        return image
    return fit.back(image, (place.input_height, place.input_width))


def _check(frame: np.ndarray) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise ValueError(f'a frame is {frame.dtype} {frame.shape}: give uint8 (H, W, 3)')
