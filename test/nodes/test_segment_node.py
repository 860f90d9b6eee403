# SPDX-License-Identifier: Apache-2.0
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import fakes
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_graph import ASK_AGAIN_S, WITHIN_S
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from lednet_ros.model.labels import builtin_label_set
from lednet_ros.nodes.shared.image_messages import encode_image
from lednet_ros.nodes.shared.latency import STAGES, TOTAL
from lednet_ros.segmentation import Segmenter, SegmenterConfig

NODE = 'lednet_ros.nodes.segment.segment_node'
SMALL = {'input_height': 64, 'input_width': 96}  # some 10 ms a frame
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
CAMVID = Path(__file__).parents[3] / 'shared' / 'data' / 'camvid' / 'val'


def make_image(
    height: int = 48, width: int = 64, encoding: str = 'bgr8', stamp: tuple[int, int] = (12, 345),
    seed: int = 0,
) -> Image:
    channels = {'mono8': 1, 'bgra8': 4, 'rgba8': 4}.get(encoding, 3)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, channels), np.uint8)
    pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    header = Header(frame_id='front')
    header.stamp.sec, header.stamp.nanosec = stamp
    return encode_image(pixels, encoding, header)


def start(graph, parameters=None, ready=True, **more):
    node = graph.start(NODE, {**SMALL, **(parameters or {})}, **more)
    if ready:
        graph.wait_for_output(node, 'ready: ')
    return node


@contextmanager
def feeding(outlet, hz: float, image: Image | None = None) -> Iterator[None]:
    """Publish an image over and over, stamped anew each time, as a camera would."""
    stop = threading.Event()

    def feed() -> None:
        message = image or make_image()
        while not stop.wait(1 / hz):
            now_s = time.time()
            message.header.stamp.sec = int(now_s)
            message.header.stamp.nanosec = int(now_s % 1 * 1e9)
            outlet.publish(message)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield
    finally:
        stop.set()
        feeder.join()


def change(graph, name, value):
    """Set a parameter; give the node's answer."""
    return graph.call(SetParameters, '/segment/set_parameters', SetParameters.Request(
        parameters=[Parameter(name, value=value).to_parameter_msg()])).results[0]


def values(array: DiagnosticArray, name: str) -> dict[str, str]:
    """The figures of one status, its level and message among them."""
    status = next((s for s in array.status if s.name == name), None)
    if status is None:
        return {}
    return {'level': str(int.from_bytes(status.level, 'little')), 'message': status.message,
            **{v.key: v.value for v in status.values}}


def wait_for_camera(inbox, wanted) -> dict[str, str]:
    """Wait for a report on the one camera that is wanted."""
    def judge(array):
        camera = values(array, 'segment: camera image')
        return bool(camera) and wanted(camera)

    return values(inbox.wait_for(judge), 'segment: camera image')


def test_labels_and_colours_equal_the_segmenter_s_and_carry_the_header(graph) -> None:
    """Planners join labels and poses by stamp, so no field may differ.

    Size and encoding may change from image to image.
    """
    start(graph, {'diagnostics.period_s': 0.2})
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    outlet = graph.publisher('image', Image)
    color_inbox = graph.subscribe('/segment/color', Image)
    label_inbox = graph.subscribe('/segment/label', Image)
    with Segmenter(config=SegmenterConfig(**SMALL)) as segmenter:
        for i, (height, width, encoding) in enumerate([
                (48, 64, 'bgr8'), (48, 64, 'rgb8'), (30, 40, 'mono8'), (100, 60, 'rgba8'),
                (48, 64, 'bgra8')]):
            image = make_image(height, width, encoding, (i + 1, 345))
            pixels = np.asarray(image.data, np.uint8).reshape(height, width, -1)
            pixels = np.repeat(pixels, 3, 2) if encoding == 'mono8' else pixels[..., :3]
            expected = segmenter.segment(
                [np.ascontiguousarray(pixels)], rgb=encoding.startswith('rgb'))[0].labels
            label = graph.exchange(outlet, image, label_inbox)
            color = graph.exchange(outlet, image, color_inbox)
            assert label.header == color.header == image.header
            assert (label.height, label.width, label.step, label.encoding) == (
                height, width, width, 'mono8')
            assert (color.height, color.width, color.step, color.encoding) == (
                height, width, 3 * width, 'rgb8')
            assert np.array_equal(pixels_of(label), expected)
            assert np.array_equal(pixels_of(color), segmenter.colorize(expected))
            camera = wait_for_camera(diagnostics, lambda c, image=image: (
                c['size'], c['encoding']) == (f'{image.width}x{image.height}', image.encoding))
            assert (camera['state'], camera['rejected']) == ('active', '0')


