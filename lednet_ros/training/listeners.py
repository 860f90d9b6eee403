# SPDX-License-Identifier: Apache-2.0
"""Listeners of one's own: a training told to any tracker, by a function in a module."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from lednet_ros.common.errors import ConfigError, first_line
from lednet_ros.training.train import Listener


def load_listener(name: str, recipe: dict[str, Any], directory: Path) -> Listener:
    """
    Call MODULE:FUNCTION, found as Python finds modules or in the working directory.

    It is given the recipe's knobs and the output directory, and returns a Listener. Raise
    ConfigError where it cannot be had.
    """
    module, _, function = name.partition(':')
    if not (module and function):
        raise ConfigError(f'--listener {name}: give MODULE:FUNCTION')
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f'--listener {name}: cannot be imported ({first_line(error)}): give '
                          'MODULE:FUNCTION of a file in this directory, or of a package that is '
                          'installed') from error
    listener = make(recipe, directory)
    if not isinstance(listener, Listener):
        raise ConfigError(f'--listener {name}: returned {type(listener).__name__}: return a '
                          'lednet_ros.training.train.Listener')
    return listener


def both(first: Listener, second: Listener) -> Listener:
    """Return a listener that tells two others."""
    def on_step(step: Any) -> None:
        first.on_step(step)
        second.on_step(step)

    def on_epoch(row: Any) -> None:
        first.on_epoch(row)
        second.on_epoch(row)

    def on_note(text: str) -> None:
        first.on_note(text)
        second.on_note(text)

    return Listener(on_step, on_epoch, on_note)
