# SPDX-License-Identifier: Apache-2.0
"""Labels, a camera and its pose to what planners use. Neither ROS nor torch."""

from lednet_ros.planning.camera import BadCamera, Camera
from lednet_ros.planning.ground import Ground, GroundConfig
from lednet_ros.planning.pose import Pose
from lednet_ros.planning.traversability import Traversability
from lednet_ros.planning.view import NoGround

__all__ = ['BadCamera', 'Camera', 'Ground', 'GroundConfig', 'NoGround', 'Pose', 'Traversability']