@pytest.mark.skipif(not CAMVID.is_dir(), reason='needs CamVid in ../shared/data')
def test_real_frames_come_out_pixel_for_pixel_as_from_the_segmenter(graph) -> None:
    node = graph.start(NODE)
    graph.wait_for_output(node, 'ready: ')
    outlet = graph.publisher('image', Image)
    inbox = graph.subscribe('/segment/label', Image)
    with Segmenter() as segmenter:
        for i, file in enumerate(sorted(CAMVID.glob('*.png'))[::25]):
            frame = cv2.imread(str(file))
            header = Header(frame_id=file.name)
            header.stamp.sec = i + 1
            label = graph.exchange(outlet, encode_image(frame, 'bgr8', header), inbox)
            expected = segmenter.segment([frame])[0].labels
            assert np.array_equal(np.asarray(label.data, np.uint8).reshape(360, 480), expected)
            road = builtin_label_set('camvid').names.index('road')
            assert (expected == road).mean() > 0.05  # a street, and labels that mean something


def pixels_of(message: Image) -> np.ndarray:
    """Give a picture's pixels; no row of ours is padded."""
    pixels = np.asarray(message.data, np.uint8).reshape(message.height, message.width, -1)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def make_info(width: int = 64, height: int = 48) -> CameraInfo:
    return CameraInfo(
        width=width, height=height, distortion_model='plumb_bob', d=[0.0] * 5,
        k=[50.0, 0, width / 2, 0, 50.0, height / 2, 0, 0, 1], r=np.eye(3).ravel(),
        p=[50.0, 0, width / 2, 0, 0, 50.0, height / 2, 0, 0, 0, 1, 0])


def test_overlay_and_confidence_are_the_segmenter_s_in_each_output_size(graph) -> None:
    start(graph, {'overlay_alpha': 1.0})
    outlet = graph.publisher('image', Image)
    inboxes = {name: graph.subscribe(f'/segment/{name}', Image)
               for name in ('label', 'confidence', 'overlay', 'color')}
    with Segmenter(config=SegmenterConfig(**SMALL)) as segmenter:
        for i, (output_size, size) in enumerate((
                ('network', (64, 96)), ('42x24', (24, 42)), ('camera', (30, 64)))):
            image = make_image(30, 64, stamp=(i + 1, 0))
            frame = pixels_of(image)
            expected = segmenter.segment([frame], confidence=True, output_size=output_size)[0]
            colors = segmenter.colorize(expected.labels)
            assert change(graph, 'output_size', output_size).successful
            answers = {name: graph.exchange(outlet, image, inbox)
                       for name, inbox in inboxes.items()}
            assert all(a.header == image.header for a in answers.values())
            assert all((a.height, a.width) == size for a in answers.values())
            assert [a.encoding for a in answers.values()] == ['mono8', 'mono8', 'rgb8', 'rgb8']
            assert np.array_equal(pixels_of(answers['label']), expected.labels)
            assert np.array_equal(pixels_of(answers['confidence']), expected.confidence)
            assert np.array_equal(pixels_of(answers['color']), colors)
            seen = expected.labels != 255  # a bar has no colour to show
            assert np.array_equal(pixels_of(answers['overlay'])[seen], colors[seen])
    assert change(graph, 'overlay_alpha', 0).successful
    later = make_image(30, 64, stamp=(99, 0))
    plain = pixels_of(graph.exchange(outlet, later, inboxes['overlay']))
    assert np.array_equal(plain, frame[..., ::-1])


