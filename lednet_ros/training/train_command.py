# SPDX-License-Identifier: Apache-2.0
"""lednet_train: a recipe and a directory of labelled images to a checkpoint."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lednet_ros.errors import LednetRosError

if TYPE_CHECKING:
    from lednet_ros.training.data_check import DataReport
    from lednet_ros.training.datasets import DataSet
    from lednet_ros.training.train import Listener, Training

STOPPED = 130  # as a shell says of SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 also when stopped by Ctrl-C, as all is saved then; 130 before."""
    args = _parse(argv)
    try:
        return _check(args) if args.check_data else _train(args)
    except LednetRosError as error:
        if os.environ.get('RANK', '0') == '0':  # said once for all processes
            print(f'lednet_train: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the first step, or the second time
        return STOPPED


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='lednet_train', description='Train LEDNet on Cityscapes, CamVid, or images/, labels/ '
        'and labels.yaml of your own. Stopped, the same command goes on. Several GPUs: torchrun '
        '--nproc-per-node N -m lednet_ros.training.train_command ...')
    parser.add_argument('--recipe', default='camvid', metavar='NAME',
                        help='camvid, paper, or a YAML file (default: %(default)s)')
    parser.add_argument('--data', type=Path, required=True, metavar='DIR')
    parser.add_argument('--output', type=Path, metavar='DIR',
                        help='gets best.safetensors, last.safetensors and what is needed to go on')
    parser.add_argument('--init', metavar='FILE',
                        help='begin with this checkpoint (camvid: the one that comes with the '
                        'package); other classes than its: new class layers on its encoder')
    parser.add_argument('--set', action='append', default=[], metavar='KNOB=VALUE',
                        help='override the recipe, for example --set epochs=20; may be repeated')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda:N')
    parser.add_argument('--check-data', action='store_true',
                        help='only read every pair and report')
    args = parser.parse_args(argv)
    if args.output is None and not args.check_data:
        parser.error('the following arguments are required: --output')
    return args


def _open(args: argparse.Namespace) -> tuple[Any, DataSet, DataSet]:
    from lednet_ros.training.datasets import open_data_set
    from lednet_ros.training.recipe import load_recipe
    recipe = load_recipe(args.recipe, args.set)
    return (recipe, open_data_set(args.data, 'train', recipe.coarse),
            open_data_set(args.data, 'val'))


def _check(args: argparse.Namespace) -> int:
    _, *splits = _open(args)
    reports = [_read_all(data) for data in splits]
    for report in reports:
        print('\n'.join(report.lines()))
    for report in reports:
        report.refuse_faults()
    return 0


def _read_all(data: DataSet) -> DataReport:
    from lednet_ros.progress_bar import progress_bar
    from lednet_ros.training.data_check import check_data
    with progress_bar() as progress:
        task = progress.add_task(f'reading {data.split}', total=len(data))
        return check_data(data, lambda: progress.advance(task))


def _train(args: argparse.Namespace) -> int:
    from lednet_ros.checkpoint import default_checkpoint, load_checkpoint
    from lednet_ros.segmentation.backends.torch import choose_device
    from lednet_ros.training.processes import join_processes, leave_processes
    from lednet_ros.training.progress import show_progress
    from lednet_ros.training.state import Output
    from lednet_ros.training.train import Job, Training
    device = choose_device(
        f'cuda:{os.environ["LOCAL_RANK"]}' if args.device == 'auto' and 'LOCAL_RANK' in os.environ
        and _has_cuda() else args.device)
    recipe, train, val = _open(args)
    init = None
    if args.init:
        init = load_checkpoint(default_checkpoint() if args.init == 'camvid' else args.init)
    processes = join_processes(device)
    output: Output | None = None

    def open_output() -> None:
        nonlocal output
        output = Output(args.output, {
            **recipe.to_dict(), 'init': init.sha256 if init else None,
            'labels': train.labels.to_dict(),
            **{name: [str(p.image.relative_to(data.root)) for p in data.pairs]
               for name, data in (('data', train), ('val data', val))}})

    try:
        processes.share(open_output)
        report, val_report = processes.share(lambda: (_read_all(train), _read_all(val)))
        report.refuse_faults()
        val_report.refuse_faults()
        with show_progress(processes.is_first) as listener:
            if output:
                output.begin(recipe.to_dict())
                listener.on_note('\n'.join(report.lines()))
            training = Training(Job(
                recipe, report, val, output, init, device, processes, listener))
            with _stopped_by_signals(training, listener):
                is_done = training.run()
    finally:
        if output:
            output.close()
        leave_processes()
    if processes.is_first:
        print(f'{args.output}: ' + (
            f'best val mIoU {training.position.best:.4f}: best.safetensors' if is_done
            else 'stopped and saved: the same command goes on'))
    return 0


@contextmanager
def _stopped_by_signals(training: Training, listener: Listener) -> Iterator[None]:
    """End the training after its step by SIGINT and SIGTERM; a second one does not wait."""
    def stop(number: int, _: object) -> None:
        training.is_stopped = True
        signal.signal(number, before[number])
        listener.on_note('stopping after this step; once more to end at once, and go on from the '
                         'last epoch')

    before = {int(n): signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_cuda() -> bool:
    import torch
    return torch.cuda.is_available()


if __name__ == '__main__':
    sys.exit(main())
