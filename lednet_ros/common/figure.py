# SPDX-License-Identifier: Apache-2.0
"""matplotlib's figures, without its remarks."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from lednet_ros.common.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def make_figure(width: float, height: float) -> Figure:
    """
    Return an empty figure of a size in inches. Raise ConfigError where matplotlib is missing.

    That it cannot keep its list of fonts, in a home that is read-only, is no news for anybody.
    """
    require_matplotlib()
    return _figure_class()(figsize=(width, height), layout='constrained')


def require_matplotlib() -> None:
    """Raise ConfigError where it is missing: also before long work that is to be drawn."""
    logging.getLogger('matplotlib').setLevel(logging.ERROR)
    try:
        _figure_class()
    except ImportError as error:
        raise ConfigError(f'drawing needs matplotlib ({error}): pip install '
                          'matplotlib') from error


def _figure_class() -> type[Figure]:
    """
    Import matplotlib, also where MPLBACKEND names a window system that it has no more.

    No window is opened here, so none is needed; whoever opens one later has the user's.
    """
    if 'matplotlib' not in sys.modules and (backend := os.environ.pop('MPLBACKEND', '')):
        try:
            import matplotlib
        finally:
            os.environ['MPLBACKEND'] = backend
        with suppress(ValueError):
            matplotlib.rcParams['backend'] = backend
    from matplotlib.figure import Figure
    return Figure
