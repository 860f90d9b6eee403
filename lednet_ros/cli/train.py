# SPDX-License-Identifier: Apache-2.0
"""lednet_train: a recipe and a directory of labelled images to a checkpoint."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lednet_ros.common.command import command, say
from lednet_ros.common.errors import STOPPED, ConfigError, LednetRosError
from lednet_ros.common.paths import expanded, given

if TYPE_CHECKING:
    import torch

    from lednet_ros.datasets.checks import DataReport
    from lednet_ros.datasets.layouts import DataSet
    from lednet_ros.training.calibration import Calibration
    from lednet_ros.training.distributed import Processes
    from lednet_ros.training.train import Position


@command('lednet_train')
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 also when stopped by Ctrl-C, as all is saved then; 130 before."""
    args = _parse(argv)
    return _check(args) if args.check_data else _train(args)


def _say(error: BaseException) -> int:
    """Print what ended one of several processes; give the exit code."""
    if isinstance(error, KeyboardInterrupt):  # before the first step, or the second time
        return STOPPED
    if not isinstance(error, LednetRosError):
        traceback.print_exception(type(error), error, error.__traceback__)
    elif not error.is_said_elsewhere:
        say('lednet_train', *error.args)
    return 1


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='lednet_train', description='Train LEDNet on Cityscapes, CamVid, images/, labels/ '
        'and labels.yaml of your own, or what a data.yaml describes (docs/datasets.md). Stopped, '
        'the same command goes on. Several GPUs: torchrun '
        '--nproc-per-node N -m lednet_ros.cli.train ...')
    parser.add_argument('--recipe', default='camvid', metavar='NAME',
                        help='camvid, fine_tune (with --init), paper, or a YAML file '
                        '(default: %(default)s)')
    parser.add_argument('--data', type=expanded, required=True, metavar='DIR',
                        help='the data set, or the YAML file that describes it')
    parser.add_argument('--output', type=expanded, metavar='DIR',
                        help='gets best.safetensors, last.safetensors and what is needed to go on')
    parser.add_argument('--init', type=given, metavar='FILE',
                        help='begin with this checkpoint (camvid: the one that comes with the '
                        'package); classes that it does not have by name get new layers')
    parser.add_argument('--size', metavar='WIDTHxHEIGHT', type=_size,
                        help="of the network's input; scales the recipe's crops with it")
    parser.add_argument('--name', default='', help="the run's, wherever its checkpoints are "
                        "named (default: that of --output)")
    parser.add_argument('--listener', default='', metavar='MODULE:FUNCTION',
                        help='also called with each step and epoch, for a tracker of your own: '
                        'docs/training.md shows one for MLflow')
    parser.add_argument('--set', action='append', default=[], metavar='KNOB=VALUE',
                        help='override the recipe, for example --set epochs=20; may be repeated')
    parser.add_argument('--device', default='auto',
                        help='auto, cpu or cuda:N; under torchrun auto, cpu or cuda')
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument('--check-data', action='store_true',
                         help='only read every pair and report; samples and classes are drawn '
                         'into OUTPUT/data.png, or else NAME_data.png here')
    instead.add_argument('--leave-one-drive-out', action='store_true',
                         help='train once without each drive, into OUTPUT/DRIVE, and score that: '
                         'what another street would see. A drive is what the names of images have '
                         'before the first underscore')
    args = parser.parse_args(argv)
    if args.output is None and not args.check_data:
        parser.error('the following arguments are required: --output')
    return args


def _size(text: str) -> tuple[int, int]:
    """Return the (height, width) of 'WIDTHxHEIGHT'."""
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f'{text!r}: give WIDTHxHEIGHT, such as 480x272')
    return int(height), int(width)


def _open(args: argparse.Namespace) -> tuple[Any, DataSet, DataSet]:
    from lednet_ros.datasets.layouts import open_data_set
    from lednet_ros.training.recipe import load_recipe
    recipe = load_recipe(args.recipe, args.set, args.size)
    return (recipe, open_data_set(args.data, 'train', recipe.coarse),
            open_data_set(args.data, 'val'))


