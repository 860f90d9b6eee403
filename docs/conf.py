# SPDX-License-Identifier: Apache-2.0
"""Configuration of Sphinx: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import lednet_ros

project = 'lednet_ros'
copyright = 'the lednet_ros maintainers'
version = release = lednet_ros.__version__
extensions = ['myst_parser', 'sphinx.ext.autodoc']
root_doc = 'index'
exclude_patterns = ['_build']
html_theme = 'alabaster'
myst_heading_anchors = 3
autodoc_typehints = 'description'
