# SPDX-License-Identifier: Apache-2.0
"""What is drawn into files needs no window."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def test_a_backend_that_matplotlib_has_no_more_hinders_no_drawing() -> None:
    """As qt4agg in a shell's start-up file of before; matplotlib reads it as it is imported."""
    pytest.importorskip('matplotlib', reason='needs matplotlib')
    program = ("import os; from lednet_ros.common.figure import make_figure; make_figure(2, 1); "
               "print(os.environ['MPLBACKEND'])")
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                          env={**os.environ, 'MPLBACKEND': 'qt4agg'}, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, 'qt4agg\n', '')
