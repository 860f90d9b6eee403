# SPDX-License-Identifier: Apache-2.0
"""The one door: labels, a camera and its pose in; ground points, an occupancy grid, a scan out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lednet_ros.common.cpu import limit_opencv
from lednet_ros.common.errors import ConfigError
from lednet_ros.projection.camera import Camera
from lednet_ros.projection.contacts import Contacts
from lednet_ros.projection.free_space import FreeSpace
from lednet_ros.projection.grid import Belief, Grid, Sampled, Sighting, nodes_per_cell
from lednet_ros.projection.pixel_codes import PixelCodes
from lednet_ros.projection.points import GroundPoints
from lednet_ros.projection.pose import Pose
from lednet_ros.projection.traversability import Traversability
from lednet_ros.projection.view import View

_MOST_CELLS, _MOST_NODES = 2000, 4000  # along a side


@dataclass(frozen=True)
class GroundConfig:
    """What is made of labels, in m, s and rad. Checked when made."""

    min_range: float = 0.0          # nearer ground is left out: the robot's own bonnet
    max_range: float = 20.0
    grid_resolution: float = 0.1
    grid_size: float = 20.0         # of a side; the robot is in the middle
    grid_decay_s: float = 0.0       # 0: each frame's grid is of that frame alone
    grid_belief: Belief = field(default_factory=Belief)  # of a grid that remembers
    grid_weighs: bool = False       # sightings by their confidence
    angle_increment: float = np.pi / 360

    def __post_init__(self) -> None:
        if not 0 <= self.min_range < self.max_range:
            raise ConfigError(f'min_range is {self.min_range:g} m and max_range '
                              f'{self.max_range:g} m: give 0 <= min_range < max_range')
        if not 2 <= self.grid_cells <= _MOST_CELLS:
            raise ConfigError(f'a grid of {self.grid_size:g} m by {self.grid_resolution:g} m has '
                              f'{self.grid_cells} cells a side: make it 2 to {_MOST_CELLS}')
        nodes = nodes_per_cell(self.grid_resolution)
        if nodes * self.grid_cells > _MOST_NODES:
            most = _MOST_NODES // nodes * self.grid_resolution
            raise ConfigError(f'a grid of {self.grid_size:g} m is too large to look at closely: '
                              f'make it {most:g} m at most')

    @property
    def grid_cells(self) -> int:
        """How many cells a side of the grid has: an even number."""
        return 2 * round(self.grid_size / self.grid_resolution / 2)


class Ground:
    """Set it up by `set_camera`, hand it frames by `look`, ask for what is wanted.

    Everything that depends on camera and pose alone is made when first wanted, and kept. What an
    output returns is overwritten by the next frame's. Used by one thread.
    """

    def __init__(self, traversability: Traversability, config: GroundConfig | None = None) -> None:
        limit_opencv()
        self.traversability = traversability
        self.config = config or GroundConfig()
        self._camera: Camera | None = None
        self._rays = np.empty((0, 0, 3), np.float32)
        self._view: View | None = None
        self._codes_of: PixelCodes | None = None
        self._contacts: Contacts | None = None
        self._contacts_are_new = False
        self._points: GroundPoints | None = None
        self._sampled: Sampled | None = None
        self._free_space: FreeSpace | None = None
        self._grid = Grid(self.config.grid_resolution, self.config.grid_cells,
                          self.config.grid_decay_s, belief=self.config.grid_belief)
        self._confidence: np.ndarray | None = None
        self._labels = self._codes = np.empty((0, 0), np.uint8)

    def set_camera(self, camera: Camera, pose: Pose) -> View:
        """Say what the next frames are seen by; cheap when nothing has changed.

        Raises NoGround where no ground is in view.
        """
        if self._view is not None and (self._view.camera, self._view.pose) == (camera, pose):
            return self._view
        self._view = None
        if camera != self._camera:
            self._rays = camera.rays()
            self._codes_of = PixelCodes(self.traversability, camera.height, camera.width)
            self._camera = camera
        self._contacts = self._points = self._sampled = self._free_space = None
        self._view = View(camera, self._rays, pose, self.config.min_range, self.config.max_range)
        return self._view

    def look(
        self, labels: np.ndarray, confidence: np.ndarray | None = None,
        min_confidence: float = 0.0,
    ) -> bool:
        """Take a frame: uint8 (H, W) of the camera's size, kept until the next one.

        Confidences are 0 to 255; a pixel less certain than `min_confidence`, 0 to 1, is unknown,
        and so is 255. Tells whether any pixel says anything of the ground.
        """
        assert self._codes_of is not None
        self._labels, self._confidence = labels, confidence
        self._codes = self._codes_of.make(labels, confidence, min_confidence)
        self._contacts_are_new = False
        return self._codes_of.say_something()

    def points(self, out: np.ndarray) -> None:
        """Fill `out`, float32 (H, W, 4), with every pixel's point: see GroundPoints.make."""
        contacts = self._looked_contacts()
        if self._points is None:
            self._points = GroundPoints(self._the_view(), contacts, self.traversability.labels)
        self._points.make(self._labels, self._codes, out)

    def grid(self, stamp_s: float, x: float = 0.0, y: float = 0.0, yaw: float = 0.0) -> Grid:
        """Give the grid with this frame in it; the robot's place is in the grid's frame."""
        if self._sampled is None:
            self._sampled = Sampled(self._the_view(), self.config.grid_resolution,
                                    self.config.grid_cells)
        sampled, contacts = self._sampled.look(self._codes), self._looked_contacts()
        certainty = self._confidence if self.config.grid_weighs else None
        sighting = Sighting(sampled, contacts.points(), x, y, yaw) if certainty is None else (
            Sighting(sampled, contacts.points(), x, y, yaw, self._sampled.certainty(certainty),
                     contacts.certainty(certainty)))
        self._grid.add_all([sighting], stamp_s)
        return self._grid

    def forget(self) -> None:
        """Empty the grid: what was seen until now is not where it was taken to be."""
        self._grid.forget()

    def free_space(self) -> tuple[FreeSpace, np.ndarray]:
        """Give the scan's geometry and its ranges: see FreeSpace.make."""
        if self._free_space is None:
            self._free_space = FreeSpace(self._the_view(), self.config.angle_increment)
        return self._free_space, self._free_space.make(self._codes)

    def _the_view(self) -> View:
        assert self._view is not None
        return self._view

    def _looked_contacts(self) -> Contacts:
        """Give the contacts of this frame, found once for all outputs."""
        if self._contacts is None:
            self._contacts = Contacts(self._the_view())
        if not self._contacts_are_new:
            self._contacts.look(self._codes)
            self._contacts_are_new = True
        return self._contacts
