# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint is run: what the Segmenter and its backends agree on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lednet_ros.common.errors import ConfigError
from lednet_ros.model.input_size import MAX_INPUT_SIZE, MIN_INPUT_SIZE
from lednet_ros.model.score_floors import SHARES
from lednet_ros.segmentation.backends.registry import CHOICES

if TYPE_CHECKING:
    from lednet_ros.model.checkpoint import Checkpoint

PRECISIONS = ('auto', 'fp16', 'fp32')
FITS = ('letterbox', 'stretch')
OUTPUT_SIZES = ('camera', 'network')  # or WIDTHxHEIGHT
_MIN_OUTPUT_SIZE = 8
MAX_UNFAMILIAR_SHARE = SHARES[-1]


@dataclass(frozen=True)
class SegmenterConfig:
    """How a checkpoint is run. Checked when made, so nothing further in has to ask again."""

    backend: str = 'auto'        # what runs the network, one of registry.CHOICES
    device: str = 'auto'         # 'auto', 'cpu', 'cuda' or 'cuda:N'
    precision: str = 'auto'      # 'auto' is fp16 on CUDA and fp32 on the CPU
    input_height: int = 0        # of the network's input in pixels; 0: the checkpoint's
    input_width: int = 0
    fit: str = 'letterbox'       # 'letterbox' keeps the aspect ratio, 'stretch' fills the input
    output_size: str = 'camera'  # of label images: the frame's, 'network' or 'WIDTHxHEIGHT'
    min_confidence: float = 0.0  # a pixel less certain than this becomes 255
    # a pixel whose score this share of ordinary ones of its class lie below becomes 255; 0: none
    unfamiliar_share: float = 0.0
    no_tensorrt: str = ''        # why 'auto' is to leave TensorRT out; '': it is not
    engine_cache_dir: str = ''   # where compiled programs are kept; '': ~/.cache/lednet_ros

    def __post_init__(self) -> None:
        for name, choices in (('backend', CHOICES), ('precision', PRECISIONS), ('fit', FITS)):
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(f'{name} is {value!r}: choose {", ".join(choices)}')
        if fault := output_size_fault(self.output_size):
            raise ConfigError(f'output_size {fault}')
        check_device(self.device)
        for name in ('input_height', 'input_width'):
            value = getattr(self, name)
            if value != 0 and not MIN_INPUT_SIZE <= value <= MAX_INPUT_SIZE:
                raise ConfigError(f"{name} is {value}: give {MIN_INPUT_SIZE} to {MAX_INPUT_SIZE} "
                                  "pixels, or 0 for the checkpoint's")
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ConfigError(f'min_confidence is {self.min_confidence}: give one from 0 to 1')
        if not 0.0 <= self.unfamiliar_share <= MAX_UNFAMILIAR_SHARE:
            raise ConfigError(f'unfamiliar_share is {self.unfamiliar_share}: give one from 0 to '
                              f'{MAX_UNFAMILIAR_SHARE}')

    def input_size(self, checkpoint: Checkpoint) -> tuple[int, int]:
        """Return the (height, width) of the network's input."""
        return (self.input_height or checkpoint.metadata.input_height,
                self.input_width or checkpoint.metadata.input_width)


    def score_floors(self, checkpoint: Checkpoint) -> tuple[float, ...]:
        """
        Return the score by class below which a pixel becomes 255; (): none does.

        Raise ConfigError where the checkpoint does not know how low ordinary pixels score.
        """
        if not self.unfamiliar_share:
            return ()
        if checkpoint.metadata.score_floors is None:
            raise ConfigError(
                f'unfamiliar_share is {self.unfamiliar_share}, but {checkpoint.name} does not say '
                'how low the scores of ordinary pixels are: have them measured by lednet_evaluate '
                '--calibrate, or set it to 0')
        return checkpoint.metadata.score_floors.at(self.unfamiliar_share)


def fixed_output_size(output_size: str) -> tuple[int, int] | None:
    """Return the (height, width) that 'WIDTHxHEIGHT' says; None for a word of OUTPUT_SIZES."""
    if output_size in OUTPUT_SIZES:
        return None
    width, height = map(int, output_size.split('x'))
    return height, width


def output_size_fault(output_size: str) -> str:
    """Return what is wrong with an output size, '' where nothing is."""
    sides = re.fullmatch(r'([1-9]\d{0,4})x([1-9]\d{0,4})', str(output_size), re.ASCII)
    if output_size in OUTPUT_SIZES or (sides and all(
            _MIN_OUTPUT_SIZE <= int(side) <= MAX_INPUT_SIZE for side in sides.groups())):
        return ''
    return (f'is {output_size!r}: choose {", ".join(OUTPUT_SIZES)}, or WIDTHxHEIGHT such as '
            f'424x240, each side {_MIN_OUTPUT_SIZE} to {MAX_INPUT_SIZE} pixels')


def check_device(device: str) -> None:
    """Raise ConfigError for what names no device."""
    if not re.fullmatch(r'auto|cpu|cuda(:(0|[1-9]\d?))?', device):
        raise ConfigError(f'device is {device!r}: choose auto, cpu or cuda:N')