def test_the_output_size_changes_live_for_labels_and_camera_info_together(graph) -> None:
    start(graph)
    outlet = graph.publisher('image', Image)
    info_outlet = graph.publisher('camera_info', CameraInfo)
    inboxes = {name: graph.subscribe(f'/segment/{name}', type_) for name, type_ in (
        ('label', Image), ('confidence', Image), ('overlay', Image), ('camera_info', CameraInfo))}
    info_outlet.wait_matched()
    stamp = 0
    for output_size, size in (('32x12', (12, 32)), ('network', (64, 96)), ('camera', (48, 64))):
        assert change(graph, 'output_size', output_size).successful
        since, together = stamp, []
        while not together:  # the first CameraInfo may come after its image
            info_outlet.publish(make_info())
            stamp += 1
            graph.exchange(outlet, make_image(stamp=(stamp, 0)), inboxes['label'])
            together = [[m for m in inbox.messages if m.header.stamp.sec > since]
                        for inbox in inboxes.values()]
            together = together if all(together) else []
        for messages in together:
            assert {(m.height, m.width) for m in messages} == {size}
    refused = change(graph, 'output_size', '424 by 240')
    assert not refused.successful
    assert "output_size is '424 by 240': choose camera, network, or WIDTHxHEIGHT" in refused.reason


def test_camera_info_goes_with_the_label_image_and_bad_ones_are_named(graph) -> None:
    node = start(graph, {'output_size': 'network', 'diagnostics.period_s': 0.2})
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    outlet = graph.publisher('image', Image)
    info_outlet = graph.publisher('camera_info', CameraInfo)
    inbox = graph.subscribe('/segment/camera_info', CameraInfo)
    labels = graph.subscribe('/segment/label', Image)
    info_outlet.wait_matched()  # it listens when someone listens to its own
    graph.exchange(outlet, make_image(), labels)
    silent = wait_for_camera(diagnostics, lambda c: 'no camera_info' in c['message'])
    assert '/camera_info: none has come' in silent['message']

    for problem, bad in (('NaN', make_info()), ('is for images of 640x480', make_info(640, 480))):
        if problem == 'NaN':
            bad.k[0] = float('nan')
        info_outlet.publish(bad)
        for i in range(1000):  # until it has arrived
            graph.exchange(outlet, make_image(stamp=(100 + i, 0)), labels)
            if problem in values(diagnostics.messages[-1], 'segment: camera image')['message']:
                break
        else:
            raise AssertionError(f'{problem} was never named')
    assert not inbox.messages
    assert node.output.count('no camera_info for /image') == 1  # throttled

    info_outlet.publish(make_info())
    for i in range(1000):
        graph.exchange(outlet, make_image(stamp=(5000 + i, 7)), labels)
        if inbox.messages:
            break
    ours = inbox.messages[0]
    assert ours.header.frame_id == 'front'
    assert ours.header.stamp.nanosec == 7
    assert (ours.width, ours.height) == (96, 64)
    # 64x48 scaled by 4/3 to 85x64 and centred in 96x64.
    assert ours.k[0] == pytest.approx(50 * 85 / 64)
    assert ours.k[2] == pytest.approx(32.5 * 85 / 64 - 0.5 + 5)


def test_an_unheard_camera_is_left_alone_and_taken_up_again(graph, within) -> None:
    node = start(graph)
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    outlet = graph.publisher('image', Image)
    for topic in ('/image', '/camera_info'):
        # Not even one that was made and undone as the test's participant discovered the node:
        # else a driver that works only when listened to works for ever.
        assert graph.node.get_subscriptions_info_by_topic(topic) == []
    idle = wait_for_camera(diagnostics, lambda c: c['state'] == 'idle')
    assert (idle['level'], idle['message']) == ('0', 'idle: nobody listens to its outputs')
    graph.wait_until(lambda: graph.node.count_subscribers('/image') == 0, WITHIN_S, 'not let be')
    for _ in range(3):
        inbox = graph.subscribe('/segment/color', Image)
        with within(1.0):
            graph.wait_until(lambda: graph.node.count_subscribers('/image') == 1, WITHIN_S,
                             'not taken up')
        graph.exchange(outlet, make_image(), inbox)
        inbox.close()
        graph.wait_until(lambda: graph.node.count_subscribers('/image') == 0, WITHIN_S,
                         'not let be')
    assert node.returncode is None


