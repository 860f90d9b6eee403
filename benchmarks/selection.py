# SPDX-License-Identifier: Apache-2.0
"""
How wrong the network is about the frames that `lednet_select --by uncertainty` chooses.

    python benchmarks/selection.py CAMVID --count 5 10 20

CAMVID holds val/ and valannot/. Prints, for each count, the share of wrongly labelled pixels of
the frames chosen, of as many least certain ones without regard to time, and of random ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from lednet_ros.offline.selection import Scored, most_uncertain, uncertainty
from lednet_ros.segmentation import Segmenter

DRAWS = 1000  # of random frames


def errors_and_uncertainties(camvid: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return both for each frame, in the drive's order: float64 (frames,), 0 to 1."""
    rows = []
    with Segmenter() as segmenter:
        for path in sorted((camvid / 'val').glob('*.png')):
            image = cv2.imread(str(path))
            target = cv2.imread(str(camvid / 'valannot' / path.name), cv2.IMREAD_UNCHANGED)
            assert image is not None
            assert target is not None
            [found] = segmenter.segment([image], confidence=True)
            assert found.confidence is not None
            is_labelled = target < len(segmenter.labels)
            rows.append(((found.labels != target)[is_labelled].mean(),
                         uncertainty(found.confidence)))
    errors, uncertainties = np.array(rows).T
    return errors, uncertainties


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('camvid', type=Path)
    parser.add_argument('--count', type=int, nargs='+', default=[5, 10, 20])
    args = parser.parse_args()
    errors, uncertainties = errors_and_uncertainties(args.camvid)
    ranks = np.array([np.argsort(np.argsort(one)) for one in (errors, uncertainties)])
    print(f'{len(errors)} frames, rank correlation {np.corrcoef(ranks)[0, 1]:.2f}, '
          f'{errors.mean():.2%} of all pixels wrong')
    random = np.random.default_rng(0)
    for count in args.count:
        chosen = [frame.place for frame in most_uncertain(
            [Scored(0, place, value) for place, value in enumerate(uncertainties)], count)]
        top = np.argsort(-uncertainties)[:count]
        drawn = [errors[random.choice(len(errors), count, replace=False)].mean()
                 for _ in range(DRAWS)]
        low, high = np.percentile(drawn, [5, 95])
        print(f'{count}: chosen {errors[chosen].mean():.2%}, {np.diff(sorted(chosen)).min()} '
              f'frames apart or more; least certain {errors[top].mean():.2%}, '
              f'{np.diff(sorted(top)).min()} apart; random {np.mean(drawn):.2%} (90 % of draws: '
              f'{low:.2%} to {high:.2%})')


if __name__ == '__main__':
    main()
