# SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag get labels, what these are called, and what is said of the others."""

from __future__ import annotations

import numpy as np
import pytest
from recordings import COMPRESSED, IMAGE, STORE, T, header, note, packed, raw, street, write_bag
from rosbags.rosbag2 import StoragePlugin, Writer

from lednet_ros.bags.bag import Bag
from lednet_ros.common.errors import ConfigError
from lednet_ros.offline.cameras import NoCamera, choose, result_topics

COLOUR = (IMAGE, [raw(street(i), i) for i in range(2)])
JPEGS = (COMPRESSED, [packed(street(i), i) for i in range(2)])
DEPTH = (IMAGE, [raw(np.zeros((4, 4), np.uint16), i, '16UC1') for i in range(2)])
PACKED_DEPTH = (COMPRESSED, [packed(street(i), i, '16UC1; compressedDepth png') for i in range(2)])
NAMED_DEPTH = (COMPRESSED, [packed(street(i), i, '16UC1; png compressed') for i in range(2)])
INFRARED = (IMAGE, [raw(np.full((4, 4), 2**15, np.uint16), i, 'mono16') for i in range(2)])
WIDE = (IMAGE, [raw(np.full((4, 4, 3), 2**15, np.uint16), i, 'rgb16') for i in range(2)])
ODD = (IMAGE, [raw(np.zeros((4, 4), np.uint8), i, 'yuv999') for i in range(2)])
DEEP = (COMPRESSED, [packed(np.zeros((4, 4), np.uint16), i) for i in range(2)])
UNREAD = (COMPRESSED, [T[COMPRESSED](header=header(i), format='zstd', data=np.zeros(
    9, np.uint8)) for i in range(2)])
CUT = (IMAGE, [bytes(STORE.serialize_cdr(raw(street(i), i), IMAGE))[:80] for i in range(2)])
NONE = (IMAGE, [])
NOTE = ('std_msgs/msg/String', [note(0)])


def chosen(tmp_path, topics, asked=()):
    """Return {image topic: label topic}, what is skipped and what is left out."""
    write_bag(tmp_path / 'drive', {**topics, '/note': NOTE})
    with Bag(tmp_path / 'drive') as bag:
        choice = choose(tmp_path / 'drive', bag, asked)
        return ({c.connection.topic: c.topic('label') for c in choice.cameras}, choice.skipped,
                choice.left_out)


@pytest.mark.parametrize(('image', 'topics'), [
    ('/image', '/segment'), ('/image_raw', '/segment'), ('image', '/segment'),
    ('/image/compressed', '/segment'), ('/compressed', '/segment'),
    ('/front/image_raw', '/segment/front'),
    ('/camera/camera/color/image_raw/compressed', '/segment/camera/camera/color')])
def test_several_cameras_topics_are_those_of_the_node_s_cameras(image, topics) -> None:
    assert result_topics([image, '/other/image'])[0] == topics
    assert result_topics([image], is_alone=True) == ['/segment']
    assert result_topics([image, '/other/image'], 'mine')[1] == '/mine/other'


def test_a_camera_that_is_alone_has_the_topic_of_a_node_with_one_camera(tmp_path) -> None:
    assert chosen(tmp_path, {'/front/image': COLOUR})[0] == {'/front/image': '/segment/label'}


def test_a_damaged_camera_does_not_change_the_topics_of_another(tmp_path) -> None:
    cameras, _, [left_out] = chosen(tmp_path, {'/front/image': COLOUR, '/rear/image': CUT})
    assert cameras == {'/front/image': '/segment/front/label'}
    assert left_out.startswith('/rear/image ')


@pytest.mark.parametrize(('images', 'topics'), [
    (['/stereo/left_image', '/stereo/right_image'],
     ['/segment/stereo/left_image', '/segment/stereo/right_image']),
    (['/image_front', '/image_rear', '/side/image'],
     ['/segment/image_front', '/segment/image_rear', '/segment/side']),
    (['/a/left/compressed', '/a/right'], ['/segment/a/left', '/segment/a/right']),
    (['/a/b/image', '/a/b', '/a/c'],
     ['/segment/a/b/image', '/segment/a/b', '/segment/a/c'])])
