# SPDX-License-Identifier: Apache-2.0
"""What `lednet_ros` itself offers."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import lednet_ros

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there() -> None:
    assert [name for name in lednet_ros.__all__ if getattr(lednet_ros, name, None) is None] == []
    assert lednet_ros.Segmenter.__module__ == 'lednet_ros.segmentation.segmenter'
    assert not hasattr(lednet_ros, 'Segmenters')


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, lednet_ros; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_the_version_is_one() -> None:
    assert ElementTree.parse(ROOT / 'package.xml').findtext('version') == lednet_ros.__version__
    assert f"version='{lednet_ros.__version__}'" in (ROOT / 'setup.py').read_text()
