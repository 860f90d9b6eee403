# SPDX-License-Identifier: Apache-2.0
import numpy as np

from lednet_ros.projection.birds_eye import FREE, OCCUPIED, UNKNOWN, birds_eye


def test_forward_is_up_and_left_is_left() -> None:
    cells = np.full((40, 40), -1, np.int8)  # rows along y, 1 m each, the robot in the middle
    cells[20, 22:28] = 0    # ahead, a bit to the left
    cells[30:33, 24:27] = 100  # 4 to 7 m ahead, 10 to 13 m to the left
    before = cells.copy()
    picture = birds_eye(cells, (-20.0, -20.0), 1.0, 20.0, 212, 640)  # 10 pixels a metre
    assert picture.shape == (212, 640, 3)
    assert picture.dtype == np.uint8
    assert tuple(picture[204 - 57, 320 - 115]) == OCCUPIED
    assert tuple(picture[204 - 57, 320 + 115]) == UNKNOWN
    assert tuple(picture[204 - 35, 320 - 4]) == FREE
    assert (cells == before).all()


def test_beams_are_drawn_where_free_ground_ends() -> None:
    cells = np.full((40, 40), -1, np.int8)
    beams = np.array([[7.0, 3.0], [np.nan, np.nan]])
    picture = birds_eye(cells, (-20.0, -20.0), 1.0, 20.0, 212, 640, beams)
    assert picture[204 - 70, 320 - 30].min() > 200
