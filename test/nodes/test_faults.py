# SPDX-License-Identifier: Apache-2.0
"""What a robot's day brings: rubbish on the wire, rubbish on the disk, and sudden ends."""

from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import fakes
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import Parameter
from rcl_interfaces.srv import SetParameters
from rclpy.serialization import serialize_message
from ros_graph import WITHIN_S
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from test_segment_node import (
    BEST_EFFORT,
    NODE,
    SMALL,
    change_state,
    feeding,
    make_image,
    start,
    values,
    wait_for_camera,
)

from lednet_ros.model.checkpoint import default_checkpoint


@pytest.mark.parametrize('count', [30, pytest.param(1002, marks=pytest.mark.full)])
def test_good_images_among_corrupt_ones_are_all_segmented(graph, count) -> None:
    """Good ones come slower than inference, so none of them may be dropped.

    Reliable and deep, so that each corrupt one gets to the node and not only a burst's last.
    """
    start(graph, {'diagnostics.period_s': 0.2,
                  'qos_overrides./image.subscription.reliability': 'reliable',
                  'qos_overrides./image.subscription.depth': 10})
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    outlet = graph.publisher('image', Image)
    inbox = graph.subscribe('/segment/label', Image)
    graph.exchange(outlet, make_image(stamp=(1, 0)), inbox)
    # The first may have been sent twice, and one of the two dropped.
    before = wait_for_camera(diagnostics, lambda c: 0 < int(c['received']) == (
        int(c['segmented']) + int(c['dropped'])))
    empty, short, strange = Image(), make_image(), make_image(encoding='32FC1')
    short.data = short.data[:100]
    sent = []
    for i in range(count):
        outlet.publish((empty, short, strange)[i % 3])
        if i % 3 == 2:
            sent.append(make_image(stamp=(100 + i, 0)))
            outlet.publish(sent[-1])
            inbox.wait_for(lambda m, i=i: m.header.stamp.sec == 100 + i)
    camera = wait_for_camera(diagnostics, lambda c: int(c['rejected']) == count)
    assert camera['dropped'] == before['dropped']
    assert "encoding '32FC1'" in camera['last_rejection']  # every third and the last
    assert int(camera['received']) == (
        int(camera['segmented']) + int(camera['dropped']) + count)
    assert [m.header.stamp.sec for m in inbox.messages if m.header.stamp.sec >= 100] == [
        m.header.stamp.sec for m in sent]


@pytest.mark.parametrize('count', [100, pytest.param(2000, marks=pytest.mark.full)])
def test_bytes_that_are_no_message_end_nothing(graph, count) -> None:
    """A hostile publisher is not bound to the message's definition."""
    node = start(graph)
    outlet, inbox = graph.publisher('image', Image), graph.subscribe('/segment/label', Image)
    graph.exchange(outlet, make_image(stamp=(1, 0)), inbox)
    chance = random.Random(0)
    whole = serialize_message(make_image())
    at = whole.index(b'bgr8')
    spoilt = [b'no message', whole[:60], whole.replace(b'bgr8', b'\xff\xfe\xfd\xfc')]
    for _ in range(count):  # the sizes and lengths lie before the pixels
        data = bytearray(whole[:chance.choice((len(whole), chance.randrange(8, len(whole))))])
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(4, min(at + 24, len(data)))] = chance.choice((0, 1, 127, 255))
        spoilt.append(bytes(data))
    for data in spoilt:
        outlet.publish(data)
        time.sleep(0.002)  # else the node sees but the last
    graph.exchange(outlet, make_image(stamp=(2, 0)), inbox)
    assert node.returncode is None
    assert 'Traceback' not in node.output


def test_parameters_of_no_type_and_times_below_0_end_nothing(graph) -> None:
    """Over which rclpy's own callbacks raise."""
    node = start(graph, {'use_sim_time': True})
    outlet, inbox = graph.publisher('image', Image), graph.subscribe('/segment/label', Image)
    graph.exchange(outlet, make_image(stamp=(1, 0)), inbox)
    client = graph.node.create_client(SetParameters, '/segment/set_parameters')
    assert client.wait_for_service(WITHIN_S)
    request = SetParameters.Request(parameters=[Parameter(name='lazy')])
    request.parameters[0].value.type = 42
    client.call_async(request)
    clock = graph.publisher('/clock', Clock)
    clock.wait_matched()
    message = Clock()
    message.clock.sec = -1
    clock.publish(message)
    assert 'a callback failed: ValueError' in graph.wait_for_output(node, 'a callback failed')
    graph.exchange(outlet, make_image(stamp=(2, 0)), inbox)
    assert node.returncode is None