def test_cameras_that_would_share_a_topic_are_named_apart(images, topics) -> None:
    assert result_topics(images) == topics
    assert result_topics(images[::-1]) == topics[::-1]


def test_every_camera_gets_labels_in_one_transport(tmp_path) -> None:
    cameras, skipped, left_out = chosen(tmp_path, {
        '/stereo/left': COLOUR, '/stereo/left/compressed': JPEGS, '/stereo/right': COLOUR,
        '/rear/image/compressed': JPEGS, '/rear/image/compressedDepth': PACKED_DEPTH,
        '/top/image/zstd': UNREAD, '/top/image': COLOUR})
    assert cameras == {
        '/stereo/left': '/segment/stereo/left/label',
        '/stereo/right': '/segment/stereo/right/label',
        '/rear/image/compressed': '/segment/rear/label', '/top/image': '/segment/top/label'}
    assert sorted(skipped) == [('other transports of a camera', topic) for topic in (
        '/rear/image/compressedDepth', '/stereo/left/compressed', '/top/image/zstd')]
    assert not left_out


@pytest.mark.parametrize('bad', [NONE, CUT, INFRARED], ids=['none', 'cut', 'infrared'])
def test_where_the_raw_images_show_nothing_the_compressed_ones_do(tmp_path, bad) -> None:
    cameras, skipped, left_out = chosen(tmp_path, {
        '/front/image': bad, '/front/image/compressed': JPEGS})
    assert cameras == {'/front/image/compressed': '/segment/label'}
    assert skipped == [('other transports of a camera', '/front/image')]
    assert not left_out


@pytest.mark.parametrize(('topic', 'shows', 'expected'), [
    ('/d/image', DEPTH, [('depth and other data', '/d/image holds data (16UC1)')]),
    ('/d/image/compressedDepth', PACKED_DEPTH, [
        ('depth and other data',
         '/d/image/compressedDepth holds data (16UC1; compressedDepth png)')]),
    ('/d/image/compressed', NAMED_DEPTH, [
        ('depth and other data', '/d/image/compressed holds data (16UC1)')]),
    ('/d/image', NONE, [('topics without messages', '/d/image holds no messages')]),
    ('/segment/label', COLOUR, [('outputs of segment_node', '/segment/label')]),
    ('/bot/segment/left/overlay', COLOUR, [
        ('outputs of segment_node', '/bot/segment/left/overlay')])])
def test_what_is_no_camera_is_skipped_by_name(tmp_path, topic, shows, expected) -> None:
    cameras, skipped, left_out = chosen(tmp_path, {'/front/image': COLOUR, topic: shows})
    # What the live node has left there keeps its topic.
    assert cameras == {'/front/image': '/segment/front/label' if topic == '/segment/label' else
                       '/segment/label'}
    assert skipped == expected
    assert not left_out


@pytest.mark.parametrize(('topic', 'shows', 'expected'), [
    ('/ir/image', INFRARED,
     "/ir/image has encoding 'mono16', which may be depth (--topics takes it for light): left"),
    ('/odd/image', ODD, "/odd/image has encoding 'yuv999', which is not read: left without"),
    ('/ir/image/compressed', DEEP, '/ir/image/compressed has 2 images, of which none can be read '
     '(a PNG of 16 bits a channel'),
    ('/top/image/zstd', UNREAD, '/top/image/zstd has 2 images, of which none can be read (9 '),
    ('/top/image', CUT, '/top/image has 2 images, of which none can be read (is no '
     'sensor_msgs/msg/Image: ')])
def test_a_camera_that_gets_no_labels_is_left_out_by_name(
    tmp_path, topic, shows, expected
) -> None:
    cameras, skipped, [left_out] = chosen(tmp_path, {'/front/image': COLOUR, topic: shows})
    assert cameras == {'/front/image': '/segment/front/label'}
    assert not skipped
    assert left_out.startswith(expected)


