# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from lednet_ros.datasets.layouts import open_data_set
from lednet_ros.model.labels import LabelClass, LabelSet, builtin_label_set
from lednet_ros.training.metrics import Confusion

THREE = LabelSet('three', (
    LabelClass('road', (1, 1, 1), 'flat'), LabelClass('path', (2, 2, 2), 'flat'),
    LabelClass('tree', (3, 3, 3), 'nature')))


def test_scores_of_eight_pixels_counted_by_hand() -> None:
    confusion = Confusion(3)
    confusion.add(np.array([[0, 0, 0, 1], [1, 1, 255, 255]]),
                  np.array([[0, 0, 1, 1], [1, 255, 0, 2]]))
    scores = confusion.scores(THREE)
    assert scores.class_iou['road'] == pytest.approx(2 / 3)
    assert scores.class_iou['path'] == pytest.approx(2 / 4)  # one missed, one too many
    assert np.isnan(scores.class_iou['tree'])                # neither there nor seen
    assert scores.miou == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.category_iou['flat'] == pytest.approx(5 / 6)
    assert scores.pixel_accuracy == pytest.approx(4 / 6)
    assert scores.to_dict()['class_iou']['tree'] is None


class OfNumpy1(np.ndarray):
    """Keeps its type when it is multiplied by a number, as numpy 1 does."""

    def __mul__(self, other):
        return np.multiply(self, other, dtype=self.dtype, casting='unsafe')


def test_many_classes_are_counted_under_numpy_1_too() -> None:
    """The robot's: there uint8 times a numpy integer wraps at 256, which 18 * 20 is above."""
    truth = np.arange(19, dtype=np.uint8)
    assert (truth.view(OfNumpy1) * np.int64(20)).max() < 256
    confusion = Confusion(19)
    confusion.add(truth.view(OfNumpy1), truth)
    assert (confusion.counts[:, :19] == np.eye(19)).all()


def test_it_counts_as_cityscapes_evaluator_does(tmp_path) -> None:
    """Generated files in the layout of Cityscapes, scored by both."""
    theirs = pytest.importorskip(
        'cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling',
        reason='needs cityscapesscripts')
    from cityscapesscripts.helpers.labels import labels as all_labels
    from cityscapesscripts.helpers.labels import trainId2label
    ids = [label.id for label in all_labels if label.id >= 0]
    rng = np.random.default_rng(0)
    truth_files, seen_files = [], []
    for i in range(3):
        place = tmp_path / 'leftImg8bit' / 'val' / 'ulm'
        labels_place = tmp_path / 'gtFine' / 'val' / 'ulm'
        for directory in (place, labels_place, tmp_path / 'pred'):
            directory.mkdir(parents=True, exist_ok=True)
        name = f'ulm_{i:06}_000019'
        cv2.imwrite(str(place / f'{name}_leftImg8bit.png'), np.zeros((32, 64, 3), np.uint8))
        truth_files.append(str(labels_place / f'{name}_gtFine_labelIds.png'))
        coarse = rng.choice(ids, (8, 16)).astype(np.uint8)
        cv2.imwrite(truth_files[-1], coarse.repeat(4, 0).repeat(4, 1))
    data = open_data_set(tmp_path, 'val')
    confusion = Confusion(len(data.labels))
    for i in range(3):
        _, truth = data.read(i)
        seen = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 19, truth.shape))
        seen = seen.astype(np.uint8)
        seen[rng.random(truth.shape) < 0.1] = 255
        confusion.add(truth, seen)
        by_id = np.zeros(256, np.uint8)  # 255, unlabelled, becomes their id 0
        by_id[:19] = [trainId2label[t].id for t in range(19)]
        seen_files.append(str(tmp_path / 'pred' / f'{i}.png'))
        cv2.imwrite(seen_files[-1], by_id[seen])
    theirs.args.evalInstLevelScore = theirs.args.JSONOutput = False
    theirs.args.quiet = True
    wanted = theirs.evaluateImgLists(seen_files, truth_files, theirs.args)
    scores = confusion.scores(builtin_label_set('cityscapes'))
    assert scores.miou == pytest.approx(wanted['averageScoreClasses'], abs=1e-6)
    assert scores.category_miou == pytest.approx(wanted['averageScoreCategories'], abs=1e-6)
    assert len(scores.class_iou) == 19
    for name, value in scores.class_iou.items():
        assert value == pytest.approx(wanted['classScores'][name], abs=1e-6, nan_ok=True)
    for name, value in scores.category_iou.items():
        assert value == pytest.approx(wanted['categoryScores'][name], abs=1e-6)