def _check(args: argparse.Namespace) -> int:
    from lednet_ros.datasets.checks import check_with_progress, judge
    _, train, val = _open(args)
    reports = check_with_progress(train), check_with_progress(val)
    for report in reports:
        print('\n'.join(report.lines()))
    _draw(*reports, args.output)
    for warning in judge(*reports):
        say('lednet_train', f'warning: {warning}')
    return 0


def _draw(train: DataReport, val: DataReport, output: Path | None) -> None:
    """Draw the sheet of samples: before the data is judged, as it may show what is wrong."""
    from lednet_ros.datasets.data_sheet import DATA_SHEET, write_data_sheet
    path = output / DATA_SHEET if output else Path(
        f'{train.data.root.resolve().name}_{DATA_SHEET}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if write_data_sheet(train, val, path):
            print(f'{path}: samples as they are labelled, and the classes')
    except (LednetRosError, OSError) as error:  # the check is worth more
        say('lednet_train', f'warning: not drawn: {error}')


def _train(args: argparse.Namespace) -> int:
    from lednet_ros.segmentation.devices import choose_device
    from lednet_ros.training.distributed import (
        end_at_once,
        is_of_lost_process,
        join_processes,
        leave_processes,
    )
    device = choose_device(_own_device(args.device))
    processes = join_processes(device)
    try:
        end = _train_among(processes, device, args)
    except BaseException as error:
        if processes.count == 1:
            raise
        if not is_of_lost_process(error):
            end_at_once(_say(error))
        if processes.is_first:
            print('lednet_train: another process ended, so this one does: what that said, or '
                  'torchrun, names the cause', file=sys.stderr)
        end_at_once(1)
    leave_processes()
    if processes.is_first:
        print(f'{args.output}: {end}')
    return 0


def _own_device(device: str) -> str:
    """Return this process's device: torchrun's processes of one computer have a GPU each."""
    from lednet_ros.segmentation.config import check_device
    check_device(device)
    own = os.environ.get('LOCAL_RANK')
    if own is None:
        return device
    if ':' in device:
        raise ConfigError(f'device is {device!r}, but under torchrun each process has its own: '
                          'choose auto, cpu or cuda')
    return f'cuda:{own}' if device == 'cuda' or (device == 'auto' and _has_cuda()) else device


def _train_among(processes: Processes, device: torch.device, args: argparse.Namespace) -> str:
    """Train; say how it ended."""
    from lednet_ros.datasets.drives import drive_table, leave_one_out
    from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
    from lednet_ros.training.session import Session
    recipe, train, val = _open(args)
    init = None
    if args.init:
        init = load_checkpoint(default_checkpoint() if args.init == 'camvid' else args.init)
    session = Session(processes, device, recipe, init, args.listener, args.name, _say_confidence)
    if not args.leave_one_drive_out:
        position, is_done = session.train_on(train, val, args.output)
        from_init = (', which --init began with: no epoch was better'
                     if position.best == _of_beginning(position) else '')
        return (f'best val mIoU {position.best:.4f}{from_init}: best.safetensors' if is_done
                else 'stopped and saved: the same command goes on')
    last = {}
    for drive, others, own in leave_one_out(train, val):
        position, is_done = session.train_on(others, own, args.output / drive)
        if not is_done:
            return f'stopped and saved, without {drive}: the same command goes on'
        last[drive] = position.history[-1]
    return '\n'.join(['', *drive_table(last)])


def _say_confidence(found: Calibration, shared: list[str]) -> None:
    print(f'confidence: {found}')
    if shared:
        say('lednet_train', f'warning: {", ".join(shared)} is in train and in val too, so on '
            'another street confidence is still too high: lednet_evaluate --calibrate with a '
            'drive that train has not')


def _of_beginning(position: Position) -> float | None:
    """Return the mIoU of what --init began with; None where nothing was."""
    first = position.history[0] if position.history else {}
    return first['val_miou'] if first.get('epoch') == 0 else None


def _has_cuda() -> bool:
    import torch
    return torch.cuda.is_available()


if __name__ == '__main__':
    sys.exit(main())