def wait_for_engine(inbox, wanted, node: str = 'segment') -> dict[str, str]:
    """Wait for a report on a node's engine that is wanted."""
    def judge(array):
        engine = values(array, f'{node}: engine')
        return bool(engine) and wanted(engine)

    return values(inbox.wait_for(judge), f'{node}: engine')


def test_a_checkpoint_replaced_by_rubbish_is_named_and_the_next_good_one_works(
    graph, tmp_path
) -> None:
    checkpoint = tmp_path / 'weights.safetensors'
    good = default_checkpoint().read_bytes()
    checkpoint.write_bytes(good)
    node = start(graph, {'checkpoint': str(checkpoint)})
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    outlet, inbox = graph.publisher('image', Image), graph.subscribe('/segment/label', Image)
    checkpoint.write_bytes(good[:5000] + b'rubbish')
    graph.exchange(outlet, make_image(stamp=(1, 0)), inbox)  # what is loaded goes on
    assert change_state(graph, Transition.TRANSITION_DEACTIVATE)
    assert change_state(graph, Transition.TRANSITION_CLEANUP)
    assert not change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert f'{checkpoint}: damaged' in graph.wait_for_output(node, 'not configured')
    wait_for_engine(diagnostics, lambda e: e['level'] == '2' and 'damaged' in e['message'])
    checkpoint.write_bytes(good)
    seen = len(diagnostics.messages)
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    graph.wait_until(lambda: any(
        (engine := values(a, 'segment: engine')).get('state') == 'ready' and engine['level'] == '0'
        for a in diagnostics.messages[seen:]), WITHIN_S, 'the good checkpoint is not told of')
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    graph.exchange(outlet, make_image(stamp=(2, 0)), inbox)


@pytest.mark.full  # the next tells the same
def test_without_a_cache_directory_the_node_works_all_the_same(graph, tmp_path) -> None:
    """Tests may run as root, whom no permission stops: the path goes through a regular file."""
    (tmp_path / 'file').write_text('not a directory')
    node = start(graph, {'engine_cache_dir': str(tmp_path / 'file' / 'cache')})
    graph.exchange(graph.publisher('image', Image), make_image(),
                   graph.subscribe('/segment/label', Image))
    graph.wait_for_output(node, 'give a writable engine_cache_dir')
    engine = wait_for_engine(graph.subscribe('/diagnostics', DiagnosticArray), lambda e: True)
    assert (engine['level'], engine['cached']) == ('0', 'False')


def test_on_a_full_disk_the_node_works_all_the_same(graph, tmp_path) -> None:
    """The limit on file sizes stands for the disk: a write fails just so."""
    cache = tmp_path / 'cache'
    node = graph.start(fakes.command('full disk'),
                       {**SMALL, 'engine_cache_dir': str(cache)})
    graph.wait_for_output(node, 'ready: ')
    graph.exchange(graph.publisher('image', Image), make_image(),
                   graph.subscribe('/segment/label', Image))
    graph.wait_for_output(node, 'cannot be written')
    engine = wait_for_engine(graph.subscribe('/diagnostics', DiagnosticArray), lambda e: True)
    assert (engine['level'], engine['cached']) == ('0', 'False')
    assert not [p for p in cache.rglob('*') if p.suffix in ('.engine', '.partial')]


def test_two_nodes_may_start_at_once_on_a_cold_cache(graph, tmp_path) -> None:
    names = ('left', 'right')
    nodes = [graph.start(NODE, {**SMALL, 'engine_cache_dir': str(tmp_path / 'cache')},
                         {'__node': name}) for name in names]
    for node in nodes:
        graph.wait_for_output(node, 'ready: ')
    inboxes = [graph.subscribe(f'/{name}/label', Image) for name in names]
    outlet = graph.publisher('image', Image)
    for inbox in inboxes:
        graph.exchange(outlet, make_image(), inbox)
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    engines = [wait_for_engine(diagnostics, lambda e: True, name) for name in names]
    assert [engine['level'] for engine in engines] == ['0', '0']
    assert sorted(engine['cached'] for engine in engines) == ['False', 'True']  # built once


def shared_memory(pid: int | str) -> set[Path]:
    """Name the Fast DDS segments that a process has mapped.

    Not its ports: those are named by number and found again by the next participant, which is why
    Fast DDS at times leaves them; segments, 16 MB each, would pile up.
    """
    try:
        maps = Path(f'/proc/{pid}/maps').read_text()
    except OSError:
        return set()
    names = {line.split()[5] for line in maps.splitlines() if '/dev/shm/' in line}
    return {Path(name) for name in names if 'port' not in name}


