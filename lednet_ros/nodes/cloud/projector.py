# SPDX-License-Identifier: Apache-2.0
"""One frame's way from messages to messages: labels and depth or points, and where they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import LaserScan, PointCloud2
from std_msgs.msg import Header

from lednet_ros.common.errors import DataError
from lednet_ros.nodes.cloud.messages import CloudMessage, decode_depth, decode_points
from lednet_ros.nodes.ground.messages import GridMessage, make_scan
from lednet_ros.nodes.shared.label_parts import decode_parts
from lednet_ros.nodes.shared.poses import Poses
from lednet_ros.projection import Camera, NoGround, Pose
from lednet_ros.projection.cloud import CloudConfig, LabelCloud
from lednet_ros.projection.heights import Place
from lednet_ros.projection.labelled_points import LabelledPoints, fused
from lednet_ros.projection.traversability import FREE, OUT, UNKNOWN, Traversability
from lednet_ros.projection.view import View

NO_DEPTH = 'there is no depth within min_range and max_range: look at the sensor'
SAYS_NOTHING = ('the labels say nothing of what depth sees: all of it is unlabelled, unsure or '
                'sky')


@dataclass(frozen=True, eq=False)
class Frame:
    """Labels where they are, and what the outputs need besides."""

    points: LabelledPoints
    poses: Poses
    stamp: Any
    view: View | None = None  # of flat ground, of a depth camera
    no_view: str = ''         # why there is none
    scan: tuple[str, int, int] | None = None  # a LiDAR's, that several cameras may label

    @property
    def stamp_ns(self) -> int:
        """Return the labels' stamp."""
        return int(self.stamp.sec * 1_000_000_000 + self.stamp.nanosec)

    @property
    def remark(self) -> str:
        """Return what is odd about it; '' if nothing is."""
        if not (np.isfinite(self.points.z) & (self.points.codes != OUT)).any():
            return NO_DEPTH
        # Ground wraps around to the largest numbers, and obstacles are above what is not known.
        return '' if int((self.points.codes - np.uint8(OUT)).max()) > UNKNOWN - OUT else (
            SAYS_NOTHING)


