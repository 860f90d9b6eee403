# SPDX-License-Identifier: Apache-2.0
"""The door to labels in space: depth or points and labels in; a cloud, a grid and a scan out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lednet_ros.common.cpu import limit_opencv
from lednet_ros.common.errors import ConfigError, DataError
from lednet_ros.projection.camera import Camera
from lednet_ros.projection.cloud_camera import CloudCamera
from lednet_ros.projection.cloud_scan import CloudScan
from lednet_ros.projection.depth import metres
from lednet_ros.projection.grid import AreaConfig, Grid
from lednet_ros.projection.heights import Heights, HeightsConfig, Place
from lednet_ros.projection.labelled_points import LabelledPoints
from lednet_ros.projection.pose import Pose
from lednet_ros.projection.traversability import OUT, UNKNOWN, Traversability
from lednet_ros.projection.view import NOWHERE, View

_SOME = 2_000       # points, to look where the ground is
_ODD_M = 0.5        # off which level ground cannot be


@dataclass(frozen=True)
class CloudConfig(AreaConfig):
    """What is made of labels and depth. Checked when made."""

    min_range: float = 0.1
    edge_jump: float = 0.05  # of the distance; 0: jumps of depth are no edges
    label_border: int = 2    # pixels beside which a LiDAR's points stay unlabelled
    heights: HeightsConfig = field(default_factory=HeightsConfig)
    _fewest_cells = 4        # a scan needs one beside the robot's

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_range <= self.grid_resolution:
            raise ConfigError(f'max_range is {self.max_range:g} m and a cell of the grid '
                              f'{self.grid_resolution:g} m: make the range larger')

    @property
    def scan_range(self) -> float:
        """How far the scan reaches, in m: all around within the grid."""
        return min(self.max_range, (self.grid_cells / 2 - 1) * self.grid_resolution)


class LabelCloud:
    """
    Labels where depth or points say they are. Used by one thread.

    `look_at_depth` or `look_at_points` makes points of a frame, `cells` what they mean to a
    planner, of any number of sensors; `grid` and `free_space` say so as planners want it. Of
    several cameras each has a name. Planes of points are overwritten by its next frame.
    """

    def __init__(self, traversability: Traversability, config: CloudConfig | None = None) -> None:
        limit_opencv()
        self.traversability = traversability
        self.config = config or CloudConfig()
        """May be replaced between frames, as long as grid and scan keep their sizes."""
        self.ground_z = float('nan')
        """How high the nearest ground of the last `cells` lies, in m; 0 if the poses are right."""
        self._cameras: dict[str, CloudCamera] = {}
        self._begins = np.empty(0)
        self._origins: list[np.ndarray] = []  # of the sensors of the last `cells`
        self._scanned: list[View] = []
        self._scan: CloudScan | None = None
        self._grid = self.config.grid()

    def look_at_depth(
        self, camera: Camera, pose: Pose, depth: np.ndarray, labels: np.ndarray,
        confidence: np.ndarray | None = None, min_confidence: float = 0.0, name: str = '',
    ) -> LabelledPoints:
        """
        Return the points of a depth image, registered to `camera`, in the robot's frame.

        `depth` is uint16 in mm or float32 in m, labels uint8 (H, W), `pose` the camera's.
        Raise BadDepth.
        """
        height, width = labels.shape
        found = metres(depth, height, width, self.config.min_range, self.config.max_range,
                       self.config.edge_jump)
        return self._camera(name).of_depth(camera).look(
            found, labels, confidence, pose, min_confidence)

    def is_registered(self, camera: Camera, points: np.ndarray, name: str = '') -> bool:
        """Return whether points (3, H, W) of the camera's frame each lie on their pixel's ray."""
        return self._camera(name).of_depth(camera).is_registered(points)

    def _camera(self, name: str) -> CloudCamera:
        return self._cameras.setdefault(name, CloudCamera(self.traversability))

    def look_at_points(
        self, camera: Camera, pose: Pose, points: np.ndarray, origin: np.ndarray,
        labels: np.ndarray, confidence: np.ndarray | None = None, min_confidence: float = 0.0,
        name: str = '',
    ) -> LabelledPoints:
        """
        Return points, float32 (3, N) in the robot's frame, with the labels that see them.

        `pose` is the camera's there, `origin` where the points were seen from. All points stay.
        """
        painted, sure, beside = self._camera(name).painter(camera).paint(
            points, pose, labels, confidence, border=self.config.label_border)
        codes = self.traversability.codes[painted]
        if sure is not None:
            codes[sure < np.ceil(255 * min_confidence)] = UNKNOWN
        x, y, z = points.reshape(3, 1, -1)
        with np.errstate(invalid='ignore', over='ignore'):
            distance2 = sum((plane - np.float32(o)) ** 2
                            for plane, o in zip(points, origin, strict=True))
            in_range = ((distance2 >= self.config.min_range ** 2)
                        & (distance2 <= self.config.max_range ** 2))
        codes[~in_range] = OUT
        return LabelledPoints(x, y, z, painted[None], codes[None], origin,
                              None if sure is None else sure[None],
                              beside=beside[None])

    def check_ground(self, points: LabelledPoints) -> None:
        """
        Raise DataError where the nearest ground is not where a robot could stand before it.

        So it is where depth is in other units than it says, or the pose is another camera's.
        """
        stride = max(1, points.x.size // _SOME)
        x, y, z, codes = (plane.ravel()[::stride] for plane in (
            points.x, points.y, points.z, points.codes))
        ground = (codes < OUT) & np.isfinite(z)
        if not ground.any():
            return
        away = np.hypot(x[ground] - points.origin[0], y[ground] - points.origin[1])
        nearest = np.partition(away, away.size // 100)[away.size // 100]
        height = float(np.median(z[ground][away <= nearest + 1]))
        if abs(height) > _ODD_M + np.tan(self.config.heights.max_slope) * nearest:
            raise DataError(
                f'the nearest ground, {nearest:.1f} m away, lies {abs(height):.1f} m '
                f"{'above' if height > 0 else 'below'} z = 0 of the output frame: look at the "
                "depth's units, the camera's pose and the output frame")

    def place(self, x: float = 0.0, y: float = 0.0, yaw: float = 0.0) -> Place:
        """Return where the cells lie around a robot that is there in the grid's frame."""
        return Place.around(self.config.grid_resolution, self.config.grid_cells, x, y, yaw)

    def cells(self, seen: Sequence[LabelledPoints], place: Place) -> np.ndarray:
        """Return the cells' codes of one moment's points, uint8: see Heights.judge."""
        heights = Heights(place, self.config.heights)
        for points in seen:
            heights.add(points)
        cells = heights.judge()
        self._origins = [points.origin for points in seen]
        self.ground_z = heights.ground_z
        return cells

    def grid(self, cells: np.ndarray, place: Place, stamp_s: float,
             in_view: np.ndarray | None = None, may_repeat: bool = False) -> Grid:
        """Return the grid with these cells in it; the rest as `Grid.add_cells` has it."""
        self._grid.add_cells(cells, stamp_s, place.x, place.y, in_view, may_repeat)
        return self._grid

    def forget(self) -> None:
        """Empty the grid: what was seen until now is not where it was taken to be."""
        self._grid.forget()

    def free_space(
        self, cells: np.ndarray, place: Place, views: Sequence[View] = (),
    ) -> tuple[CloudScan, np.ndarray]:
        """Return the scan's geometry and its ranges, of cameras' views or from all around."""
        if self._scan is None:
            self._scan = CloudScan(self.config.grid_resolution, self.config.scan_range,
                                   self.config.angle_increment)
        begins = None
        if views:
            if self._scanned != list(views):
                self._begins = np.fmin.reduce([self._scan.begins_in(view) for view in views])
            self._scanned, begins = list(views), self._begins
        return self._scan, self._scan.make(cells, place, begins, self._origins)

    def view(self, camera: Camera, pose: Pose, name: str = '') -> View:
        """
        Return what a camera sees of flat ground; the same one while nothing changes.

        Raise NoGround where that is nothing.
        """
        return self._camera(name).view(camera, pose, self.config.max_range)

    def in_view(self, view: View, place: Place) -> np.ndarray:
        """Return which cells a camera would see, were the ground flat, bool (cells, cells)."""
        x, y = place.middles()
        return view.map_of_ground(x, y)[..., 0] != NOWHERE