def left_alone(segments: set[Path]) -> set[Path]:
    """Which of them are there still though no process has them mapped, who would remove them."""
    mapped = set().union(*(shared_memory(p.name) for p in Path('/proc').iterdir()
                           if p.name.isdigit()))
    return {segment for segment in segments - mapped if segment.exists()}


@pytest.mark.parametrize('count', [1, pytest.param(20, marks=pytest.mark.full)])
def test_ended_under_load_it_leaves_nothing_and_starts_again(graph, count) -> None:
    outlet = graph.publisher('image', Image, BEST_EFFORT)
    with feeding(outlet, hz=50):
        for number in (signal.SIGINT, signal.SIGKILL, signal.SIGTERM) * count:
            inbox = graph.subscribe('/segment/label', Image)
            node = graph.start(NODE, SMALL)
            inbox.wait(2)
            mapped = shared_memory(node.pid)
            code = node.stop(number)
            inbox.close()
            if number == signal.SIGKILL:
                assert code == -signal.SIGKILL
                for segment in left_alone(mapped):  # as `fastdds shm clean` would
                    segment.unlink()
                    segment.with_name(f'{segment.name}_el').unlink(missing_ok=True)
                continue
            assert code == 0, node.describe()
            assert 'Traceback' not in node.output
            assert mapped
            graph.wait_until(lambda mapped=mapped: not left_alone(mapped), WITHIN_S,
                             lambda mapped=mapped: f'left in place: {left_alone(mapped)}')


@pytest.mark.full  # test_diagnostics.py tells it without a process
def test_diagnostics_go_on_and_name_what_is_wrong_while_nothing_comes(
    graph, times_are_held
) -> None:
    start(graph, {'lazy': False, 'diagnostics.stale_after_s': 1.0})
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    outlet = graph.publisher('image', Image, BEST_EFFORT)
    with feeding(outlet, hz=10):
        wait_for_camera(diagnostics, lambda c: c['state'] == 'active')
    camera = wait_for_camera(diagnostics, lambda c: c['state'] == 'stale')
    assert float(camera['image_age_ms']) >= 1000
    if times_are_held:  # stale_after_s and a period
        assert float(camera['image_age_ms']) < 1000 + 1000 + 500
    assert 'no image came for' in camera['message']
    seen = len(diagnostics.messages)
    diagnostics.wait(seen + 2)
    assert values(diagnostics.messages[-1], 'segment: latency')['level'] == '0'


CLOCK_JUMP_S = 1000


def test_simulated_time_may_stand_still_and_jump_back(graph) -> None:
    from rosgraph_msgs.msg import Clock
    node = start(graph, {'use_sim_time': True, 'diagnostics.period_s': 0.2})
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    clock = graph.publisher('/clock', Clock)
    outlet, inbox = graph.publisher('image', Image), graph.subscribe('/segment/label', Image)
    graph.exchange(outlet, make_image(stamp=(50, 0)), inbox)  # before time begins
    camera = wait_for_camera(diagnostics, lambda c: int(c['odd_stamps']) > 0)
    assert 'no /clock has come' in camera['last_odd_stamp']

    now = Clock()
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.05):
            clock.publish(now)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        for second in (5000, 5000 - CLOCK_JUMP_S):
            now.clock.sec = second
            graph.wait_until(lambda: node.returncode is None and any(
                a.header.stamp.sec == now.clock.sec for a in diagnostics.messages), WITHIN_S,
                'the node does not follow /clock')
            graph.exchange(outlet, make_image(stamp=(second - 1, 500_000_000)), inbox)
        camera = wait_for_camera(diagnostics, lambda c: int(c['segmented']) >= 3)
        assert 'no /clock has come' in camera['last_odd_stamp']  # none since: a jump is no fault
        latency = values(diagnostics.messages[-1], 'segment: latency')
        assert 0 <= float(latency['total_p50_ms']) < 60_000
        assert 0 <= float(latency['total_max_ms']) < 60_000
    finally:
        stop.set()
        ticker.join()


def test_a_node_whose_network_hangs_ends_all_the_same_and_leaves_nothing(graph) -> None:
    """The node's own code, with a Segmenter that does not come back, as a GPU that hangs."""
    node = graph.start(fakes.command('hanging'), SMALL)
    graph.wait_for_output(node, 'ready: ')
    diagnostics = graph.subscribe('/diagnostics', DiagnosticArray)
    graph.subscribe('/segment/label', Image)
    with feeding(graph.publisher('image', Image), hz=10):
        wait_for_camera(diagnostics, lambda c: int(c['dropped']) > 3)
    mapped = shared_memory(node.pid)
    assert mapped
    assert node.stop(signal.SIGINT) == 0, node.describe()
    graph.wait_until(lambda: not left_alone(mapped), WITHIN_S,
                     lambda: f'left in place: {left_alone(mapped)}')
