# SPDX-License-Identifier: Apache-2.0
"""Draws a training's history: loss and score by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from lednet_ros.common.errors import ConfigError
from lednet_ros.common.figure import make_figure


def draw_history(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Give a PNG of history.csv's rows; None where matplotlib is not installed."""
    try:
        figure = make_figure(7, 3.2)
    except ConfigError:
        return None
    score = figure.subplots()
    epochs = range(1, len(rows) + 1)  # of all stages
    loss = score.twinx()
    loss.plot(epochs, [row['loss'] for row in rows], color='tab:gray', linewidth=1)
    loss.set_ylabel('training loss', color='tab:gray')
    score.plot(epochs, [100 * row['val_miou'] for row in rows], color='tab:blue')
    score.set_ylabel('val mIoU, %', color='tab:blue')
    score.set_xlabel('epoch')
    score.grid(alpha=0.3)
    best = max(rows, key=lambda row: float(row['val_miou']))
    score.set_title(f'best {100 * best["val_miou"]:.1f} % after epoch {best["epoch"]}')
    png = BytesIO()
    figure.savefig(png, format='png', dpi=100)
    return png.getvalue()