def test_what_nobody_listens_to_is_not_computed(graph) -> None:
    """The node's own code, with a Segmenter that says what it is asked for."""
    node = graph.start(fakes.command('counting'), SMALL)
    graph.wait_for_output(node, 'ready: ')
    outlet = graph.publisher('image', Image)
    label = graph.subscribe('/segment/label', Image)
    graph.exchange(outlet, make_image(stamp=(1, 0)), label)
    assert 'painted' not in node.output
    assert 'with confidence' not in node.output
    confidence = graph.subscribe('/segment/confidence', Image)
    graph.exchange(outlet, make_image(stamp=(2, 0)), confidence)
    graph.wait_for_output(node, 'segmented with confidence')  # its pipe may lag behind DDS
    assert 'painted' not in node.output
    for inbox in (label, confidence):
        inbox.close()
    graph.wait_until(lambda: graph.node.count_subscribers('/image') == 0, WITHIN_S, 'not let be')
    done = node.output.count('segmented')
    for i in range(20):
        outlet.publish(make_image(stamp=(3 + i, 0)))
    graph.exchange(outlet, make_image(stamp=(99, 0)), graph.subscribe('/segment/color', Image))
    # Those sent while nobody listened were never decoded; exchange may have had to send again.
    graph.wait_for_output(node, 'painted')
    assert node.output.count('segmented') <= done + 5


def test_compressed_images_are_segmented_and_hostile_ones_named(graph) -> None:
    pixels = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (64, 48))
    png = CompressedImage(format='bgr8; png compressed bgr8', header=make_image().header,
                          data=cv2.imencode('.png', pixels)[1].tobytes())
    with Segmenter(config=SegmenterConfig(**SMALL)) as segmenter:
        expected = segmenter.segment([pixels])[0].labels
    start(graph, {'image_transport': 'compressed', 'diagnostics.period_s': 0.2},
          remaps={'image': '/eye/image_raw'})
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    outlet = graph.publisher('/eye/image_raw/compressed', CompressedImage)
    inbox = graph.subscribe('/segment/label', Image)
    assert np.array_equal(pixels_of(graph.exchange(outlet, png, inbox)), expected)
    outlet.publish(CompressedImage(format='jpeg', data=b'\xff\xd8\xff\xe0 and no more'))
    camera = wait_for_camera(diagnostics, lambda c: c['rejected'] == '1')
    assert 'a JPEG of 16 bytes that is cut short' in camera['last_rejection']
    png.header.stamp.sec += 1
    graph.exchange(outlet, png, inbox)


def test_limits_of_work_and_latency_change_live(graph) -> None:
    start(graph, {'max_rate_hz': 2.0, 'diagnostics.period_s': 2.0,
                  'diagnostics.max_latency_ms': 0.1})
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    outlet = graph.publisher('image', Image)
    inbox = graph.subscribe('/segment/label', Image)
    graph.exchange(outlet, make_image(), inbox)
    with feeding(outlet, hz=20):
        # Not the first report: it looks back no further than to when listening began.
        limited = wait_for_camera(diagnostics, lambda c: (
            int(c['received']) > 50 and float(c['received_hz']) > 5))
        assert 0 < float(limited['segmented_hz']) <= 4
        late = diagnostics.wait_for(lambda a: values(a, 'segment: latency')['level'] == '1')
        assert 'over the limit of 0.1 ms' in values(late, 'segment: latency')['message']
        assert change(graph, 'diagnostics.max_latency_ms', 60_000).successful
        assert change(graph, 'max_rate_hz', 0).successful
        seen = len(diagnostics.messages)
        wait_for_camera(diagnostics, lambda c: float(c['segmented_hz']) > 4)
        graph.wait_until(lambda: any(
            values(a, 'segment: latency')['level'] == '0'
            for a in diagnostics.messages[seen:]), WITHIN_S, 'the new limit is not heeded')


