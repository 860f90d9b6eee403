# SPDX-License-Identifier: Apache-2.0
"""lednet_evaluate: a checkpoint's scores on labelled images, as a table, JSON and pictures."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lednet_ros.common.atomic_file import require_place, write_json
from lednet_ros.common.command import command
from lednet_ros.common.errors import ConfigError
from lednet_ros.common.paths import expanded, given

if TYPE_CHECKING:
    from lednet_ros.datasets.layouts import DataSet
    from lednet_ros.projection.traversability import Traversability
    from lednet_ros.segmentation import Segmenter
    from lednet_ros.training.comparison import Comparison
    from lednet_ros.training.evaluate import Evaluation
    from lednet_ros.training.flicker import Flicker
    from lednet_ros.training.reliability import GroundRow, Reliability
    from lednet_ros.training.robustness import Robustness


@command('lednet_evaluate')
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    return _run(_parse(argv))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    from lednet_ros.cli.segmenter_options import add_segmenter_arguments
    parser = argparse.ArgumentParser(
        prog='lednet_evaluate', description='Score a checkpoint on labelled images: class and '
        "category IoU as in the paper's Table 3, counted as Cityscapes' evaluator does, at the "
        "label images' full size.")
    parser.add_argument('--data', type=expanded, required=True, metavar='DIR',
                        help='Cityscapes, CamVid, images/, labels/ and labels.yaml, or a '
                        'data.yaml')
    parser.add_argument('--split', default='val')
    parser.add_argument('--every', type=int, default=1, metavar='N',
                        help='score each Nth image only: neighbours in a drive are much alike')
    parser.add_argument('--robustness', action='store_true',
                        help='score under changes of light, lens and camera too, at five '
                        'strengths each: takes 56 times as long')
    parser.add_argument('--output', type=expanded, metavar='DIR',
                        help='gets confusion.png, and the best and worst frames as pictures; with '
                        '--robustness also robustness.png and changes.png')
    parser.add_argument('--pictures', type=int, default=4, metavar='N',
                        help='of the best and of the worst frames (default: %(default)s)')
    parser.add_argument('--traversability', default='', metavar='NAME',
                        help='what each class is to a planner, for the table of min_confidence: '
                        'camvid, cityscapes or a YAML file (default: that of the labels, if any)')
    parser.add_argument('--against', type=given, metavar='FILE',
                        help='compare with another checkpoint on the same images: by class and by '
                        'frame, with resamples that say whether it may be chance; --output gets '
                        'the frames won and lost most, side by side')
    parser.add_argument('--flicker', type=given, metavar='FILM',
                        help='measure too how much labels flicker in a video or a directory of '
                        'images one after another, along the optical flow')
    parser.add_argument('--calibrate', type=expanded, metavar='FILE',
                        help='fit the temperature that makes confidence true to these images, '
                        'which the network has not learnt from, and write the checkpoint with it '
                        'as FILE; no label changes')
    parser.add_argument('--table', type=int, choices=(3,),
                        help="lay --checkpoints beside each other in the paper's Table 3; "
                        '--output gets table3.png, mIoU over time and size')
    parser.add_argument('--checkpoints', nargs='+', default=[], metavar='FILE',
                        help='for --table 3')
    parser.add_argument('--json', type=expanded, metavar='FILE')
    add_segmenter_arguments(parser)
    return parser.parse_args(argv)


def _run(args: argparse.Namespace) -> int:
    from lednet_ros.cli.segmenter_options import segmenter_config
    from lednet_ros.datasets.layouts import open_data_set
    from lednet_ros.segmentation import Segmenter
    from lednet_ros.training.evaluation_pictures import require_directory
    from lednet_ros.training.reliability import find_traversability
    for name, least in (('every', 1), ('pictures', 0)):
        if getattr(args, name) < least:
            raise ConfigError(f'--{name} {getattr(args, name)}: give {least} or more')
    require_place(args.json, args.calibrate)
    data = open_data_set(args.data, args.split)
    data = replace(data, pairs=data.pairs[::args.every])
    if bool(args.table) != bool(args.checkpoints):
        raise ConfigError('--table 3 and --checkpoints go together: give both, or a '
                          '--checkpoint')
    for alone, others in (('calibrate', ('table', 'against', 'flicker', 'robustness', 'output')),
                          ('table', ('against', 'flicker', 'robustness'))):
        passed_by = [f'--{name}' for name in others if getattr(args, alone) and getattr(
            args, name)]
        if passed_by:
            raise ConfigError(f'--{alone} leaves out {", ".join(passed_by)}: call it by itself')
    if args.output:
        require_directory(args.output)
    if args.table:
        return _table3(args, data)
    ground = find_traversability(args.traversability, data.labels)
    if args.calibrate:
        return _calibrate(args, data)
    with ExitStack() as stack:
        segmenter = stack.enter_context(
            Segmenter(args.checkpoint or None, segmenter_config(args)))
        found = _measure(args, segmenter, data, ground, stack)
        if args.json:  # first: whoever reads the table may close the pipe
            _write_json(args.json, found, segmenter, data)
        _print(args, found, segmenter, data)
        if args.output:
            for path in _draw(args, found, segmenter, data, ground):
                print(path)
    return 0


@dataclass(frozen=True)
class Found:
    """What was measured of a checkpoint, for the table, JSON and pictures."""

    result: Evaluation
    reliability: Reliability
    ground: list[GroundRow]  # of each min_confidence
    other: tuple[Segmenter, Evaluation] | None
    comparison: Comparison | None  # with the other
    flicker: Flicker | None
    robustness: Robustness | None


def _measure(
    args: argparse.Namespace, segmenter: Segmenter, data: DataSet, ground: Traversability | None,
    stack: ExitStack,
) -> Found:
    from lednet_ros.datasets.checks import require_classes
    from lednet_ros.training.comparison import compare
    from lednet_ros.training.reliability import Reliability, ground_rows
    require_classes(segmenter.checkpoint.name, segmenter.labels, data)
    other = _other(args, data, stack)  # what can fail comes before hours of scoring
    flicker = _flicker(segmenter, args.flicker) if args.flicker else None
    result = _evaluate(segmenter, data, f'{args.split} of {args.data.name}')
    robustness = _robustness(segmenter, data) if args.robustness else None
    second = (other, _evaluate(other, data, other.checkpoint.name)) if other else None
    return Found(
        result, Reliability.of(result.confidence),
        ground_rows(result.confidence, ground) if ground else [], second,
        compare(result, second[1], data.labels, (
            segmenter.checkpoint.name, second[0].checkpoint.name)) if second else None,
        flicker, robustness)


def _evaluate(segmenter: Segmenter, data: DataSet, title: str) -> Evaluation:
    from lednet_ros.common.progress_bar import progress_bar
    from lednet_ros.training.evaluate import evaluate
    with progress_bar() as progress:
        task = progress.add_task(title, total=len(data))
        return evaluate(segmenter, data, lambda: progress.advance(task))


def _print(args: argparse.Namespace, found: Found, segmenter: Segmenter, data: DataSet) -> None:
    from lednet_ros.training.evaluate import left_out, table
    from lednet_ros.training.reliability import ground_table
    result = found.result
    print(f'{segmenter.checkpoint.name}, {args.split} of {args.data.name} ({len(data)} '
          f'images; label set {data.labels.name!r}: {data.labels_from}), by '
          f'{result.backend}\n')
    print('\n'.join([*table(result.scores), *left_out(result, data.labels)]))
    print(f'expected calibration error {100 * found.reliability.error:.2f} % '
          f'(temperature {segmenter.checkpoint.metadata.temperature:g})')
    print('\n' + '\n'.join(ground_table(found.ground) if found.ground else [
        'no table of min_confidence: give --traversability, a YAML file that says which '
        'classes are free ground']))
    for more in (found.comparison, found.flicker, found.robustness):
        if more:
            print('\n' + '\n'.join(more.table()))


def _draw(
    args: argparse.Namespace, found: Found, segmenter: Segmenter, data: DataSet,
    ground: Traversability | None,
) -> Iterator[Path]:
    """Draw into --output; yield each picture's path."""
    from lednet_ros.training.evaluation_pictures import (
        remove_pictures,
        write_pictures,
        write_reliability,
        write_robustness,
        write_side_by_side,
    )
    remove_pictures(args.output)
    yield from write_pictures(found.result, segmenter, data, args.output, args.pictures, ground)
    if found.comparison and found.other:
        yield from write_side_by_side(
            found.comparison, (segmenter, found.other[0]), data, args.output, args.pictures,
            ground)
    yield from write_reliability(
        found.reliability, found.ground, segmenter.checkpoint.name, args.output)
    if found.robustness:
        yield from write_robustness(found.robustness, segmenter, data, args.output)


