# SPDX-License-Identifier: Apache-2.0
import sqlite3
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip('rosbags', reason='needs rosbags')
pytest.importorskip('matplotlib', reason='needs matplotlib')

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from lednet_ros.monitor.latency_report import draw, label_topics, main, read_bag

STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types


def make_bag(path, storage, restarts_at=99, age_ns=50_000_000, inference_ms=30.0,
             topic='/segment/label', message='fine', causes=None) -> None:
    """Record ten seconds: labels 50 ms old, 8 segmented and 2 dropped a second."""
    def header(ns):
        stamp = T['builtin_interfaces/msg/Time'](sec=ns // 10**9, nanosec=ns % 10**9)
        return T['std_msgs/msg/Header'](stamp=stamp, frame_id='front')

    def status(name, **values):
        return T['diagnostic_msgs/msg/DiagnosticStatus'](
            level=0, name=f'segment: {name}', message=message, hardware_id='', values=[
                T['diagnostic_msgs/msg/KeyValue'](key=k, value=str(v)) for k, v in values.items()])

    began = 1_700_000_000 * 10**9
    with Writer(path, version=9, storage_plugin=storage) as writer:
        label = writer.add_connection(topic, 'sensor_msgs/msg/Image', typestore=STORE)
        diagnostics = writer.add_connection(
            '/diagnostics', 'diagnostic_msgs/msg/DiagnosticArray', typestore=STORE)
        for second in range(10):
            now = began + second * 10**9
            count = second if second < restarts_at else second - restarts_at
            array = T['diagnostic_msgs/msg/DiagnosticArray'](header=header(now), status=[
                status('engine'),
                status('latency', inference_p50_ms=inference_ms, total_p50_ms=50.0,
                       total_p95_ms=60.0),
                status('camera image', segmented=8 * count, dropped=2 * count, rejected=0,
                       **{f'dropped_{c}': n * count for c, n in (causes or {}).items()})])
            writer.write(diagnostics, now, STORE.serialize_cdr(array, array.__msgtype__))
            image = T['sensor_msgs/msg/Image'](
                header=header(now - age_ns), height=1, width=1, encoding='mono8',
                is_bigendian=0, step=1, data=np.zeros(1, np.uint8))
            writer.write(label, now, STORE.serialize_cdr(image, image.__msgtype__))


@pytest.mark.parametrize('storage', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_bag_tells_ages_stages_and_outcomes(tmp_path, storage, capsys) -> None:
    make_bag(tmp_path / 'bag', storage)
    record = read_bag(tmp_path / 'bag', 'segment')
    assert record.label_ages_ms == [50.0] * 10
    assert len(record.reports) == 10
    output = tmp_path / 'report.png'
    assert main([str(tmp_path / 'bag'), '--output', str(output)]) == 0
    assert '10 labels, p50 50 ms, p95 50 ms, p99 50 ms; 72 segmented; 18 dropped; 0 rejected' in (
        capsys.readouterr().out)
    assert cv2.imread(str(output)).shape[0] > 500


def test_what_was_dropped_is_told_and_drawn_by_cause(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'bag', StoragePlugin.MCAP,
             causes={'newer': 1.5, 'rate_limit': 0.5, 'deactivated': 0, 'abandoned': 0})
    assert main([str(tmp_path / 'bag'), '--output', str(tmp_path / 'report.png')]) == 0
    assert '72 segmented; 18 dropped (4 rate limit, 14 newer); 0 rejected' in (
        capsys.readouterr().out)
    legend = draw(read_bag(tmp_path / 'bag', 'segment')).axes[2].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        'segmented', 'rejected', 'dropped: rate limit', 'dropped: newer']


def test_a_long_title_is_whole(tmp_path) -> None:
    make_bag(tmp_path / 'bag', StoragePlugin.MCAP)
    record = read_bag(tmp_path / 'bag', 'segment')
    record.ageless = 1
    record.node = 'a_robot/with_many/namespaces/' * 5
    figure = draw(record)
    figure.draw_without_rendering()
    title = figure._suptitle.get_window_extent()
    assert title.x0 > 0
    assert title.x1 < figure.bbox.x1


def test_a_message_is_no_formula(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'bag', StoragePlugin.MCAP, message=r'$\x$')
    assert main([str(tmp_path / 'bag'), '--output', str(tmp_path / 'report.png')]) == 0
    assert '10 labels' in capsys.readouterr().out


def test_a_quantile_that_is_no_number_is_left_out(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'bag', StoragePlugin.MCAP, inference_ms='n/a')
    assert main([str(tmp_path / 'bag'), '--output', str(tmp_path / 'report.png')]) == 0
    assert '10 labels, p50 50 ms' in capsys.readouterr().out


@pytest.mark.parametrize(('topic', 'count'), [
    ('/segment/label', 10), ('/segment/left/label', 10), ('/front/segment/label', 0)])
def test_labels_are_those_of_the_node_and_no_other_s(tmp_path, topic, count) -> None:
    make_bag(tmp_path / 'bag', StoragePlugin.MCAP, topic=topic)
    assert len(read_bag(tmp_path / 'bag', 'segment').label_ages_ms) == count


def test_a_node_begun_anew_and_another_clock_are_not_taken_for_figures(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'bag', StoragePlugin.MCAP, restarts_at=5, age_ns=-10**9)
    assert main([str(tmp_path / 'bag'), '--output', str(tmp_path / 'report.png')]) == 0
    assert '10 labels stamped by another clock; 64 segmented; 16 dropped; 0 rejected' in (
        capsys.readouterr().out)


@pytest.mark.parametrize(('name', 'words'), [
    ('bag', "0 reports of node 'other' on /diagnostics"),
    ('absent', 'absent: does not exist: give'),
], ids=['another node', 'no bag'])
def test_a_record_that_cannot_be_drawn_is_one_line(tmp_path, capsys, name, words) -> None:
    make_bag(tmp_path / 'bag', StoragePlugin.MCAP)
    assert main([str(tmp_path / name), '--node', '/other/']) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count('\n') == 1


@pytest.mark.parametrize(('name', 'words'), [
    ('absent/report.png', 'cannot be written: No such file or directory: choose another file'),
    ('report.jpg', 'is no .png and no .html: give --output one of them'),
], ids=['no directory', 'another kind'])
def test_a_place_that_will_not_do_is_named_before_anything_is_listened_to(
    tmp_path, capsys, monkeypatch, name, words
) -> None:
    def listen(*_):
        raise AssertionError('it would have taken a minute')

    monkeypatch.setattr('lednet_ros.monitor.latency_report.listen', listen)
    assert main(['--output', str(tmp_path / name)]) == 1
    assert words in capsys.readouterr().err


def test_without_matplotlib_nothing_is_listened_to(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr('lednet_ros.monitor.latency_report.listen', None)
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    assert main(['--output', str(tmp_path / 'report.png')]) == 1
    assert 'drawing needs matplotlib (import of matplotlib.figure' in capsys.readouterr().err


def test_a_page_holds_the_picture_and_words_that_are_no_tags(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'bag', StoragePlugin.MCAP)
    assert main([str(tmp_path / 'bag'), '--output', str(tmp_path / 'report.HTML')]) == 0
    page = (tmp_path / 'report.HTML').read_text(encoding='utf-8')
    assert page.startswith('<!DOCTYPE html>')
    assert 'src="data:image/png;base64,' in page


@pytest.mark.parametrize(('camera', 'topics'), [
    ('front', ['/bot/segment/front/label']),
    ('image', ['/bot/segment/image/label', '/bot/segment/label']),
])
def test_labels_are_found_whether_the_camera_has_a_name_or_not(camera, topics) -> None:
    """One of `cameras: [image]` and one without a name report alike."""
    assert label_topics('bot/segment', camera) == topics


@pytest.mark.parametrize('storage', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_bag_s_file_alone_will_do(tmp_path, storage) -> None:
    make_bag(tmp_path / 'bag', storage)
    [file] = [path for path in (tmp_path / 'bag').iterdir() if path.suffix != '.yaml']
    assert read_bag(file, 'segment').label_ages_ms == [50.0] * 10


def test_what_a_damaged_bag_lacks_is_named_and_the_rest_is_drawn(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'bag', StoragePlugin.SQLITE3)
    with sqlite3.connect(tmp_path / 'bag' / 'bag.db3') as database:
        database.execute("UPDATE messages SET data = x'00' WHERE id IN (3, 4, 6)")
    metadata = tmp_path / 'bag' / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace(
        '  - bag.db3', '  - bag.db3\n  - more.db3', 1))
    output = tmp_path / 'report.png'
    assert main([str(tmp_path / 'bag'), '--output', str(output)]) == 1
    said = capsys.readouterr()
    prefix = f'lednet_latency_report: {tmp_path / "bag"}: '
    assert sorted(said.err.splitlines()) == [
        f'{prefix}1 damaged messages on /diagnostics: left out',
        f'{prefix}2 damaged messages on /segment/label: left out',
        f'{prefix}more.db3 is missing, though metadata.yaml names it: left out']
    assert '8 labels, p50 50 ms' in said.out
    assert output.exists()


@pytest.mark.parametrize('name', ['photos', 'notes.txt'])
def test_what_is_no_bag_is_one_line(tmp_path, capsys, name) -> None:
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'notes.txt').write_text('none')
    assert main([str(tmp_path / name)]) == 1
    assert f"{tmp_path / name}: is no bag: give a rosbag2's directory" in capsys.readouterr().err


def test_a_bag_with_nothing_of_a_node_is_one_line(tmp_path, capsys) -> None:
    with Writer(tmp_path / 'bag', version=9) as writer:
        note = writer.add_connection('/note', 'std_msgs/msg/String', typestore=STORE)
        writer.write(note, 1, STORE.serialize_cdr(
            T['std_msgs/msg/String'](data='fine'), note.msgtype))
    assert main([str(tmp_path / 'bag')]) == 1
    assert "0 reports of node 'segment' on /diagnostics" in capsys.readouterr().err
