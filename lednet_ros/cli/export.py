# SPDX-License-Identifier: Apache-2.0
"""lednet_export: write a checkpoint as an ONNX file for other runtimes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lednet_ros.common.command import command, say
from lednet_ros.common.errors import BackendUnavailable, ConfigError, printable
from lednet_ros.common.paths import expanded, given

if TYPE_CHECKING:
    import numpy as np

    from lednet_ros.model.checkpoint import Checkpoint
    from lednet_ros.segmentation.onnx_export import ExportConfig

MAX_BATCH = 256  # a typing error must not become an allocation


@command('lednet_export')
def main(argv: Sequence[str] | None = None) -> int:
    """Write the file and compare it with torch. Return 0, or 1 where they disagree."""
    args = _parse(argv)
    from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
    from lednet_ros.segmentation.onnx_export import ExportConfig, export_onnx
    checkpoint = load_checkpoint(args.checkpoint or default_checkpoint())
    height, width = _input_size(args, checkpoint)
    config = ExportConfig(height, width, args.outputs, args.batch)
    if args.output.exists() and not args.overwrite:
        raise ConfigError(f'{args.output}: exists already: choose another --output, or '
                          '--overwrite')
    data: bytes = export_onnx(checkpoint, config).SerializeToString()
    verdict = _check(data, checkpoint, config)
    _write(args.output, data)
    shape = f'({args.batch or "N"}, {height}, {width}, 3)'
    print(f'{printable(str(args.output))}: {args.outputs} of {len(checkpoint.labels)} classes '
          f'from frames uint8 {shape} RGB, {len(data) / 1e6:.1f} MB; {verdict}')
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='lednet_export', description='Write a checkpoint as an ONNX file for other runtimes. '
        'It takes uint8 RGB frames of one size; class names and colours are in its metadata. '
        "Before it is written, ONNX Runtime's result is compared with torch's.")
    parser.add_argument('--checkpoint', type=given, metavar='FILE',
                        help='the weights (default: the shipped ones)')
    parser.add_argument('--output', type=expanded, required=True, metavar='FILE.onnx')
    parser.add_argument('--outputs', choices=('labels', 'scores'), default='labels',
                        help='labels: class ids of the full size, 255 for void classes; scores: '
                        "of each class, at the network's stride, LEDNet's at 1/8 of the size "
                        '(default: %(default)s)')
    parser.add_argument('--batch', type=int, default=0, metavar='N',
                        help='frames at once, fixed (default: any number)')
    for side in ('height', 'width'):
        parser.add_argument(f'--input-{side}', type=int, default=0, metavar='PIXELS',
                            help="of the frames (default: the checkpoint's)")
    parser.add_argument('--overwrite', action='store_true', help='replace a file of that name')
    return parser.parse_args(argv)


def _input_size(args: argparse.Namespace, checkpoint: Checkpoint) -> tuple[int, int]:
    """Return the frames' (height, width). Raise ConfigError for what no file can have."""
    from lednet_ros.segmentation.config import SegmenterConfig
    if not 0 <= args.batch <= MAX_BATCH:
        raise ConfigError(f'--batch is {args.batch}: give 1 to {MAX_BATCH} frames, or 0 for any '
                          'number')
    return SegmenterConfig(input_height=args.input_height,
                           input_width=args.input_width).input_size(checkpoint)


def _check(data: bytes, checkpoint: Checkpoint, config: ExportConfig) -> str:
    """Compare the program with torch, and say how. Raise ConfigError where they disagree."""
    from lednet_ros.segmentation.onnx_export import compare_with_torch
    try:
        run = _program(data)
    except BackendUnavailable as error:
        say('lednet_export', f'not compared with torch: {error}')
        return 'not compared with torch'
    found = compare_with_torch(checkpoint, config, run)
    if found.refusal:
        raise ConfigError(f'{checkpoint.name}: is not written, as {found.refusal}: give a trained '
                          'checkpoint, or another --input-height and --input-width')
    return f'in ONNX Runtime it {found}'


def _program(data: bytes) -> Callable[[np.ndarray], Any]:
    """Return what runs it in ONNX Runtime: frames in, its output back."""
    from lednet_ros.common.cpu import usable_cores
    from lednet_ros.segmentation.backends.onnxruntime import import_onnxruntime, session_options
    runtime = import_onnxruntime()
    session = runtime.InferenceSession(
        data, session_options(runtime, usable_cores()), providers=['CPUExecutionProvider'])
    return lambda frames: session.run(None, {'frames': frames})[0]


def _write(path: Path, data: bytes) -> None:
    from lednet_ros.common.atomic_file import whole_file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise ConfigError(f'{path}: cannot be written: {error.strerror}: choose another '
                          '--output') from error


if __name__ == '__main__':
    sys.exit(main())
