# SPDX-License-Identifier: Apache-2.0
"""One camera over flat ground: its lens, its pose, its newest frame, what follows from them."""

from __future__ import annotations

import numpy as np

from lednet_ros.projection.camera import Camera
from lednet_ros.projection.contacts import Contacts
from lednet_ros.projection.grid import Sampled, Sighting
from lednet_ros.projection.pixel_codes import PixelCodes
from lednet_ros.projection.points import GroundPoints
from lednet_ros.projection.pose import Pose
from lednet_ros.projection.traversability import OUT, UNKNOWN, Traversability
from lednet_ros.projection.view import View

NOBODY = np.empty((0, 2))  # contacts


class GroundCamera:
    """Made anew in parts: what depends on lens and pose alone when first wanted, and kept."""

    def __init__(self, traversability: Traversability) -> None:
        self._traversability = traversability
        self._camera: Camera | None = None
        self._rays = np.empty((0, 0, 3), np.float32)
        self._view: View | None = None
        self._codes_of: PixelCodes | None = None
        self._contacts: Contacts | None = None
        self._contacts_are_new = False
        self._points: GroundPoints | None = None
        self._sampled: Sampled | None = None
        self._confidence: np.ndarray | None = None
        self._labels = self.codes = np.empty((0, 0), np.uint8)

    @property
    def view(self) -> View:
        """What it sees of the ground, once it is set."""
        assert self._view is not None
        return self._view

    def set(self, camera: Camera, pose: Pose, min_range: float, max_range: float) -> View:
        """Set what the next frames are seen by; cheap if nothing has changed. Raise NoGround."""
        if self._view is not None and (self._view.camera, self._view.pose) == (camera, pose):
            return self._view
        self._view = None
        if camera != self._camera:
            self._rays = camera.rays()
            self._codes_of = PixelCodes(self._traversability, camera.height, camera.width)
            self._camera = camera
        self._contacts = self._points = self._sampled = None
        self._view = View(camera, self._rays, pose, min_range, max_range)
        return self._view

    def look(
        self, labels: np.ndarray, confidence: np.ndarray | None, min_confidence: float,
    ) -> bool:
        """Take a frame: see Ground.look."""
        assert self._codes_of is not None
        self._labels, self._confidence = labels, confidence
        self.codes = self._codes_of.make(labels, confidence, min_confidence)
        self._contacts_are_new = False
        return self._codes_of.say_something()

    def points(self, out: np.ndarray) -> None:
        """Fill `out`, float32 (H, W, 4), with every pixel's point: see GroundPoints.make."""
        contacts = self._looked_contacts()
        if self._points is None:
            self._points = GroundPoints(self.view, contacts, self._traversability.labels)
        self._points.make(self._labels, self.codes, out)

    def sighting(
        self, resolution: float, cells: int, place: tuple[float, float, float], weighs: bool,
    ) -> Sighting:
        """Return what it shows of a grid's cells; `place` is the robot's x, y and yaw there."""
        sampled, contacts = self._the_sampled(resolution, cells), self._looked_contacts()
        codes = sampled.look(self.codes)
        if not weighs or self._confidence is None:
            return Sighting(codes, contacts.points(), *place)
        return Sighting(codes, contacts.points(), *place, sampled.certainty(self._confidence),
                        contacts.certainty(self._confidence))

    def blind(
        self, resolution: float, cells: int, place: tuple[float, float, float],
    ) -> Sighting:
        """Return what a camera shows that no image comes from: where it looks, all is unknown."""
        codes = self._the_sampled(resolution, cells).look(self.codes)
        codes[codes != OUT] = UNKNOWN
        return Sighting(codes, NOBODY, *place)

    def _the_sampled(self, resolution: float, cells: int) -> Sampled:
        if self._sampled is None:
            self._sampled = Sampled(self.view, resolution, cells)
        return self._sampled

    def _looked_contacts(self) -> Contacts:
        """Return the contacts of this frame, found once for all outputs."""
        if self._contacts is None:
            self._contacts = Contacts(self.view)
        if not self._contacts_are_new:
            self._contacts.look(self.codes)
            self._contacts_are_new = True
        return self._contacts