def test_a_dead_camera_costs_the_others_nothing(graph) -> None:
    node = start(graph, {'cameras': ['front', 'left'], 'diagnostics.stale_after_s': 4.0})
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    outlets = {name: graph.publisher(f'{name}/image', Image) for name in ('front', 'left')}
    inboxes = {name: graph.subscribe(f'/segment/{name}/label', Image) for name in outlets}
    for name, size in (('front', (48, 64)), ('left', (30, 50))):  # they share one network
        label = graph.exchange(outlets[name], make_image(*size), inboxes[name])
        assert (label.height, label.width) == size
    with feeding(outlets['front'], hz=10):  # the left one is silent
        report = diagnostics.wait_for(
            lambda a: values(a, 'segment: camera left').get('state') == 'stale')
    front = values(report, 'segment: camera front')
    assert (front['state'], front['level'], front['message']) == ('active', '0', 'segmenting')
    assert float(front['segmented_hz']) > 0
    assert node.returncode is None


def test_a_large_camera_s_labels_have_its_size(graph) -> None:
    """1280x720 best effort: lost without the large-image profile."""
    start(graph)
    image = make_image(720, 1280)
    label = graph.exchange(graph.publisher('image', Image, BEST_EFFORT), image,
                           graph.subscribe('/segment/label', Image, BEST_EFFORT))
    assert (label.height, label.width, label.step) == (720, 1280, 1280)
    assert len(label.data) == 720 * 1280


def test_every_frame_is_segmented_dropped_or_rejected_and_the_newest_wins(graph) -> None:
    # Slower than what comes in, all of which has to reach it.
    start(graph, {'input_height': 256, 'input_width': 512,
                  'qos_overrides./image.subscription.reliability': 'reliable',
                  'qos_overrides./image.subscription.depth': 100})
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    outlet = graph.publisher('image', Image)
    inbox = graph.subscribe('/segment/label', Image)
    graph.exchange(outlet, make_image(), inbox)
    for i in range(60):
        outlet.publish(make_image(stamp=(100 + i, 0), encoding='32FC1' if i % 10 == 5 else 'bgr8'))
        time.sleep(0.02)  # a camera at 50 Hz
    last = make_image(stamp=(1000, 0))
    graph.exchange(outlet, last, inbox)

    camera = wait_for_camera(diagnostics, lambda c: int(c['received']) == sum(
        int(c[outcome]) for outcome in ('segmented', 'dropped', 'rejected'))
        and int(c['received']) > 60 and int(c['segmented']) >= len(inbox.messages))  # the last one
    assert int(camera['dropped']) > 0
    assert int(camera['rejected']) == 6
    stamps = [m.header.stamp.sec for m in inbox.messages]
    assert stamps == sorted(stamps)


def test_the_node_goes_on_when_the_camera_is_killed_and_comes_back(graph, tmp_path) -> None:
    for i in range(4):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((48, 64, 3), 60 * i, np.uint8))
    node = start(graph, {'diagnostics.stale_after_s': 4.0})
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    inbox = graph.subscribe('/segment/label', Image)
    source = {'source': str(tmp_path), 'rate_hz': 10.0}
    camera = graph.start('lednet_ros.nodes.image_source_node', source)
    inbox.wait(3)
    camera.stop(signal.SIGKILL)
    wait_for_camera(diagnostics, lambda c: c['state'] == 'stale' and c['level'] == '1')
    seen = len(inbox.messages)
    gone = len(diagnostics.messages)
    graph.start('lednet_ros.nodes.image_source_node', source)
    inbox.wait(seen + 3)
    graph.wait_until(lambda: any(
        values(a, 'segment: camera image').get('message') == 'segmenting'
        for a in diagnostics.messages[gone:]), WITHIN_S, 'the camera is not active again')
    assert node.output.count('[WARN]') == 1  # not each second
    # That none came for a while is no reason to miss labels at once when they come again.
    assert all(values(a, 'segment: latency')['level'] == '0' for a in diagnostics.messages)


