# SPDX-License-Identifier: Apache-2.0
"""Environments for child processes that are to have nothing of ours."""

from __future__ import annotations

import os


def bare_environment(**variables: str) -> dict[str, str]:
    """Return these variables, and what has `make coverage` count the child's lines too."""
    return {**{name: value for name, value in os.environ.items()
               if name.startswith('COVERAGE_')}, **variables}
