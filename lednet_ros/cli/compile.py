# SPDX-License-Identifier: Apache-2.0
"""lednet_compile: build a checkpoint's engines ahead of time, look into the cache, tidy it up."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lednet_ros.cli.segmenter_options import add_segmenter_arguments, segmenter_config
from lednet_ros.common.command import command
from lednet_ros.common.errors import ConfigError, LednetRosError
from lednet_ros.segmentation.backends.engine_cache import EngineCache
from lednet_ros.segmentation.config import SegmenterConfig

if TYPE_CHECKING:
    from lednet_ros.model.checkpoint import Checkpoint


@dataclass(frozen=True)
class PartitionReport:
    """What Torch-TensorRT would make of the graph."""

    operators: int               # after lowering
    engines: int
    fallbacks: tuple[str, ...]   # operators that would stay with torch

    @property
    def is_one_engine(self) -> bool:
        """Whether the whole graph converts."""
        return self.engines == 1 and not self.fallbacks


def partition_report(
    checkpoint: Checkpoint, config: SegmenterConfig, confidence: bool
) -> PartitionReport:
    """Ask Torch-TensorRT how it would split the graph, building nothing. Needs no GPU."""
    import torch

    from lednet_ros.segmentation.backends.graph import make_graph
    from lednet_ros.segmentation.backends.tensorrt import (
        build_settings,
        export,
        import_torch_tensorrt,
        partition,
    )
    import_torch_tensorrt()  # says what is wrong before the long part
    precision = 'fp32' if config.precision == 'fp32' else 'fp16'
    size = config.input_size(checkpoint)
    settings = build_settings(precision, gpu=0, is_integrated=False)
    # The other partitioner would move what falls back to a GPU that may not be there.
    settings |= {'require_full_compilation': False, 'use_fast_partitioner': False}
    exported = export(make_graph(checkpoint, confidence, torch.device('cpu'), precision), *size)
    with redirect_stdout(io.StringIO()):  # it prints a report of its own
        module = partition(exported, *size, settings)
    engines = [part for name, part in module.named_children() if '_run_on_acc' in name]
    fallbacks = tuple(str(node.target) for node in module.graph.nodes
                      if node.op == 'call_function' and 'getitem' not in str(node.target))
    inside = sum(node.op == 'call_function' for part in engines for node in part.graph.nodes)
    return PartitionReport(inside + len(fallbacks), len(engines), fallbacks)


@command('lednet_compile')
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Gives its exit code."""
    args = _parse(argv)
    config = segmenter_config(args)
    cache = EngineCache(config.engine_cache_dir or None)
    if cache.problem and (args.list or args.prune is not None):
        raise ConfigError(cache.problem)
    if args.list:
        return _list(cache)
    if args.prune is not None:
        return _prune(cache, args.prune)
    if args.progress_lines:
        return _build_for_parent(args, config)
    checkpoint = _load(args.checkpoint)
    if args.dry_run:
        return _dry_run(checkpoint, config, args.confidence)
    return _build_for_people(checkpoint, config)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser('lednet_compile', description=__doc__.partition(': ')[2])
    add_segmenter_arguments(parser)
    parser.add_argument('--confidence', action='store_true',
                        help='with --dry-run, of the graph that gives confidence too; building '
                             'makes both engines')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--dry-run', action='store_true',
                      help='only report how TensorRT would split the graph')
    what.add_argument('--list', action='store_true', help='only list the cache')
    what.add_argument('--prune', type=float, nargs='?', const=0.0, metavar='DAYS',
                      help='only delete what was not used for so long (no number: all)')
    parser.add_argument('--progress-lines', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _load(path: str | None) -> Checkpoint:
    from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
    return load_checkpoint(path or default_checkpoint())


def _build(checkpoint: Checkpoint, config: SegmenterConfig) -> str:
    """
    Make the backend ready as the node would. Gives its name, and what it found.

    Both engines: a listener to confidence, or min_confidence, may come at any time.
    """
    import numpy as np

    from lednet_ros.segmentation.backends.registry import make_backend
    backend = make_backend(checkpoint, config)
    backend.run(np.zeros((1, *config.input_size(checkpoint), 3), np.uint8), confidence=True)
    check = backend.self_check
    name = str(backend.info)
    backend.close()
    return f'{name}: {check}' if check else name


class _Stages(logging.Handler):
    """Hears from the backends' own log what they are busy with."""

    def __init__(self, on_stage: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._on_stage = on_stage

    def emit(self, record: logging.LogRecord) -> None:
        self._on_stage(record.getMessage())


@contextmanager
def _stages(on_stage: Callable[[str], None]) -> Iterator[None]:
    log = logging.getLogger('lednet_ros.segmentation')
    handler, level = _Stages(on_stage), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _build_for_people(checkpoint: Checkpoint, config: SegmenterConfig) -> int:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    # Paths and what TensorRT says are no markup.
    columns = (SpinnerColumn(), TimeElapsedColumn(),
               TextColumn('{task.description}', markup=False))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task('starting', total=None)

        def on_stage(text: str) -> None:
            progress.console.print(text, highlight=False, markup=False)
            progress.update(task, description=text)

        with _stages(on_stage):
            result = _build(checkpoint, config)
        progress.update(task, description='ready', total=1, completed=1)
    print(result)
    return 0


def _build_for_parent(args: argparse.Namespace, config: SegmenterConfig) -> int:
    """Build as the child of a process that reads JSON lines (child_build.py)."""
    lines = os.fdopen(os.dup(1), 'w', buffering=1, encoding='utf-8')
    os.dup2(2, 1)  # what libraries print goes to the console, not between the lines
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def say(**what: str) -> None:
        lines.write(json.dumps(what) + '\n')

    try:
        with _stages(lambda text: say(stage=text)):
            checkpoint = _load(args.checkpoint)
            say(result=_build(checkpoint, config))
    except LednetRosError as error:
        say(error=str(error))
        return 1
    return 0


def _end_with_parent() -> None:
    """End this process, whatever it is in the middle of, once the parent is gone."""
    sys.stdin.read()
    os._exit(1)


def _dry_run(checkpoint: Checkpoint, config: SegmenterConfig, confidence: bool) -> int:
    report = partition_report(checkpoint, config, confidence)
    print(f'operators  {report.operators}\nengines    {report.engines}\n'
          f'fallbacks  {", ".join(report.fallbacks) or "none"}')
    if not report.is_one_engine:
        print('lednet_compile: the graph does not become one engine: the tensorrt backend will '
              'refuse it: choose a supported version of torch_tensorrt', file=sys.stderr)
    return 0 if report.is_one_engine else 1


def _list(cache: EngineCache) -> int:
    now_s = time.time()
    for entry in cache.entries():
        note = 'set aside as unusable' if entry.is_bad else entry.key.get('device', '')
        print(f'{entry.path.name}  {entry.size_bytes / 1e6:.1f} MB  used '
              f'{(now_s - entry.used_s) / 86400:.1f} days ago  {note}')
    print(f'{cache.directory}: {len(cache.entries())} files', file=sys.stderr)
    return 0


def _prune(cache: EngineCache, unused_for_days: float) -> int:
    if not unused_for_days >= 0:
        raise ConfigError(f'--prune is {unused_for_days}: give a number of days, or none for all')
    gone = cache.prune(unused_for_days)
    for entry in gone:
        print(entry.path.name)
    freed = sum(entry.size_bytes for entry in gone)
    print(f'{cache.directory}: {len(gone)} files, {freed / 1e6:.1f} MB freed', file=sys.stderr)
    return 0


if __name__ == '__main__':
    sys.exit(main())
