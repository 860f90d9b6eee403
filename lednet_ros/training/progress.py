# SPDX-License-Identifier: Apache-2.0
"""Shows a training in a terminal: a bar with the time left, a line an epoch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lednet_ros.common.progress_bar import progress_bar
from lednet_ros.training.train import Listener, Step


@contextmanager
def show_progress(is_first: bool) -> Iterator[Listener]:
    """Yield a listener that shows what it hears; silent in all processes but the first."""
    if not is_first:
        yield Listener()
        return
    with progress_bar(rate_over_s=600) as progress:
        task = progress.add_task('reading', total=None)
        notes: set[str] = set()

        def on_step(step: Step) -> None:
            progress.update(
                task, total=step.epochs * step.steps,
                completed=step.epoch * step.steps + step.step + 1,
                description=f'{_epoch(step.stage)} {step.epoch + 1}/{step.epochs}  '
                f'loss {step.loss:.3f}  {step.images_per_s:.1f} images/s')

        def on_epoch(row: Mapping[str, Any]) -> None:
            if row['epoch'] == 0:
                print(f'{_epoch(row["stage"])} 0, what it begins with: '
                      f'val mIoU {row["val_miou"]:.4f}, '
                      f'pixels {row["val_pixel_accuracy"]:.4f}', flush=True)
                return
            threads = f'{row["threads"]:.3g}'
            print(f'{_epoch(row["stage"])} {row["epoch"]}: loss {row["loss"]:.4f}, '
                  f'val mIoU {row["val_miou"]:.4f}, pixels {row["val_pixel_accuracy"]:.4f}, '
                  f'{row["images_per_s"]:.1f} images/s, '
                  f'{100 * row["waiting_for_data"]:.1f} % waiting for data, '
                  f'{threads} thread{"" if threads == "1" else "s"}', flush=True)

        def on_note(text: str) -> None:
            if text not in notes:
                notes.add(text)
                print(text, file=sys.stderr, flush=True)

        yield Listener(on_step, on_epoch, on_note)


def _epoch(stage: str) -> str:
    return 'epoch' if stage == 'network' else f'{stage} epoch'
