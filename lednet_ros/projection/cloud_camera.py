# SPDX-License-Identifier: Apache-2.0
"""One camera of a labelled cloud: what follows from its lens and its pose."""

from __future__ import annotations

from lednet_ros.projection.camera import Camera
from lednet_ros.projection.depth import DepthCamera
from lednet_ros.projection.lidar import Painter
from lednet_ros.projection.pose import Pose
from lednet_ros.projection.traversability import Traversability
from lednet_ros.projection.view import View


class CloudCamera:
    """Keeps what it has made, and makes it anew where the lens, or the pose, is another."""

    def __init__(self, traversability: Traversability) -> None:
        self._traversability = traversability
        self._of_depth: DepthCamera | None = None
        self._painter: Painter | None = None
        self._view: View | None = None

    def of_depth(self, camera: Camera) -> DepthCamera:
        """Return what makes points of a lens's depth images."""
        if self._of_depth is None or self._of_depth.camera != camera:
            self._of_depth = DepthCamera(camera, self._traversability)
        return self._of_depth

    def painter(self, camera: Camera) -> Painter:
        """Return what paints points by a lens's label images."""
        if self._painter is None or self._painter.camera != camera:
            self._painter = Painter(camera)
        return self._painter

    def view(self, camera: Camera, pose: Pose, max_range: float) -> View:
        """Return what is seen of flat ground. Raise NoGround."""
        if self._view is None or (self._view.camera, self._view.pose) != (camera, pose):
            self._view = None
            self._view = View(camera, self.of_depth(camera).rays, pose, 0.0, max_range)
        return self._view
