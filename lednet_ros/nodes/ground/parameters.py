# SPDX-License-Identifier: Apache-2.0
"""
The parameters of ground_node.

The only source: tools/write_docs.py makes config/ground.yaml and docs/parameters.md of it.
"""

from __future__ import annotations

from dataclasses import replace

from lednet_ros.nodes.shared.parameters import Param, frame_fault, own_frame_fault

POSE_SOURCES = ('auto', 'tf', 'parameters')

PARAMETERS = (
    Param('traversability', 'camvid',
          'What each class is to a planner: camvid, cityscapes, or the path of a YAML file like '
          'theirs.'),
    Param('cameras', [''],
          'Names of the cameras, each with topics <camera>/label and <camera>/camera_info, that '
          'make one cloud, grid and scan. Each has a pose of its own, such as '
          "camera.<camera>.height, and camera.height is then ignored. An empty list, or [''], "
          'means one camera without a name, on label and camera_info.'),
    Param('stale_after_s', 1.0,
          'A camera whose newest label image lags the newest of all cameras by more than this '
          'many seconds is ignored, and its field of view counts as unknown.',
          between=(0.01, 60.0), live=True),
    Param('min_confidence', 0.0,
          'A pixel whose class is less probable than this counts as unknown. Above 0 the '
          'confidence images are needed too.', between=(0.0, 1.0), live=True),
    Param('rectified', False,
          'Set it to true if the label images are of rectified images, for which P of camera_info '
          'holds instead of K and D.'),
    Param('robot_frame', 'base_link',
          'Frame of the outputs. Its origin must be at ground level, with z up: use '
          'base_footprint if base_link is higher.', judge=own_frame_fault),
    Param('pose_source', 'auto',
          "Source of the camera's pose. auto takes TF where tf2_ros is installed, else the "
          'parameters.', choices=POSE_SOURCES),
    Param('tf_timeout_s', 0.2,
          'Longest time in seconds that a label image waits for the transforms of its stamp. The '
          'wait ends only when this time has passed both in ROS time and in wall time. 0 does not '
          'wait.',
          between=(0.0, 10.0), live=True),
    Param('camera.height', 0.0,
          'Height of the camera above the ground in metres. 0 means that it is not given.',
          between=(0.0, 1000.0), live=True),
    Param('camera.roll', 0.0,
          'Roll of the camera in radians. It is positive if the right side is down.',
          between=(-3.15, 3.15), live=True),
    Param('camera.pitch', 0.0,
          'Pitch of the camera in radians. It is positive if the camera looks down.',
          between=(-3.15, 3.15), live=True),
    Param('camera.yaw', 0.0,
          'Yaw of the camera in radians. It is positive if the camera looks to the left.',
          between=(-3.15, 3.15), live=True),
    Param('camera.x', 0.0,
          "Distance of the camera in front of the robot frame's origin in metres.",
          between=(-1000.0, 1000.0), live=True),
    Param('camera.y', 0.0,
          "Distance of the camera to the left of the robot frame's origin in metres.",
          between=(-1000.0, 1000.0), live=True),
    Param('min_range', 0.0,
          'Ground nearer than this is left out, in metres from the point below the camera. Use it '
          'where the camera sees a part of the robot itself.', between=(0.0, 1000.0)),
    Param('max_range', 20.0,
          'Ground farther than this is left out, in metres from the point below the camera.',
          between=(0.1, 1000.0)),
    Param('points.stride', 1,
          'Publish only every n-th row and column of the points.', between=(1, 64), live=True),
    Param('grid.frame', '',
          'Frame of the grid. In a fixed frame such as odom the grid is accumulated: what was '
          'seen of a cell is kept for grid.decay_s. If it is empty, each grid is of the newest '
          'image of each camera, in the robot frame.', judge=frame_fault),
    Param('grid.resolution', 0.1,
          'Side length of a grid cell in metres.', between=(0.01, 10.0)),
    Param('grid.size', 20.0,
          'Side length of the grid in metres. The robot is in the middle.',
          between=(0.1, 1000.0)),
    Param('grid.decay_s', 2.0,
          'Time in seconds after which a cell that is no longer seen becomes unknown.',
          between=(0.0, 3600.0)),
    Param('grid.hit', 0.9,
          'Probability that a cell of an accumulated grid is occupied after one fully certain '
          'sighting of an obstacle or of blocked ground, starting from 0.5.', between=(0.5, 0.97)),
    Param('grid.miss', 0.3,
          'Probability that a cell of an accumulated grid is occupied after one fully certain '
          'sighting of free ground, starting from 0.5.',
          between=(0.01, 0.49)),
    Param('grid.occupied_above', 0.7,
          'A cell of an accumulated grid becomes occupied above this probability, and stays so '
          'until it is no longer above 0.5.', between=(0.5, 0.97)),
    Param('grid.free_below', 0.25,
          'A cell of an accumulated grid is free below this probability of being occupied.',
          between=(0.03, 0.49)),
    Param('grid.weigh_confidence', False,
          'Weigh what an accumulated grid sees by the confidence of its pixels. The topic '
          'confidence is subscribed to then.'),
    Param('free_space.angle_increment', 0.0087,
          'Angle between two beams of the scan in radians.', between=(0.001, 0.2)),
    Param('diagnostics.period_s', 1.0,
          'Time between two reports on /diagnostics in seconds.', between=(0.1, 60.0)),
    Param('diagnostics.stale_after_s', 5.0,
          'An input without a message for so many seconds is reported as stale.',
          between=(0.1, 3600.0), live=True),
)


def camera_parameters(name: str) -> list[Param]:
    """Return the parameters that one of several cameras has: its own pose."""
    return [replace(row, name=row.name.replace('camera.', f'camera.{name}.'))
            for row in PARAMETERS if row.name.startswith('camera.')]
