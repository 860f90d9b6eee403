# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
from lednet_ros.segmentation import Segmenter

CAMVID = Path(__file__).parents[3] / 'shared' / 'data' / 'camvid'
pytestmark = pytest.mark.skipif(not CAMVID.is_dir(), reason='needs CamVid in ../shared/data')


def scores(every: int) -> tuple[np.ndarray, float]:
    """IoU by class and pixel accuracy on every n-th frame of val, void pixels left out."""
    confusion = np.zeros((11, 11), np.int64)
    with Segmenter() as segmenter:
        for file in sorted((CAMVID / 'val').glob('*.png'))[::every]:
            truth = cv2.imread(str(CAMVID / 'valannot' / file.name), cv2.IMREAD_GRAYSCALE)
            labels = segmenter.segment([cv2.imread(str(file))])[0].labels
            known = truth < 11
            confusion += np.bincount(truth[known] * np.int64(11) + labels[known],
                                     minlength=121).reshape(11, 11)
    hits = np.diag(confusion)
    return hits / (confusion.sum(0) + confusion.sum(1) - hits), hits.sum() / confusion.sum()


def test_a_few_frames_score_about_as_the_card_says() -> None:
    iou, accuracy = scores(every=20)
    assert accuracy > 0.88
    assert iou[3] > 0.9  # road


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_val_scores_as_the_card_and_the_file_say() -> None:
    iou, accuracy = scores(every=1)
    card = default_checkpoint().with_suffix('.md').read_text()
    row = re.search(r'\| val, learnt from [^|]*: these weights \| ([\d.]+) \| ([\d.]+) \|', card)
    names = re.search(r'\| IoU on val, % \| (.*) \|\n', card)
    values = re.search(r'\n\| learnt from: these weights \| (.*) \|\n', card)
    assert row
    assert names
    assert values
    written = dict(zip(names[1].split(' | '), map(float, values[1].split(' | ')), strict=True))
    assert 100 * iou.mean() == pytest.approx(float(row[1]), abs=0.1)
    assert 100 * accuracy == pytest.approx(float(row[2]), abs=0.1)
    for name, value in zip(load_checkpoint(default_checkpoint()).labels.names, iou, strict=True):
        assert 100 * value == pytest.approx(written[name], abs=0.1), name