def _table3(args: argparse.Namespace, data: DataSet) -> int:
    from lednet_ros.cli.segmenter_options import segmenter_config
    from lednet_ros.common.progress_bar import progress_bar
    from lednet_ros.training.table3 import measure
    with progress_bar() as progress:
        task = progress.add_task(f'{args.split} of {args.data.name}',
                                 total=len(data) * len(args.checkpoints))
        found = measure(args.checkpoints, segmenter_config(args), data,
                        lambda: progress.advance(task))
    if args.json:
        write_json(args.json, found.to_dict())
    print(f'{args.split} of {args.data.name} ({len(data)} images; label set '
          f'{data.labels.name!r}: {data.labels_from})\n')
    print('\n'.join(found.lines()))
    if args.output:
        print(found.draw(args.output))
    return 0


def _calibrate(args: argparse.Namespace, data: DataSet) -> int:
    from lednet_ros.common.progress_bar import progress_bar
    from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
    from lednet_ros.segmentation.config import check_device
    from lednet_ros.segmentation.devices import choose_device
    from lednet_ros.training.calibration import calibrate, write_calibrated
    check_device(args.device)
    checkpoint = load_checkpoint(args.checkpoint or default_checkpoint())
    with progress_bar() as progress:
        task = progress.add_task(f'{args.split} of {args.data.name}', total=len(data))
        found = calibrate(
            checkpoint, data, choose_device(args.device), lambda: progress.advance(task))
    write_calibrated(checkpoint, found, args.calibrate)
    if args.json:
        write_json(args.json, found.to_dict())
    print(f'{args.calibrate}: {found}')
    return 0


