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
          '<camera>/depth or <camera>/points, that make one cloud, grid and scan. If the list is '
          'empty, there is one camera, without a prefix.'),
    _OF_GROUND['stale_after_s'],
    _OF_GROUND['traversability'],
    _OF_GROUND['min_confidence'],
    _OF_GROUND['rectified'],
    Param('output_frame', 'base_link',
          "Frame of the outputs, the robot's own. It has to lie on the ground with z up: take "
          'base_footprint if base_link does not.', judge=own_frame_fault),
    Param('fixed_frame', '',
          "A frame that stays, such as odom. The robot's motion between the stamps of labels and "
          'depth or points is taken out by it. If it is empty, no motion is taken out.',
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
          'Pixels at a jump of depth of more than this part of the distance are left out on the '
          'farther side and in the air between. 0 leaves nothing out.', between=(0.0, 1.0),
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
          'What hangs higher above the ground than this is no obstacle, in metres.',
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
          'The 95th percentile of the latency from stamp to output above which the node warns, in '
          'milliseconds. 0 never warns.', between=(0.0, 1e6), live=True),
    _OF_GROUND['diagnostics.stale_after_s'],
)
