# SPDX-License-Identifier: Apache-2.0
"""The progress bar of the commands."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def progress_bar(rate_over_s: float = 30.0, transient: bool = False) -> Progress:
    """
    Return a bar on stderr with counts, the time gone and, by the rate of late, the time left.

    Nothing is left of a transient one.
    """
    columns = (TextColumn('{task.description}', markup=False), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn(), TextColumn('left'), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(
        *columns, console=console, speed_estimate_period=rate_over_s, transient=transient,
        disable=transient and not console.is_terminal,
        redirect_stdout=sys.stdout.isatty())  # else what is printed would not reach a pipe