def test_a_publisher_that_is_not_heard_is_a_warning_that_names_the_cause(graph) -> None:
    node = start(graph, {'diagnostics.stale_after_s': 1.0, 'lazy': False})
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    graph.publisher('image', Image)
    camera = wait_for_camera(diagnostics, lambda c: c['state'] == 'stale')
    assert camera['level'] == '1'
    for words in (camera['message'], graph.wait_for_output(node, 'no image came')):
        assert '/image has a publisher but no image came' in words
        assert 'lost at its sender' in words
        assert 'profile' in words


def test_diagnostics_tell_engine_latency_and_camera(graph) -> None:
    start(graph)
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    outlet = graph.publisher('image', Image)
    inbox = graph.subscribe('/segment/label', Image)
    now = graph.node.get_clock().now().to_msg()
    graph.exchange(outlet, make_image(stamp=(now.sec, now.nanosec)), inbox)
    graph.exchange(outlet, make_image(stamp=(0, 0)), inbox)          # tells no age
    graph.exchange(outlet, make_image(stamp=(now.sec + 999, 0)), inbox)  # from the future
    camera = wait_for_camera(diagnostics, lambda c: int(c['segmented']) >= 3)
    array = diagnostics.messages[-1]
    assert array.header.stamp.sec >= now.sec
    assert int(camera['odd_stamps']) >= 2
    assert 'in the future' in camera['last_odd_stamp']
    assert (camera['size'], camera['encoding']) == ('64x48', 'bgr8')
    engine = values(array, 'segment: engine')
    assert (engine['backend'], engine['device'], engine['precision']) == (
        'onnxruntime', 'cpu', 'fp32')
    assert engine['why'] == 'no CUDA GPU'
    assert engine['cached'] == str(float(engine['build_s']) == 0)
    assert 50 < float(engine['memory_mb']) < 4000
    assert engine['checkpoint'] == 'lednet-camvid.safetensors'
    assert float(engine['self_check_agreement']) > 0.999
    assert (engine['input'], engine['labels'], engine['classes']) == ('96x64', 'camvid', '11')
    latency = values(array, 'segment: latency')
    for stage in {*STAGES, TOTAL} - {'projection'}:  # of other nodes
        assert 0 <= float(latency[f'{stage}_p50_ms']) <= float(latency[f'{stage}_max_ms']) < 60e3


def test_what_the_warning_of_unmatched_qos_advises_helps(graph) -> None:
    start(graph, {'qos_overrides./segment/label.publisher.durability': 'transient_local'})
    graph.exchange(graph.publisher('image', Image), make_image(), graph.subscribe(
        '/segment/label', Image, QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)))


def test_a_backend_that_fails_is_an_error_and_configuring_anew_recovers(graph) -> None:
    """The node's own code, with a Segmenter that fails after 3 frames, as a lost GPU would."""
    node = graph.start(fakes.command('failing'),
                       {**SMALL, 'diagnostics.stale_after_s': 4.0})
    graph.wait_for_output(node, 'ready: ')
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    inbox = graph.subscribe('/segment/label', Image)
    outlet = graph.publisher('image', Image)
    with feeding(outlet, hz=10):
        inbox.wait(3)
        array = diagnostics.wait_for(lambda a: values(a, 'segment: latency')['level'] == '2')
        assert 'images come but no labels' in values(array, 'segment: latency')['message']
        engine = values(array, 'segment: engine')
        assert (engine['level'], engine['state']) == ('2', 'failing')
        assert engine['message'] == 'RuntimeError: the device is lost'
        camera = values(array, 'segment: camera image')
        assert 'segmenting failed: RuntimeError' in camera['last_rejection']
        assert (camera['state'], camera['level']) == ('rejected', '2')
        received, *outcomes = (int(camera[name]) for name in (
            'received', 'segmented', 'dropped', 'rejected'))
        assert outcomes[0] == len(inbox.messages) == 3
        assert 0 <= received - sum(outcomes) <= 2  # in the mailbox and in the network
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP,
                           Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            assert change_state(graph, transition)
        inbox.wait(3)
        diagnostics.wait_for(lambda a: a.header.stamp.sec > array.header.stamp.sec + 1
                             and values(a, 'segment: engine')['level'] == '0'
                             and values(a, 'segment: latency')['level'] == '0')
    assert node.returncode is None


