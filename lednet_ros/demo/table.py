# SPDX-License-Identifier: Apache-2.0
"""The demo's figures on the terminal: a live table, or a plain line now and then."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lednet_ros.images.annotate import Share

LINE_EVERY_S = 3.0
REFRESH_HZ = 4.0
_BAR = 30  # characters


@dataclass(frozen=True)
class Figures:
    """What is shown. Texts of the node's own counts are '' until it reports."""

    elapsed_s: float
    shown: int           # frames paired and drawn by the demo
    fps: float
    received: str = ''
    segmented: str = ''
    dropped: str = ''
    rejected: str = ''
    p50_ms: str = ''
    p95_ms: str = ''
    backend: str = ''
    shares: Sequence[Share] = ()


class Pace:
    """Frames per second over the last few seconds, and over all."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._window_s = window_s
        self._recent_s: deque[float] = deque()
        self._first_s = self._last_s = 0.0
        self.count = 0

    def tick(self, now_s: float) -> None:
        """Note a frame; times are of the monotonic clock."""
        self._first_s = self._first_s if self.count else now_s
        self._last_s = now_s
        self.count += 1
        self._recent_s.append(now_s)
        while self._recent_s[0] < now_s - self._window_s:
            self._recent_s.popleft()

    @property
    def recent_hz(self) -> float:
        """Over the last few seconds."""
        return _rate(len(self._recent_s), self._recent_s[-1] - self._recent_s[0]
                     if self._recent_s else 0.0)

    @property
    def mean_hz(self) -> float:
        """Over all."""
        return _rate(self.count, self._last_s - self._first_s)


def _rate(count: int, took_s: float) -> float:
    return (count - 1) / took_s if count > 1 and took_s > 0 else 0.0


class DemoTable:
    """Shows figures until closed; a context manager."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._console = Console()
        self._live: Live | None = None
        self._shown_s = float('-inf')
        self._status = ''

    def __enter__(self) -> DemoTable:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def status(self, text: str) -> None:
        """Show what is being waited for; each text is shown once."""
        if text == self._status:
            return
        self._status = text
        if self._live is not None:
            self._live.update(Text(text, style='dim'), refresh=True)
        else:
            print(f'lednet_demo: {text}', flush=True)

    def show(self, figures: Figures, at_once: bool = False) -> None:
        """Show the figures, if it is time to."""
        now_s = time.monotonic()
        pause_s = 1.0 / REFRESH_HZ if self._live is not None else LINE_EVERY_S
        if not at_once and now_s < self._shown_s + pause_s:
            return
        self._shown_s = now_s
        if self._live is not None:
            self._live.update(table(self._title, figures), refresh=True)
        else:
            print(line(figures), flush=True)


def line(figures: Figures) -> str:
    """Put the figures into one line, for logs."""
    top = ', '.join(f'{row.name} {row.share:.0%}'.replace('%', ' %')
                    for row in figures.shares[:5] if row.share >= 0.005)
    counts = f'{figures.shown} frames shown'
    if figures.received not in ('', '0'):  # its next report comes within a second
        counts = (f'received {figures.received}, segmented {figures.segmented}, '
                  f'dropped {figures.dropped}, rejected {figures.rejected}')
    latency = (f'; latency p50 {figures.p50_ms} ms, p95 {figures.p95_ms} ms'
               if figures.p50_ms else '')
    return (f'lednet_demo: {figures.elapsed_s:4.0f} s: {counts}; {figures.fps:.1f} FPS{latency}'
            f'; {top}')


def table(title: str, figures: Figures) -> Panel:
    """Draw the figures and the classes' shares."""
    counts = Table.grid(padding=(0, 3))
    for _ in range(7):
        counts.add_column(justify='right')
    words = ('received', 'segmented', 'dropped', 'rejected', 'FPS', 'p50 ms', 'p95 ms')
    numbers = (figures.received, figures.segmented, figures.dropped, figures.rejected,
               f'{figures.fps:.1f}', figures.p50_ms, figures.p95_ms)
    counts.add_row(*(Text(word, style='dim') for word in words))
    counts.add_row(*(Text(number or '-', style='bold') for number in numbers))
    classes = Table.grid(padding=(0, 1))
    classes.add_column()
    classes.add_column(min_width=14)
    classes.add_column(min_width=7, justify='right')
    classes.add_column(min_width=_BAR)
    for row in figures.shares:
        style = '' if row.share >= 0.0005 else 'dim'
        colour = 'rgb({},{},{})'.format(*row.color)
        classes.add_row(
            Text('██', style=colour), Text(row.name, style=style),
            Text(f'{row.share * 100:.1f} %', style=style),
            Text('━' * round(row.share * _BAR), style=colour))
    backend = Text(figures.backend, style='dim')
    return Panel(Group(counts, Text(), classes, Text(), backend), title=title, expand=False,
                 title_align='left', padding=(0, 2))
