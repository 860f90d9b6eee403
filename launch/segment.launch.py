# SPDX-License-Identifier: Apache-2.0
"""Start segment_node on a camera's images and, if asked for, ground_node on its labels."""

import os
import sys
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.logging import launch_config
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from lednet_ros.nodes.shared.dds_profile import large_image_environment
from lednet_ros.nodes.shared.launch_arguments import (
    ParameterFile,
    camera_info_beside,
    camera_names,
    cloud_remappings,
    cloud_source,
    existing_file,
    full_name,
    ground_remappings,
    is_true,
    log_level,
    namespace_to_add,
    refuse_unknown,
    require_package,
)
from lednet_ros.segmentation.backends.registry import CHOICES

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
        'backend', default_value='', choices=['', *CHOICES],
        description="what runs the network; empty: params_file's, else auto"),
    DeclareLaunchArgument(
        'params_file', default_value='',
        description="file with the nodes' parameters, such as a changed copy of "
        'config/segment.yaml, config/ground.yaml or config/cloud.yaml; empty: the defaults'),
    DeclareLaunchArgument(
        'planning', default_value='false',
        description='make ground points, an occupancy grid and a scan of the labels, of all '
        "cameras together; needs camera_info and the cameras' poses: TF, or pose_source: "
        'parameters and camera.height (camera.front.height of a camera front) in params_file'),
    DeclareLaunchArgument(
        'depth', default_value='',
        description='topic of a depth image that is registered to the camera: labels in three '
        'dimensions, a grid and a scan of it by semantic_cloud_node; of several cameras, relative '
        'to each, as in <camera>/<depth>; with it, planning starts no ground_node'),
    DeclareLaunchArgument(
        'points', default_value='',
        description="the same of a PointCloud2, a LiDAR's or an organised one of the camera"),
    DeclareLaunchArgument(
        'namespace', default_value='',
        description="put before the nodes' names and relative topics, after what PushRosNamespace "
        'has put there'),
    DeclareLaunchArgument(
        'rviz', default_value='false',
        description='show the images in RViz (rviz2, to be installed beside)'),
    DeclareLaunchArgument(
        'use_sim_time', default_value='',
        description="go by the clock of a simulation's or bag's /clock; empty: params_file's, "
        'else false'),
    DeclareLaunchArgument(
        'log_level', default_value='info',
        description='least severity that the nodes log: debug, info, warn, error or fatal'),
]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, set the middleware's profile, start the nodes."""
    profile = [SetEnvironmentVariable(name, value)
               for name, value in large_image_environment(os.environ).items()]
    return LaunchDescription([*ARGUMENTS, *profile, OpaqueFunction(function=start_nodes)])


def start_nodes(context: LaunchContext) -> 'list[LaunchDescriptionEntity]':
    """Make the nodes, now that the arguments' values are known."""
    refuse_unknown(sys.argv, 'segment.launch.py', [argument.name for argument in ARGUMENTS])

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def flag(name: str) -> 'bool | None':
        return is_true(name, value(name))

    pushed = context.launch_configurations.get('ros_namespace', '')
    namespace = namespace_to_add(value('namespace'), pushed)
    node = full_name('segment', namespace, pushed)
    file = existing_file('params_file', value('params_file'))
    in_file = ParameterFile(file)
    given = {name: value(name) for name in ('image_transport', 'checkpoint', 'backend')}
    given['checkpoint'] = existing_file('checkpoint', given['checkpoint'])
    # An argument that is not given leaves the file's word.
    clock = [] if flag('use_sim_time') is None else [{'use_sim_time': flag('use_sim_time')}]
    files = [file] if file else []
    parameters = files + [{name: ParameterValue(text, value_type=str)}
                          for name, text in given.items() if text]
    cameras = camera_names(value('cameras'))
    if cameras:
        parameters.append({'cameras': cameras})
    cameras = cameras or in_file.cameras(node)

    # All names that are given relative stay so: the nodes' namespace is put before them, whether
    # it comes from the argument or from a PushRosNamespace around this file.
    image, outputs = value('image'), 'segment'
    camera_info = value('camera_info') or camera_info_beside(image)
    if cameras:  # RViz shows the first
        image, outputs = f'{cameras[0]}/image', f'segment/{cameras[0]}'
    shown, rviz_config = '/image', RVIZ_CONFIG
    if (given['image_transport'] or in_file.get(node, 'image_transport')) == 'compressed':
        # RViz goes by the last part of a topic's name.
        image, shown = f'{image}/compressed', '/image/compressed'
        rviz_config = _with_topic(RVIZ_CONFIG.perform(context), shown)
    common = {'namespace': namespace, 'output': 'screen'}
    log = ['--ros-args', '--log-level', log_level(value('log_level'))]
    nodes: list[LaunchDescriptionEntity] = []
    if cameras and (value('camera_info') or value('image') != 'image'):
        nodes.append(LogInfo(msg='segment.launch.py: image and camera_info are left aside, as '
                             'there are cameras: each has <name>/image and <name>/camera_info'))
    if flag('rviz'):
        require_package('rviz', 'rviz2')  # which rosdep does not bring: no screen, no RViz
        nodes.append(Node(
            package='rviz2', executable='rviz2', name='segment_rviz', **common, parameters=clock,
            arguments=['-d', rviz_config],
            remappings=[(shown, image), *(
                (f'/segment/{name}', f'{outputs}/{name}')
                for name in ('overlay', 'label', 'confidence')), *(
                (f'/{node}/{name}', f'{node}/{name}') for node in ('ground', 'semantic_cloud')
                for name in ('points', 'grid', 'free_space'))]))
    nodes.append(Node(
        package='lednet_ros', executable='segment_node', name='segment', **common,
        emulate_tty=True, parameters=[*parameters, *clock], arguments=log,
        remappings=[] if cameras else [('image', value('image')), ('camera_info', camera_info)]))
    source = cloud_source(value('depth'), value('points'))
    if source:
        seen = in_file.cameras(full_name('semantic_cloud', namespace, pushed)) or cameras
        if value(source).startswith('/') and len(seen) > 1:
            nodes.append(LogInfo(msg=f'segment.launch.py: {source} is one topic, taken for the '
                                 f'camera {seen[0]} alone: give a relative one, which each has'))
            seen = seen[:1]
        named = [{'cameras': seen}] if seen else []
        nodes.append(Node(
            package='lednet_ros', executable='semantic_cloud_node', name='semantic_cloud',
            **common, emulate_tty=True, arguments=log,
            parameters=[*files, {'source': source}, *named, *clock],
            remappings=cloud_remappings(seen, source, value(source))))
    elif flag('planning'):
        # The file may name some of the cameras for it.
        seen = in_file.cameras(full_name('ground', namespace, pushed)) or cameras
        named = [{'cameras': seen}] if seen else []
        nodes.append(Node(
            package='lednet_ros', executable='ground_node', name='ground', **common,
            emulate_tty=True, parameters=[*files, *named, *clock], arguments=log,
            remappings=ground_remappings(seen)))
    return nodes


def _with_topic(config: str, topic: str) -> str:
    """Write a copy of RViz's config whose camera panel shows another topic; return its path."""
    text = Path(config).read_text(encoding='utf-8')
    copy = Path(launch_config.log_dir) / 'segment.rviz'
    copy.write_text(text.replace('Value: /image\n', f'Value: {topic}\n'), encoding='utf-8')
    return str(copy)
