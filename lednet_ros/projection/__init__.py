# SPDX-License-Identifier: Apache-2.0
"""Labels, a camera and its pose to what planners use. Neither ROS nor torch."""

from lednet_ros.projection.camera import BadCamera, Camera
from lednet_ros.projection.evidence import Belief
from lednet_ros.projection.ground import Ground, GroundConfig
from lednet_ros.projection.pose import Pose
from lednet_ros.projection.traversability import Traversability
from lednet_ros.projection.view import NoGround

__all__ = ['BadCamera', 'Belief', 'Camera', 'Ground', 'GroundConfig', 'NoGround', 'Pose',
           'Traversability']