def test_a_camera_in_foxglove_s_own_form_is_named(tmp_path) -> None:
    with Writer(tmp_path / 'drive', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        camera = writer.add_connection(
            '/eye', 'foxglove.CompressedImage', msgdef='', rihs01='none',
            serialization_format='protobuf')
        writer.write(camera, 1, b'rubbish')
    with Bag(tmp_path / 'drive') as bag, pytest.raises(
            ConfigError, match=r'/eye carries foxglove\.CompressedImage, which is not read'):
        choose(tmp_path / 'drive', bag)


@pytest.mark.parametrize('count', [1, 30])
def test_damaged_images_at_the_beginning_exclude_no_camera(tmp_path, count) -> None:
    good = raw(street(0), count)
    odd = raw(street(0), 0, 'bgr9')
    for name, bad in (('cut', CUT[1][0]), ('odd', odd)):
        (tmp_path / name).mkdir()
        images = (IMAGE, [*[bad] * min(count, 9 if bad is odd else count), good])
        cameras, _, left_out = chosen(tmp_path / name, {'/front/image': images})
        assert cameras == {'/front/image': '/segment/label'}
        assert not left_out


def test_images_of_16_bits_are_shown_as_the_node_does_infrared_where_it_is_asked_for(
    tmp_path
) -> None:
    topics = {'/front/image': WIDE, '/ir/image': INFRARED}
    cameras, _, [left_out] = chosen(tmp_path, topics)
    assert cameras == {'/front/image': '/segment/front/label'}
    assert left_out.startswith('/ir/image ')
    with Bag(tmp_path / 'drive') as bag:
        [camera] = choose(tmp_path / 'drive', bag, ['/ir/image']).cameras
        assert camera.topic('label') == '/segment/label'


@pytest.mark.parametrize(('asked', 'words'), [
    ('/rear/image', 'has no images on /rear/image: choose --topics among /front/image'),
    ('/note', r'has no images on /note \(std_msgs/msg/String\): choose --topics among'),
    ('/depth/image', r'on /depth/image, which holds data \(16UC1\): choose other --topics'),
    ('/left/image', 'on /left/image, which holds no messages: choose other --topics'),
    ('/cut/image', 'on /cut/image, which has 2 images, of which none can be read')])
def test_a_topic_that_was_asked_for_and_shows_nothing_is_an_error_by_name(
    tmp_path, asked, words
) -> None:
    with pytest.raises(ConfigError, match=words):
        chosen(tmp_path, {'/front/image': COLOUR, '/depth/image': DEPTH, '/left/image': NONE,
                          '/cut/image': CUT}, ['/front/image', asked])


def test_two_transports_of_a_camera_cannot_both_be_asked_for(tmp_path) -> None:
    topics = ['/front/image', '/front/image/compressed']
    with pytest.raises(ConfigError, match=' and '.join(topics) + ' are one camera: choose one'):
        chosen(tmp_path, {topics[0]: COLOUR, topics[1]: JPEGS}, topics)


@pytest.mark.parametrize(('topics', 'words'), [
    ({}, 'no topic carries images'),
    ({'/depth/image': DEPTH}, r'/depth/image holds data \(16UC1\)'),
    ({'/front/image': NONE}, '/front/image holds no messages'),
    ({'/front/image': CUT}, '/front/image has 2 images, of which none can be read')])
def test_a_bag_without_a_camera_is_an_error_that_tells_what_is_there(
    tmp_path, topics, words
) -> None:
    with pytest.raises(ConfigError, match=f'has no pictures in colour or grey: {words}') as error:
        chosen(tmp_path, topics)
    is_missed = '/front/image' in topics and topics['/front/image'] is CUT
    assert isinstance(error.value, NoCamera) is not is_missed


def test_labels_that_are_there_already_are_not_written_over(tmp_path) -> None:
    with pytest.raises(ConfigError, match='has /segment/label already: give another --node-name'):
        chosen(tmp_path, {'/image': COLOUR, '/segment/label': COLOUR})


def test_an_overlay_that_is_there_already_hinders_labels_only_beside_overlays(tmp_path) -> None:
    write_bag(tmp_path / 'drive', {'/image': COLOUR, '/segment/overlay': COLOUR})
    with Bag(tmp_path / 'drive') as bag:
        assert choose(tmp_path, bag).cameras[0].topic('label') == '/segment/label'
        with pytest.raises(ConfigError, match='has /segment/overlay already'):
            choose(tmp_path, bag, kinds=('label', 'overlay'))
        [camera] = choose(tmp_path, bag, kinds=('label', 'overlay'), node='again').cameras
        assert camera.topic('overlay') == '/again/overlay'
