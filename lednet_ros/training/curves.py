# SPDX-License-Identifier: Apache-2.0
"""Draws a training's history: loss, score and IoU by class, by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from lednet_ros.common.errors import ConfigError
from lednet_ros.common.figure import make_figure

CLASS_IOU = 'val_iou/'  # before a class's name in history.csv


def draw_history(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Return a PNG of history.csv's rows; None where matplotlib is not installed."""
    try:
        figure = make_figure(8.5, 6.4)
    except ConfigError:
        return None
    score, classes = figure.subplots(2, 1, sharex=True)
    # Of all stages; epoch 0 is what the training began with.
    epochs = range(1 - (rows[0]['epoch'] == 0), len(rows) + 1 - (rows[0]['epoch'] == 0))
    loss = score.twinx()
    loss.plot(epochs, [row['loss'] for row in rows], color='tab:gray', linewidth=1)
    loss.set_ylabel('training loss', color='tab:gray')
    score.plot(epochs, [100 * row['val_miou'] for row in rows], color='tab:blue')
    score.set_ylabel('val mIoU, %', color='tab:blue')
    score.grid(alpha=0.3)
    best = max(rows, key=lambda row: float(row['val_miou']))
    score.set_title(f'best {100 * best["val_miou"]:.1f} % after epoch {best["epoch"]}')
    names = [key for key in rows[-1] if key.startswith(CLASS_IOU)]
    for place, key in enumerate(names):
        classes.plot(epochs, [100 * row.get(key, float('nan')) for row in rows],
                     label=key.removeprefix(CLASS_IOU), linewidth=1.3, color=f'C{place % 10}',
                     linestyle='--' if place >= 10 else '-')
    if names:
        classes.legend(loc='center left', bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    classes.set_ylabel('val IoU by class, %')
    classes.set_xlabel('epoch')
    classes.grid(alpha=0.3)
    png = BytesIO()
    figure.savefig(png, format='png', dpi=100)
    return png.getvalue()
