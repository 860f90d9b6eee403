# SPDX-License-Identifier: Apache-2.0

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from std_msgs.msg import Header

from lednet_ros.model.labels import LabelClass, LabelSet
from lednet_ros.nodes.shared import label_info


class Fields:
    """Stands for a message of vision_msgs, which has no wheel: keeps what it is given."""

    def __init__(self, **fields) -> None:
        vars(self).update(fields)


def test_it_names_the_classes_that_occur_in_label_images(monkeypatch) -> None:
    monkeypatch.setattr(label_info, 'LabelInfo', Fields)
    monkeypatch.setattr(label_info, 'VisionClass', Fields, raising=False)
    labels = LabelSet('yard', (
        LabelClass('grass', (0, 200, 0), 'flat'),
        LabelClass('rest', (0, 0, 0), 'void', void=True),
        LabelClass('trunk', (90, 60, 0), 'object')))
    header = Header(frame_id='front')
    message = label_info.make_label_info(labels, 0.25, header)
    assert message.header is header
    assert message.threshold == 0.25
    assert [(c.class_id, c.class_name) for c in message.class_map] == [(0, 'grass'), (2, 'trunk')]


def test_names_that_differ_are_named_for_who_reads_them() -> None:
    labels = LabelSet('yard', (
        LabelClass('grass', (0, 200, 0), 'flat'), LabelClass('trunk', (90, 60, 0), 'object')))

    def message(*names: str) -> Fields:
        return Fields(class_map=[Fields(class_id=i, class_name=n) for i, n in enumerate(names)])

    assert label_info.mismatch(message('grass', 'trunk'), labels) == ''
    assert label_info.mismatch(message('grass'), labels) == ''  # void ones are left out
    assert label_info.mismatch(message('road', 'trunk'), labels) == (
        "label_info calls class 0 'road', yard 'grass': choose the traversability of the labels")
    assert "class 2 'car', yard None" in label_info.mismatch(
        message('grass', 'trunk', 'car'), labels)