@pytest.mark.parametrize('count', [1, pytest.param(10, marks=pytest.mark.full)])
def test_a_signal_ends_the_node_within_2_s_under_load(graph, within, count) -> None:
    """The network at its checkpoint's size, fed faster than it can run."""
    image = make_image(360, 480)
    outlet = graph.publisher('image', Image, BEST_EFFORT)
    with feeding(outlet, hz=50, image=image):
        for number in (signal.SIGINT, signal.SIGTERM) * count:
            inbox = graph.subscribe('/segment/label', Image)
            node = graph.start(NODE)
            inbox.wait(2)
            with within(2.0):
                assert node.stop(number) == 0, node.describe()
            assert 'Traceback' not in node.output
            inbox.close()


def test_an_unusable_checkpoint_is_one_line_and_can_be_tried_again(graph, tmp_path) -> None:
    checkpoint = tmp_path / 'weights.safetensors'
    node = start(graph, {'checkpoint': str(checkpoint)}, ready=False)
    line = graph.wait_for_output(node, 'not configured')
    assert f'{checkpoint}: cannot be read: No such file or directory' in line
    inbox = graph.subscribe('/diagnostics', DiagnosticArray)
    engine = values(inbox.wait(1)[0], 'segment: engine')
    assert engine['level'] == '2'
    assert str(checkpoint) in engine['message']
    assert get_state(graph) == State.PRIMARY_STATE_UNCONFIGURED

    from lednet_ros.model.checkpoint import default_checkpoint
    checkpoint.write_bytes(default_checkpoint().read_bytes())
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    graph.exchange(graph.publisher('image', Image), make_image(),
                   graph.subscribe('/segment/label', Image))


def change_state(graph, transition: int) -> bool:
    return graph.change_state('/segment', transition)


def get_state(graph) -> int:
    return graph.call(GetState, '/segment/get_state', GetState.Request()).current_state.id


@pytest.mark.parametrize('count', [3, pytest.param(20, marks=pytest.mark.full)])
def test_all_transitions_repeat_and_work_resumes(graph, count) -> None:
    node = start(graph, {'autostart': False}, ready=False)
    outlet = graph.publisher('image', Image)
    def held() -> list[int]:
        return [len(list(Path(f'/proc/{node.pid}/{what}').iterdir())) for what in ('task', 'fd')]

    after_first: list[int] = []
    for i in range(count):
        assert change_state(graph, Transition.TRANSITION_CONFIGURE)
        assert get_state(graph) == State.PRIMARY_STATE_INACTIVE
        assert change_state(graph, Transition.TRANSITION_ACTIVATE)
        inbox = graph.subscribe('/segment/label', Image)
        graph.exchange(outlet, make_image(stamp=(i + 1, 0)), inbox)
        inbox.close()
        assert change_state(graph, Transition.TRANSITION_DEACTIVATE)
        assert change_state(graph, Transition.TRANSITION_CLEANUP)
        assert get_state(graph) == State.PRIMARY_STATE_UNCONFIGURED
        after_first = after_first or held()
    graph.wait_until(  # the middleware lets go a little later
        lambda: all(now <= then for now, then in zip(held(), after_first, strict=True)), WITHIN_S,
        lambda: f'threads and descriptors grew from {after_first} to {held()}')
    assert change_state(graph, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)


def test_a_wrong_parameter_at_start_is_one_line_and_exit_1(graph) -> None:
    node = start(graph, {'backend': 'tflite'}, ready=False)
    assert node.wait() == 1
    assert "segment: backend is 'tflite': choose auto" in node.output
    assert 'Traceback' not in node.output


