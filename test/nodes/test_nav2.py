# SPDX-License-Identifier: Apache-2.0
"""What Nav2's semantic_segmentation_layer asks for, held against the running nodes.

The layer itself is C++ and needs Nav2; here this process subscribes as it does.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import fakes
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header, String

from lednet_ros.model.labels import UNLABELLED, builtin_label_set
from lednet_ros.nodes.shared.dds_profile import config_file
from lednet_ros.nodes.shared.image_messages import encode_image
from lednet_ros.projection import Traversability

SENSOR_DATA = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE,
                     durability=DurabilityPolicy.TRANSIENT_LOCAL)
HEIGHT, WIDTH = 96, 130


def layer() -> dict[str, Any]:
    """What config/nav2_semantic_costmap.yaml tells the layer of its one source."""
    text = config_file('nav2_semantic_costmap.yaml').read_text(encoding='utf-8')
    parameters = yaml.safe_load(text)['local_costmap']['local_costmap']['ros__parameters']
    assert parameters['track_unknown_space'] is True
    layer = parameters['semantic_layer']
    assert layer['plugin'] == 'semantic_segmentation_layer::SemanticSegmentationLayer'
    return layer[layer['observation_sources']]


def frame(stamp: int) -> tuple[Image, CameraInfo]:
    header = Header(frame_id='eye')
    header.stamp.sec = stamp
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    pixels = np.ascontiguousarray(coarse.repeat(16, 0).repeat(17, 1)[:HEIGHT, :WIDTH])
    return encode_image(pixels, 'bgr8', header), CameraInfo(
        header=header, width=WIDTH, height=HEIGHT, distortion_model='plumb_bob', d=[0.0] * 5,
        k=[80.0, 0, 65, 0, 80.0, 48, 0, 0, 1], r=np.eye(3).ravel(),
        p=[80.0, 0, 65, 0, 0, 80.0, 48, 0, 0, 0, 1, 0])


def test_mask_confidence_points_and_labels_are_as_the_layer_needs_them(graph) -> None:
    source = layer()
    segment = graph.start(fakes.command('spelt labels'), {'input_height': 64, 'input_width': 128})
    ground = graph.start('lednet_ros.nodes.ground.ground_node', {
        'pose_source': 'parameters', 'camera.height': 1.0},
        remaps={name: f'segment/{name}' for name in ('label', 'camera_info')})
    for node in (segment, ground):
        graph.wait_for_output(node, 'ready: ')
    # By the topics of the configuration, with the layer's QoS, after the nodes have started.
    inboxes = {
        'mask': graph.subscribe(source['segmentation_topic'], Image, SENSOR_DATA),
        'confidence': graph.subscribe(source['confidence_topic'], Image, SENSOR_DATA),
        'points': graph.subscribe(source['pointcloud_topic'], PointCloud2, SENSOR_DATA)}
    labels = graph.subscribe(source['labels_topic'], String, LATCHED)
    images = graph.publisher('image', Image)
    infos = graph.publisher('camera_info', CameraInfo)
    images.wait_matched()
    infos.wait_matched()
    for first, output_size, size in ((1, 'camera', (HEIGHT, WIDTH)), (1001, 'network', (64, 128)),
                                     (2001, '84x40', (40, 84))):
        assert graph.call(SetParameters, '/segment/set_parameters', SetParameters.Request(
            parameters=[Parameter('output_size', value=output_size).to_parameter_msg()]
        )).results[0].successful
        together: dict[int, dict[str, Any]] = {}
        for stamp in range(first, first + 1000):
            image, info = frame(stamp)
            infos.publish(info)
            images.publish(image)
            time.sleep(0.2)  # a camera's pace
            for name, inbox in inboxes.items():
                for message in inbox.messages:
                    together.setdefault(message.header.stamp.sec, {})[name] = message
            found = [parts for stamp, parts in together.items()
                     if stamp >= first and len(parts) == 3]
            if found:
                break
        judge(found[0], size)
    # Latched, so that one who comes late has it.
    assert labels.wait()[0].data.split(',') == builtin_label_set('camvid').names


def judge(parts: dict[str, Any], size: tuple[int, int]) -> None:
    """Hold what belongs to one image to what the layer needs."""
    mask, confidence, points = (parts[name] for name in ('mask', 'confidence', 'points'))
    assert mask.encoding == confidence.encoding == 'mono8'
    for message in (mask, confidence):
        assert (message.height, message.width) == size
        assert message.step == message.width  # it ignores padding
        assert len(message.data) == message.height * message.width
    assert mask.header.stamp == confidence.header.stamp == points.header.stamp
    assert mask.header.frame_id == 'eye'
    # Organised, of the mask's size: pixel i of the one is point i of the other.
    assert (points.height, points.width) == size
    assert points.row_step == points.point_step * points.width
    assert {'x', 'y', 'z'} <= {field.name for field in points.fields}
    xyz = np.frombuffer(points.data, np.float32).reshape(*size, 4)[..., :3]
    finite = np.isfinite(xyz)
    assert (finite.all(2) == finite.any(2)).all()  # it looks at z alone
    classes = np.frombuffer(mask.data, np.uint8).reshape(size)
    names = builtin_label_set('camvid').names
    assert ((classes < len(names)) | (classes == UNLABELLED)).all()
    assert not finite[classes == UNLABELLED].any()
    assert not finite[classes == names.index('sky')].any()


def test_the_configuration_names_every_class_once_with_the_costs_of_its_traversability() -> None:
    source = layer()
    traversability = Traversability.load('camvid')
    types = {type_: source[type_]['classes'] for type_ in source['class_types']}
    named = [name for names in types.values() for name in names]
    assert sorted(named) == sorted(traversability.labels.names)
    for name, word in zip(traversability.labels.names, traversability.words, strict=True):
        expected = 'obstacle' if word == 'unknown' else word  # that has no points
        assert name in types[expected]
    assert {type_: source[type_]['max_cost'] for type_ in types} == {
        'free': 0, 'blocked': 254, 'obstacle': 254}
    assert source['use_cost_selection'] is True
    for type_ in types:
        assert type(source[type_]['base_cost']) is int
        assert source[type_]['base_cost'] == source[type_]['max_cost']
    assert isinstance(source['max_obstacle_distance'], float)  # an integer would be refused
