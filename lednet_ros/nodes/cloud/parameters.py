# SPDX-License-Identifier: Apache-2.0
"""
The parameters of semantic_cloud_node.

The only source: tools/write_docs.py makes config/cloud.yaml and docs/parameters.md of it.
"""

from __future__ import annotations

from lednet_ros.nodes.ground import parameters as ground
from lednet_ros.nodes.shared.parameters import Param, frame_fault, own_frame_fault

_OF_GROUND = {row.name: row for row in ground.PARAMETERS}

PARAMETERS = (
    Param('source', 'depth',
          'Sensor that gives the labels their positions: depth is a depth image on the topic '
          'depth, registered to the camera, points is a PointCloud2 on the topic points.',
          choices=('depth', 'points')),
    Param('cameras', [''],
          'Names of the cameras, each with topics <camera>/label, <camera>/camera_info and '
          '<camera>/depth or <camera>/points, that make one cloud, grid and scan. Each has a pose '
          'of its own, such as camera.<camera>.height, and camera.height is then ignored. An '
          "empty list, or [''], means one camera without a name, whose topics have no prefix."),
    _OF_GROUND['stale_after_s'],
    _OF_GROUND['traversability'],
    _OF_GROUND['min_confidence'],
    _OF_GROUND['rectified'],
    Param('output_frame', 'base_link',
          "Frame of the outputs, the robot's own. Its origin must be at ground level, with z up: "
          'use base_footprint if base_link is higher.', judge=own_frame_fault),
    Param('fixed_frame', '',
          "World-fixed frame, such as odom, by which the robot's motion between the stamps of "
          'labels and depth or points is compensated. If it is empty, it is not compensated.',
          judge=frame_fault),
    _OF_GROUND['pose_source'],
    _OF_GROUND['tf_timeout_s'],
    Param('sync_tolerance_ms', 50.0,
          'Labels and depth or points whose stamps are at most so many milliseconds apart belong '
          'together. 0 takes equal stamps only.', between=(0.0, 1000.0), live=True),
    *(_OF_GROUND[f'camera.{name}'] for name in ('height', 'roll', 'pitch', 'yaw', 'x', 'y')),
    Param('min_range', 0.1,
          'Depth and points nearer than this are left out, in metres from the sensor.',
          between=(0.0, 1000.0)),
    Param('max_range', 20.0,
          "Depth and points farther than this are left out, in metres from the sensor. A LiDAR's "
          'points stay in the cloud.', between=(0.1, 1000.0)),
    Param('edge_jump', 0.05,
          'Depth discontinuity, as a fraction of the distance. At a larger jump between '
          'neighbouring pixels the farther pixel is discarded, and so is one that floats between '
          'the two surfaces. 0 keeps all.', between=(0.0, 1.0),
          live=True),
    Param('label_border', 2,
          'Points of a LiDAR within so many pixels of where classes meet stay unlabelled.',
          between=(0, 20), live=True),
    Param('obstacle_height', 0.2,
          'What stands higher above the ground than this is an obstacle, in metres, whatever its '
          'class.', between=(0.01, 10.0), live=True),
    Param('max_step', 0.15,
          'Largest step in metres, up or down, between two neighbouring cells that the robot can '
          'drive over.', between=(0.01, 10.0), live=True),
    Param('max_slope', 0.44,
          'Steepest slope in radians that the robot can drive on.',
          between=(0.01, 1.4), live=True),
    Param('max_clearance', 2.0,
          'Points higher above the ground than this, in metres, are ignored in the grid and the '
          "scan: give the robot's height and a margin.",
          between=(0.02, 100.0), live=True),
    *(_OF_GROUND[name] for name in (
        'points.stride', 'grid.frame', 'grid.resolution', 'grid.size', 'grid.decay_s',
        'grid.hit', 'grid.miss', 'grid.occupied_above', 'grid.free_below')),
    _OF_GROUND['free_space.angle_increment'],
    Param('autostart', True,
          'Configure and activate the node when it starts. Set it to false for a lifecycle '
          'manager.'),
    _OF_GROUND['diagnostics.period_s'],
    Param('diagnostics.max_latency_ms', 0.0,
          'Diagnostics warn if the 95th percentile of the latency from the image stamp to the '
          'output is above this, in milliseconds. 0 never warns.', between=(0.0, 1e6), live=True),
    _OF_GROUND['diagnostics.stale_after_s'],
)
