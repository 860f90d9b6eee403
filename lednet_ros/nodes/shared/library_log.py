# SPDX-License-Identifier: Apache-2.0
"""What the package's floors without ROS log, handed to a node's logger: once, at its severity."""

from __future__ import annotations

import logging
from typing import Any

NAME = 'lednet_ros'  # of the logger that all modules of the package hang on


class LibraryLog(logging.Handler):
    """Hands on what the package logs, from when it is made until `close`."""

    def __init__(self, to: Any) -> None:
        super().__init__()
        self._to = to  # rclpy's
        self._log = logging.getLogger(NAME)
        others = _handlers()
        self._before: tuple[int, bool] = (
            others[-1]._before if others else (self._log.level, self._log.propagate))
        self._log.addHandler(self)
        # All of it: which severities are written is for the ROS logger to decide.
        self._log.setLevel(logging.DEBUG)
        # Else a handler that some library has given to Python's root would write it again.
        self._log.propagate = False

    def close(self) -> None:
        """Hand on no more."""
        self._log.removeHandler(self)
        if not _handlers():
            level, self._log.propagate = self._before
            self._log.setLevel(level)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Log it; rclpy wants a line of code for each severity."""
        if _handlers()[-1:] != [self]:
            return  # of several nodes in one process, the newest says it
        try:
            text = self.format(record)
            if record.levelno >= logging.CRITICAL:
                self._to.fatal(text)
            elif record.levelno >= logging.ERROR:
                self._to.error(text)
            elif record.levelno >= logging.WARNING:
                self._to.warning(text)
            elif record.levelno >= logging.INFO:
                self._to.info(text)
            else:
                self._to.debug(text)
        except Exception:
            self.handleError(record)


def _handlers() -> list[LibraryLog]:
    return [h for h in logging.getLogger(NAME).handlers if isinstance(h, LibraryLog)]