def _other(args: argparse.Namespace, data: DataSet, stack: ExitStack) -> Segmenter | None:
    """Open the checkpoint of --against, to be run in the same way."""
    from lednet_ros.cli.segmenter_options import segmenter_config
    from lednet_ros.datasets.checks import require_classes
    from lednet_ros.segmentation import Segmenter
    if not args.against:
        return None
    segmenter = stack.enter_context(Segmenter(args.against, segmenter_config(args)))
    require_classes(segmenter.checkpoint.name, segmenter.labels, data)
    return segmenter


def _flicker(segmenter: Segmenter, film: str) -> Flicker:
    from lednet_ros.common.command import say
    from lednet_ros.common.progress_bar import progress_bar
    from lednet_ros.images.sources import open_source
    from lednet_ros.training.flicker import measure_flicker
    source = open_source(film, report=lambda text: say('lednet_evaluate', text))
    if source.is_live:
        raise ConfigError(f'--flicker {film}: is a webcam: give a video or a directory of images')
    with progress_bar() as progress:
        task = progress.add_task('flicker', total=None)
        found = measure_flicker(
            source.frames(), lambda frame: segmenter.segment([frame])[0].labels,
            segmenter.labels, lambda: progress.advance(task))
    if not found.pairs:
        raise ConfigError(f'--flicker {film}: holds no two frames of one size: give a film')
    return found


def _robustness(segmenter: Segmenter, data: DataSet) -> Robustness:
    from lednet_ros.common.progress_bar import progress_bar
    from lednet_ros.training.robustness import FAMILY, STRENGTHS, measure_robustness
    with progress_bar() as progress:
        task = progress.add_task(
            'under changes', total=len(data) * (1 + len(FAMILY) * STRENGTHS))
        return measure_robustness(segmenter, data, lambda: progress.advance(task))


def _write_json(path: Path, found: Found, segmenter: Segmenter, data: DataSet) -> None:
    from lednet_ros.datasets.checks import classes_without_pixels
    result = found.result
    height, width = segmenter.input_size
    absent = classes_without_pixels(data.labels, result.confusion.sum(1))
    record: dict[str, Any] = {
        'checkpoint': segmenter.checkpoint.name, 'sha256': segmenter.checkpoint.sha256,
        'data': data.root.name, 'split': data.split, 'images': len(data),
        'backend': result.backend, 'input': [height, width], 'scores': result.scores.to_dict(),
        'confusion': result.confusion.tolist(), 'classes': data.labels.names,
        'classes_without_pixels': absent, 'left_out': data.left_out,
        'frames': {frame.name: None if math.isnan(frame.miou) else round(frame.miou, 6)
                   for frame in result.frames},
        'reliability': found.reliability.to_dict(),
        'min_confidence': [row.to_dict() for row in found.ground],
        **{name: part.to_dict() for name, part in (
            ('against', found.comparison), ('flicker', found.flicker),
            ('robustness', found.robustness)) if part}}
    write_json(path, record)


if __name__ == '__main__':
    sys.exit(main())