def test_parameters_are_described_and_changed_live_or_refused_with_the_reason(graph) -> None:
    start(graph)
    described = graph.call(DescribeParameters, '/segment/describe_parameters',
                           DescribeParameters.Request(names=['backend', 'min_confidence']))
    assert described.descriptors[0].read_only
    assert described.descriptors[0].description.startswith('Library that runs the network.')
    assert described.descriptors[1].floating_point_range[0].to_value == 1.0

    assert not change(graph, 'backend', 'torch').successful
    refused = change(graph, 'min_confidence', 7.0)
    assert not refused.successful
    assert 'min_confidence out of range Min: 0.0, Max: 1.0, value: 7.0' in refused.reason

    outlet = graph.publisher('image', Image)
    inbox = graph.subscribe('/segment/label', Image)
    before = graph.exchange(outlet, make_image(), inbox)
    assert set(before.data) != {255}
    assert change(graph, 'min_confidence', 1).successful  # an integer will do
    after = graph.exchange(outlet, make_image(stamp=(99, 0)), inbox)
    assert (np.asarray(after.data, np.uint8) == 255).mean() > 0.9


def test_while_an_engine_builds_the_node_reports_answers_and_ends_in_time(graph, within) -> None:
    child = ("import os, time; print('{\"stage\": \"pid %d\"}' % os.getpid(), flush=True); "
             'time.sleep(600)')
    node = graph.start(fakes.command('compiling', child), SMALL)
    inbox = graph.subscribe('/diagnostics', DiagnosticArray)
    inbox.wait(2)
    engine = values(inbox.wait_for(lambda a: 'pid' in values(a, 'segment: engine')['message']),
                    'segment: engine')
    assert engine['state'] == 'compiling'
    assert get_state(graph) == State.PRIMARY_STATE_UNCONFIGURED
    pid = int(engine['message'].split('pid ')[1])
    assert Path(f'/proc/{pid}').exists()
    with within(2.0):
        assert node.stop(signal.SIGINT) == 0
    assert not Path(f'/proc/{pid}').exists()


def test_while_the_network_is_loaded_the_node_reports_and_ends_in_time_and_in_silence(
    graph, within
) -> None:
    node = graph.start(fakes.command('loading'), {**SMALL, 'diagnostics.period_s': 0.2})
    inbox = graph.subscribe('/diagnostics', DiagnosticArray)
    engines = [values(a, 'segment: engine') for a in inbox.wait(3)]
    assert {(e['level'], e['message'], e['state']) for e in engines} == {
        ('1', 'configuring', 'configuring')}
    with within(2.0):
        assert node.stop(signal.SIGTERM) == 0
    assert node.output == ''


def ask_to_configure(graph, inbox, state: str):
    """Send a manager's request until diagnostics show the state; give its answer's future."""
    client = graph.node.create_client(ChangeState, '/segment/change_state')
    graph.wait_until(client.service_is_ready, WITHIN_S, 'no service')
    request = ChangeState.Request()
    request.transition.id = Transition.TRANSITION_CONFIGURE
    for _ in range(int(WITHIN_S / ASK_AGAIN_S)):
        answer = client.call_async(request)
        with suppress(AssertionError):
            inbox.wait_for(lambda a: values(a, 'segment: engine').get('state') == state,
                           ASK_AGAIN_S)
            return answer
    raise AssertionError(f'the node is never {state}')


def test_while_a_manager_configures_the_node_it_answers_and_a_signal_ends_it_in_silence(
    graph
) -> None:
    node = graph.start(fakes.command('loading'), {**SMALL, 'autostart': False})
    inbox = graph.subscribe('/diagnostics', DiagnosticArray)
    answer = ask_to_configure(graph, inbox, 'configuring')
    assert get_state(graph) == State.PRIMARY_STATE_UNCONFIGURED
    assert change(graph, 'overlay_alpha', 0.1).successful
    assert not answer.done()
    assert node.stop(signal.SIGINT) == 0
    assert node.output == ''


def test_a_manager_may_shut_the_node_down_that_it_configures(graph) -> None:
    node = graph.start(fakes.command('compiling', 'import time; time.sleep(600)'),
                       {**SMALL, 'autostart': False})
    inbox = graph.subscribe('/diagnostics', DiagnosticArray)
    answers = [ask_to_configure(graph, inbox, 'compiling') for _ in range(2)]  # impatient
    assert change_state(graph, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    for answer in answers:
        graph.wait_until(answer.done, WITHIN_S, 'no answer')
        assert not answer.result().success
    assert get_state(graph) == State.PRIMARY_STATE_FINALIZED
    assert 'failed' not in node.output
