# SPDX-License-Identifier: Apache-2.0
"""How commands say how a checkpoint is run: the same words everywhere."""

from __future__ import annotations

import argparse
from dataclasses import fields

from lednet_ros.common.paths import given
from lednet_ros.segmentation.backends.registry import CHOICES
from lednet_ros.segmentation.config import FITS, PRECISIONS, SegmenterConfig


def add_segmenter_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --checkpoint and what chooses and shapes the backend."""
    default = SegmenterConfig()
    parser.add_argument('--checkpoint', type=given, metavar='FILE',
                        help='the weights (default: the shipped ones)')
    parser.add_argument('--backend', choices=CHOICES, default=default.backend)
    parser.add_argument('--device', default=default.device, help='auto, cpu or cuda:N')
    parser.add_argument('--precision', choices=PRECISIONS, default=default.precision)
    for side in ('height', 'width'):
        parser.add_argument(f'--input-{side}', type=int, default=0, metavar='PIXELS',
                            help="of the network's input (default: the checkpoint's)")
    parser.add_argument('--fit', choices=FITS, default=default.fit,
                        help="keep the image's aspect ratio or fill the input")
    parser.add_argument('--unfamiliar-share', type=float, default=default.unfamiliar_share,
                        metavar='P', help='a pixel that scores below all but this share of the '
                        'ordinary ones of its class becomes 255; below 0.005 it acts as 0.005 '
                        '(default: none does)')
    parser.add_argument('--engine-cache-dir', default=default.engine_cache_dir, metavar='DIR')


def segmenter_config(args: argparse.Namespace) -> SegmenterConfig:
    """Read them back, with any other of SegmenterConfig's fields there. Raise ConfigError."""
    names = {field.name for field in fields(SegmenterConfig)}
    return SegmenterConfig(**{k: v for k, v in vars(args).items() if k in names})
