# SPDX-License-Identifier: Apache-2.0
"""matplotlib's figures, without its remarks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lednet_ros.common.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def make_figure(width: float, height: float) -> Figure:
    """
    Return an empty figure of a size in inches. Raise ConfigError where matplotlib is missing.

    That it cannot keep its list of fonts, in a home that is read-only, is no news for anybody.
    """
    logging.getLogger('matplotlib').setLevel(logging.ERROR)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(f'drawing needs matplotlib ({error}): pip install '
                          'matplotlib') from error
    return Figure(figsize=(width, height), layout='constrained')
