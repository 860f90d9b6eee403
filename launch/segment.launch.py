# SPDX-License-Identifier: Apache-2.0
"""Start segment_node on a camera's images and, if asked for, ground_node on its labels."""

import os

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from lednet_ros.node.middleware import large_image_environment

RVIZ_CONFIG = PathJoinSubstitution([FindPackageShare('lednet_ros'), 'config', 'segment.rviz'])

ARGUMENTS = [
    DeclareLaunchArgument(
        'image', default_value='image', description="the camera's sensor_msgs/Image topic"),
    DeclareLaunchArgument(
        'camera_info', default_value='',
        description="the camera's sensor_msgs/CameraInfo topic; empty: camera_info beside image"),
    DeclareLaunchArgument(
        'cameras', default_value='',
        description="names of several cameras, '[front, left]' or 'front,left', each with a "
        "topic <name>/image; empty: one camera, on 'image'"),
    DeclareLaunchArgument(
        'image_transport', default_value='', choices=['', 'raw', 'compressed'],
        description="compressed: JPEG or PNG on <image>/compressed; empty: params_file's, else "
        'raw'),
    DeclareLaunchArgument(
        'checkpoint', default_value='',
        description="checkpoint file; empty: params_file's, else the one of the package"),
    DeclareLaunchArgument(
        'backend', default_value='', choices=['', 'auto', 'tensorrt', 'torch', 'onnxruntime'],
        description="what runs the network; empty: params_file's, else auto"),
    DeclareLaunchArgument(
        'params_file', default_value='',
        description="file with the nodes' parameters, such as a changed copy of "
        'config/segment.yaml or config/ground.yaml; empty: the defaults'),
    DeclareLaunchArgument(
        'planning', default_value='false', choices=['true', 'false'],
        description='make ground points, an occupancy grid and a scan of the labels (of the first '
        "camera); needs camera_info and the camera's pose: TF, or pose_source: parameters and "
        'camera.height in params_file'),
    DeclareLaunchArgument(
        'namespace', default_value='', description="put before the node's name and topics"),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'],
        description='show the images in RViz'),
    DeclareLaunchArgument(
        'use_sim_time', default_value='', choices=['', 'true', 'false'],
        description="go by the clock of a simulation's or bag's /clock; empty: params_file's, "
        'else false'),
    DeclareLaunchArgument(
        'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
        description='least severity that the node logs'),
]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, set the middleware's profile, start the nodes."""
    profile = [SetEnvironmentVariable(name, value)
               for name, value in large_image_environment(os.environ).items()]
    return LaunchDescription([*ARGUMENTS, *profile, OpaqueFunction(function=start_nodes)])


def start_nodes(context: LaunchContext) -> 'list[LaunchDescriptionEntity]':
    """Make the nodes, now that the arguments' values are known."""
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    cameras = value('cameras').strip('[] ').replace(',', ' ').split()
    files = [value('params_file')] if value('params_file') else []
    # An argument that is not given leaves the file's word.
    use_sim_time = [{'use_sim_time': value('use_sim_time') == 'true'}] if value(
        'use_sim_time') else []
    parameters = files + [{name: ParameterValue(value(name), value_type=str)}
                          for name in ('image_transport', 'checkpoint', 'backend') if value(name)]
    if cameras:
        parameters.append({'cameras': cameras})

    namespace = f'/{value("namespace").strip("/")}'.rstrip('/')
    image, outputs = value('image'), f'{namespace}/segment'
    if cameras:  # RViz shows the first
        image, outputs = f'{cameras[0]}/image', f'{outputs}/{cameras[0]}'
    if not image.startswith('/'):
        image = f'{namespace}/{image}'
    # A driver's topics lie side by side: /camera/image_raw, /camera/camera_info.
    camera_info = value('camera_info') or f'{image.rpartition("/")[0]}/camera_info'
    return [
        # First: were rviz2 not installed, launch would fail and leave a node started before it.
        Node(
            package='rviz2', executable='rviz2', name='segment_rviz', output='screen',
            condition=IfCondition(value('rviz')), parameters=use_sim_time,
            arguments=['-d', RVIZ_CONFIG],
            remappings=[('/image', image), *(
                (f'/segment/{name}', f'{outputs}/{name}')
                for name in ('overlay', 'label', 'confidence')), *(
                (f'/ground/{name}', f'{namespace}/ground/{name}')
                for name in ('points', 'grid', 'free_space'))]),
        Node(
            package='lednet_ros', executable='segment_node', name='segment',
            namespace=value('namespace'), output='screen', emulate_tty=True,
            parameters=[*parameters, *use_sim_time],
            remappings=[] if cameras else [('image', image), ('camera_info', camera_info)],
            arguments=['--ros-args', '--log-level', value('log_level')]),
        Node(
            package='lednet_ros', executable='ground_node', name='ground',
            namespace=value('namespace'), output='screen', emulate_tty=True,
            condition=IfCondition(value('planning')), parameters=[*files, *use_sim_time],
            # With several cameras, those of the first.
            remappings=[(name, f'{outputs}/{name}')
                        for name in ('label', 'camera_info', 'confidence')]
            + [('label_info', f'{namespace}/segment/label_info')],
            arguments=['--ros-args', '--log-level', value('log_level')]),
    ]