class Projector:
    """Makes outputs of frames. Its messages' memory is used again: publish, then forget."""

    def __init__(
        self, traversability: Traversability, config: CloudConfig, frame: str, grid_frame: str,
    ) -> None:
        self.cloud = LabelCloud(traversability, config)
        self._frame, self._grid_frame = frame, grid_frame or frame
        self.apart_s = 0.0  # of two frames that a grid cannot remember: see Grid
        self.no_way = ''    # why no ground is free, where that may be a wrong input
        self._message = CloudMessage(1, 1)
        self._grid = GridMessage(config.grid_cells, config.grid_resolution)
        self._cells: tuple[Sequence[Frame], np.ndarray, Place] | None = None  # judged last

    def look(
        self, parts: Mapping[str, Any], poses: Poses, rectified: bool, min_confidence: float,
        needs_cells: bool, name: str = '',
    ) -> Frame:
        """Return a frame of the camera of a name; raise what names the part that does not hold."""
        labels, confidence, camera = decode_parts(parts, min_confidence, rectified)
        depth, seen = self._depth(parts, camera, name)
        view, no_view = None, ''
        if depth is None:
            points = self.cloud.look_at_points(
                camera, poses.camera, poses.sensor.points(seen.reshape(3, -1)),
                poses.sensor.origin, labels, confidence, min_confidence, name)
        else:
            points = self.cloud.look_at_depth(
                camera, poses.sensor, depth, labels, confidence, min_confidence, name)
            if needs_cells:
                try:
                    view = self.cloud.view(camera, poses.sensor, name)
                except NoGround as error:
                    no_view = str(error)
        self.cloud.check_ground(points)
        return Frame(points, poses, parts['label'].header.stamp, view, no_view,
                     _scan_of(parts['points']) if depth is None else None)

    def _depth(
        self, parts: Mapping[str, Any], camera: Camera, name: str,
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """
        Return the depth of each pixel, None where points tell none, and the points.

        Those of a cloud that is organised as the image, in its camera's own frame, do: their z.
        """
        if 'depth' in parts:
            return decode_depth(parts['depth']), np.empty((3, 0))
        message, frame = parts['points'], parts['label'].header.frame_id
        points = decode_points(message)
        is_registered = (message.header.frame_id == frame and message.height > 1
                         and self.cloud.is_registered(camera, points, name))
        return points[2] if is_registered else None, points

    def make_points(self, frames: Sequence[Frame], stride: int = 1) -> PointCloud2:
        """
        Return the cloud of these frames, the newest last; organised if there is one.

        Of each, every `stride`-th row and column.
        """
        some = [points.every(stride) for points in _points_of(frames)]
        outs = self._message.parts([points.shape for points in some], len(some) == 1)
        for points, out in zip(some, outs, strict=True):
            points.fill(self.cloud.traversability.labels, out)
        return self._message.with_header(Header(stamp=frames[-1].stamp, frame_id=self._frame))

    def make_grid(
        self, frames: Sequence[Frame], stamp: Any, blind: Sequence[Frame] = (),
        may_repeat: bool = False,
    ) -> OccupancyGrid:
        """
        Return the grid with these frames in it, the newest last.

        Of cameras whose last frames are `blind`, what they would see is hidden. The stamp is the
        newest of all cameras, which `may_repeat` where they take turns.
        """
        cells, place = self._judged(frames)
        in_view = None
        if self.cloud.config.grid_decay_s:
            views = [frame.view for frame in (*frames, *blind) if frame.view is not None]
            in_view = np.any([self.cloud.in_view(view, place) for view in views],
                             axis=0) if views else None
        stamp_s = stamp.sec + stamp.nanosec / 1e9
        grid = self.cloud.grid(cells, place, stamp_s, in_view, may_repeat)
        self.apart_s = grid.apart_s
        return self._grid.fill(Header(stamp=stamp, frame_id=self._grid_frame), grid)

    def make_scan(self, frames: Sequence[Frame]) -> LaserScan | None:
        """Return the scan of these frames; None where cameras see no ground to scan."""
        if all(frame.no_view for frame in frames):
            return None
        cells, place = self._judged(frames)
        views = [frame.view for frame in frames if frame.view is not None]
        return make_scan(Header(stamp=frames[-1].stamp, frame_id=self._frame),
                         *self.cloud.free_space(cells, place, views))

    def _judged(self, frames: Sequence[Frame]) -> tuple[np.ndarray, Place]:
        if self._cells is None or self._cells[0] != frames:
            robot = frames[-1].poses.robot
            place = (self.cloud.place() if robot is None else
                     self.cloud.place(float(robot.origin[0]), float(robot.origin[1]), robot.yaw))
            cells = self.cloud.cells(_points_of(frames, robot), place)
            self._cells = frames, cells, place
            self.no_way = self._no_way(cells)
        return self._cells[1:]

    def _no_way(self, cells: np.ndarray) -> str:
        height = self.cloud.ground_z
        if (cells == FREE).any() or not abs(height) > self.cloud.config.heights.max_step:
            return ''
        return (f'no ground is free: the nearest that is seen lies {abs(height):.2f} m '
                f'{"above" if height > 0 else "below"} where the robot stands: if it does not, '
                "look at the depth's units, the camera's pose and the output frame")


def check_frame(label: Header, depth: Header) -> None:
    """Raise DataError where a depth image is not registered to the camera of the labels."""
    if depth.frame_id != label.frame_id:
        raise DataError(
            f'depth is in frame {depth.frame_id!r} and label in {label.frame_id!r}: publish depth '
            'that is registered to the camera of the labels, in its frame')


def _scan_of(message: PointCloud2) -> tuple[str, int, int]:
    """Return what tells a LiDAR's scan from others."""
    stamp = message.header.stamp
    return (message.header.frame_id, stamp.sec * 1_000_000_000 + stamp.nanosec,
            message.height * message.width)


def _points_of(frames: Sequence[Frame], robot: Pose | None = None) -> list[LabelledPoints]:
    """Return the frames' points, where the robot is now; those of one scan are the same ones."""
    by_scan: dict[object, list[LabelledPoints]] = {}
    for frame in frames:
        by_scan.setdefault(frame.scan or id(frame), []).append(_where_now(frame, robot))
    return [fused(points) for points in by_scan.values()]


def _where_now(frame: Frame, robot: Pose | None) -> LabelledPoints:
    """Return a frame's points in the frame of the robot as it is now: it may have moved since."""
    then = frame.poses.robot
    return frame.points if robot is None or then is None or then == robot else frame.points.moved(
        robot.of(then))
