# SPDX-License-Identifier: Apache-2.0
"""What the README promises, run."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from lednet_ros.segmentation.backends.tensorrt_versions import table

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()


def test_its_python_and_yaml_blocks_run_one_after_another(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    street = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    cv2.imwrite('street.png', street)
    blocks = re.findall(r'```(python|yaml)\n(.*?)```', README, re.S)
    assert len(blocks) >= 3
    Path('orchard.yaml').write_text(next(text for kind, text in blocks if kind == 'yaml'))
    for kind, text in blocks:
        if kind == 'python':
            exec(compile(text, 'README.md', 'exec'), {})
    labels = cv2.imread('labels.png', cv2.IMREAD_GRAYSCALE)
    assert labels.shape == street.shape[:2]
    assert labels.max() < 11
    assert Path('orchard.safetensors').stat().st_size > 3e6


def test_its_table_of_versions_is_the_code_s() -> None:
    assert table() in README


@pytest.mark.parametrize('link', sorted(set(re.findall(r'\]\((?!http|#)([^)]+)\)', README))))
def test_what_it_links_to_is_there(link) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize('anchor', sorted(set(re.findall(r'\]\(#([^)]+)\)', README))))
def test_where_it_points_to_in_itself_is_there(anchor) -> None:
    headings = re.findall(r'^#+ (.*)$', README, re.M)
    assert anchor in [re.sub(r'[^\w -]', '', h).lower().replace(' ', '-') for h in headings]
