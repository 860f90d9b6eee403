# SPDX-License-Identifier: Apache-2.0
"""How lednet_segment and lednet_select say what they read and how they go on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lednet_ros.common.errors import ConfigError
from lednet_ros.common.paths import expanded

if TYPE_CHECKING:
    from lednet_ros.offline.output_dir import Output
    from lednet_ros.segmentation import Segmenter, SegmenterConfig

MAX_BATCH = 32  # a typing error must not become an allocation


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the sources, as positional arguments."""
    parser.add_argument('sources', nargs='+', type=expanded, metavar='SOURCE',
                        help='an image, a video, a bag (its directory or file), or a directory of '
                        'these')


def add_reading_arguments(parser: argparse.ArgumentParser, results: str) -> None:
    """Add --topics, --overwrite, of `results`, and --batch."""
    parser.add_argument('--topics', nargs='+', default=[], metavar='TOPIC',
                        help='of bags (default: each that shows pictures)')
    parser.add_argument('--overwrite', action='store_true', help=f'replace {results} of before')
    parser.add_argument('--batch', type=int, default=1, metavar='N',
                        help='frames segmented at once (default: %(default)s)')


def check_reading(args: argparse.Namespace) -> None:
    """Raise ConfigError for a batch that cannot be meant, and for sources that are not there."""
    from lednet_ros.offline.sources import fault_of
    if not 1 <= args.batch <= MAX_BATCH:
        raise ConfigError(f'--batch is {args.batch}: give 1 to {MAX_BATCH} frames')
    for source in args.sources:
        if fault := fault_of(source):
            raise ConfigError(f'{source}: {fault}')


def open_output(
    args: argparse.Namespace, config: SegmenterConfig, segmenter: Segmenter,
    settings: dict[str, Any], **more: Any,
) -> Output:
    """
    Open --output for what this network makes with these settings besides its own.

    `more` is for Output. Raise ConfigError.
    """
    from lednet_ros.offline.output_dir import Output
    height, width = segmenter.input_size
    return Output(
        args.output, {
            'checkpoint': segmenter.checkpoint.sha256, 'input': f'{width}x{height}',
            'fit': config.fit, 'temperature': segmenter.checkpoint.metadata.temperature,
            **settings},
        args.sources, args.overwrite, **more)
