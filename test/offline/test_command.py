# SPDX-License-Identifier: Apache-2.0
"""lednet_segment as a user calls it, on files made here."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('rosbags', reason='needs rosbags')

from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from lednet_ros.offline import command
from lednet_ros.offline.bags import label_topic
from lednet_ros.offline.work import Work
from lednet_ros.segmentation import Segmenter, SegmenterConfig

SMALL = ('--input-height', '64', '--input-width', '96')
STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types


def street(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


@pytest.fixture(scope='module')
def segmenter():
    with Segmenter(config=SegmenterConfig(input_height=64, input_width=96)) as segmenter:
        yield segmenter


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name, seed in (('2.png', 2), ('10.png', 10), ('deeper/1.png', 1)):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), street(seed))
    return tmp_path / 'images'


def run(*words, code: int = 0) -> None:
    assert command.main([*map(str, words), *SMALL]) == code


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_a_directory_s_labels_have_its_names_and_are_the_segmenter_s(
    images, tmp_path, segmenter, capsys
) -> None:
    run(images, '--output', tmp_path / 'out', '--overlay')
    for name, seed in (('2.png', 2), ('10.png', 10), ('deeper/1.png', 1)):
        [expected] = segmenter.segment([street(seed)])
        assert np.array_equal(read(tmp_path / 'out' / 'label' / name), expected.labels)
        assert read(tmp_path / 'out' / 'overlay' / name).shape == (48, 64, 3)
    assert '3 segmented by onnxruntime cpu fp32' in capsys.readouterr().out


def test_a_second_run_does_only_what_is_missing(images, tmp_path, capsys) -> None:
    out = tmp_path / 'out'
    run(images, '--output', out)
    (out / 'label' / '2.png').unlink()
    before = (out / 'label' / '10.png').stat().st_mtime_ns
    run(images, '--output', out)
    assert '1 segmented' in capsys.readouterr().out.splitlines()[-1]
    assert (out / 'label' / '10.png').stat().st_mtime_ns == before
    run(images, '--output', out, '--overwrite')
    assert '3 segmented' in capsys.readouterr().out
    assert (out / 'label' / '10.png').stat().st_mtime_ns > before


def tally(capsys) -> tuple[int, int]:
    """Give how many the last run said it had segmented, and kept."""
    last = capsys.readouterr().out.splitlines()[-1]
    said = re.search(r': (\d+) segmented by .*, (\d+) kept', last)
    return int(said[1]), int(said[2])


def stop_after(monkeypatch, count: int) -> None:
    """Stop the command as by Ctrl-C when it has segmented so many."""
    segment = Work.segment

    def segment_or_stop(work, frames):
        if work.segmented >= count:
            raise KeyboardInterrupt
        return segment(work, frames)

    monkeypatch.setattr(Work, 'segment', segment_or_stop)


@pytest.mark.parametrize('settings', [(), ('--min-confidence', '0.9')], ids=['same', 'other'])
def test_overwriting_that_was_stopped_goes_on_without_overwrite(
    images, tmp_path, capsys, monkeypatch, settings
) -> None:
    words = (images, '--output', tmp_path / 'out', *settings)
    run(images, '--output', tmp_path / 'out')
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        run(*words, '--overwrite', code=130)
    assert 'stopped: the same command without --overwrite goes on from here' in (
        capsys.readouterr().err)
    run(*words)
    assert tally(capsys) == (2, 1)
    run(*words)
    assert tally(capsys) == (0, 3)


def test_overwriting_one_source_leaves_the_others_done_unless_settings_differ(
    images, tmp_path, capsys
) -> None:
    make_video(tmp_path / 'street.mp4', 4)
    both = (images, tmp_path / 'street.mp4', '--output', tmp_path / 'out')
    run(*both)
    for settings, expected in (
            ((), (0, 7)),
            (('--min-confidence', '0.9'), (3, 4))):
        run(*both[1:], *settings, '--overwrite')
        run(*both, *settings)
        assert tally(capsys) == expected


def test_what_is_foreign_or_of_other_settings_is_not_touched(images, tmp_path, capsys) -> None:
    foreign = tmp_path / 'foreign'
    foreign.mkdir()
    (foreign / 'thesis.txt').write_text('years of work')
    run(images, '--output', foreign, code=1)
    assert 'is not empty and not of lednet_segment' in capsys.readouterr().err
    assert [p.name for p in foreign.iterdir()] == ['thesis.txt']
    out = tmp_path / 'out'
    run(images, '--output', out)
    run(images, '--output', out, '--min-confidence', '0.9', code=1)
    assert 'was made with another min_confidence' in capsys.readouterr().err


def test_unreadable_images_are_named_and_the_rest_is_done(images, tmp_path, capsys) -> None:
    (images / '3.png').write_bytes(b'no picture')
    run(images, images / '2.png', '--output', tmp_path / 'out', code=1)
    said = capsys.readouterr()
    assert '3.png: cannot be read as an image: left out' in said.err
    assert '3 segmented' in said.out


@pytest.mark.parametrize(('make', 'words'), [
    (lambda d: d / 'absent', 'absent: does not exist'),
    (lambda d: d, 'holds no image'),
    (lambda d: d / 'rubbish.mp4', 'cannot be opened as a video'),
], ids=['absent', 'empty', 'no video'])
def test_a_source_that_is_none_is_one_line_and_exit_1(tmp_path, capsys, make, words) -> None:
    sources = tmp_path / 'sources'
    sources.mkdir()
    (sources / 'rubbish.mp4').write_bytes(b'rubbish')
    run(make(sources), '--output', tmp_path / 'out', code=1)
    assert words in capsys.readouterr().err


def test_names_that_would_collide_are_refused(images, tmp_path, capsys) -> None:
    cv2.imwrite(str(images / '2.jpg'), street(2))
    run(images, '--output', tmp_path / 'out', code=1)
    assert 'would share' in capsys.readouterr().err


def test_results_below_a_source_are_no_pictures_of_it(images, capsys, monkeypatch) -> None:
    monkeypatch.chdir(images)
    for expected in ('3 segmented', '0 segmented'):
        run('.', '--output', 'out', '--overlay')
        assert expected in capsys.readouterr().out


def make_video(path: Path, frames: int, height: int = 48, width: int = 64) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 12.0, (width, height))
    if not writer.isOpened():
        pytest.skip('this OpenCV cannot write MP4 files')
    for i in range(frames):
        writer.write(street(i, height, width))
    writer.release()


def test_a_video_gives_a_label_per_frame_and_a_film_of_its_pace(tmp_path, segmenter) -> None:
    make_video(tmp_path / 'street.mp4', 7)
    run(tmp_path / 'street.mp4', '--output', tmp_path / 'out', '--overlay', '--batch', '3')
    labels = sorted((tmp_path / 'out' / 'label' / 'street').iterdir())
    assert [p.name for p in labels] == [f'{i:06}.png' for i in range(7)]
    capture = cv2.VideoCapture(str(tmp_path / 'street.mp4'))
    [expected] = segmenter.segment([capture.read()[1]])
    assert np.array_equal(read(labels[0]), expected.labels)
    film = cv2.VideoCapture(str(tmp_path / 'out' / 'overlay' / 'street.mp4'))
    assert film.get(cv2.CAP_PROP_FPS) == 12.0
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 7


def test_a_film_that_the_disk_had_no_room_for_is_not_kept(tmp_path, segmenter) -> None:
    make_video(tmp_path / 'street.mp4', 60)
    words = [sys.executable, '-m', 'lednet_ros.offline.command', str(tmp_path / 'street.mp4'),
             '--output', str(tmp_path / 'out'), '--overlay', *SMALL]
    # The network's cache is there, by the fixture; labels are small.
    done = subprocess.run(
        words, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    assert done.returncode == 1
    assert 'overlay/street.mp4: cannot be written: ' in done.stderr
    assert 'Traceback' not in done.stderr
    assert len(list((tmp_path / 'out' / 'label' / 'street').iterdir())) == 60
    assert not list((tmp_path / 'out' / 'overlay').iterdir())


def test_a_video_that_is_cut_is_complained_of_and_what_there_is_is_done(tmp_path, capsys) -> None:
    source = tmp_path / 'street.avi'
    make_video(source, 100)
    whole = source.read_bytes()
    source.write_bytes(whole[:len(whole) // 2])
    run(source, '--output', tmp_path / 'out', code=1)
    assert 'street.avi: is cut or damaged: about ' in capsys.readouterr().err
    assert 20 < len(list((tmp_path / 'out' / 'label' / 'street').iterdir())) < 80
    source.write_bytes(whole)
    run(source, '--output', tmp_path / 'out')
    assert len(list((tmp_path / 'out' / 'label' / 'street').iterdir())) == 100


def header(i: int):
    stamp = T['builtin_interfaces/msg/Time'](sec=100 + i, nanosec=7)
    return T['std_msgs/msg/Header'](stamp=stamp, frame_id='front')


def raw(pixels: np.ndarray, i: int, encoding: str = 'bgr8'):
    return T['sensor_msgs/msg/Image'](
        header=header(i), height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
        is_bigendian=0, step=pixels.nbytes // pixels.shape[0],
        data=np.frombuffer(pixels.tobytes(), np.uint8))


QOS = Qos(QosHistory.KEEP_LAST, 5, QosReliability.BEST_EFFORT, QosDurability.VOLATILE,
          QosTime(9223372036, 854775807), QosTime(9223372036, 854775807), QosLiveliness.AUTOMATIC,
          QosTime(9223372036, 854775807), False)


def make_bag(path: Path, storage: StoragePlugin, images: int = 3) -> None:
    """Front camera raw and compressed, left one compressed, depth cameras and a text."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        def add(topic, type_, **more):
            return writer.add_connection(topic, type_, typestore=STORE, **more)

        image, packed = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
        front = add('/front/image_raw', image, offered_qos_profiles=[QOS])
        both = add('/front/image_raw/compressed', packed)
        left = add('/left/image_raw/compressed', packed)
        depth = add('/depth/image', image)
        depth_packed = add('/depth/image/compressedDepth', packed)
        depth_renamed = add('/range/image/compressed', packed)
        text = add('/note', 'std_msgs/msg/String')

        def write(connection, at, message):
            writer.write(connection, at, STORE.serialize_cdr(message, connection.msgtype))

        for i in range(images):
            at = (100 + i) * 10**9
            png = np.frombuffer(cv2.imencode('.png', street(i))[1].tobytes(), np.uint8)
            write(front, at, raw(street(i), i))
            write(both, at, T[packed](header=header(i), format='png', data=png))
            write(left, at, T[packed](header=header(i), format='png', data=png))
            write(depth, at, raw(np.zeros((4, 4), np.float32), i, '32FC1'))
            for connection in (depth_packed, depth_renamed):  # 12 bytes, then a PNG
                write(connection, at, T[packed](
                    header=header(i), format='16UC1; compressedDepth png',
                    data=np.concatenate((np.zeros(12, np.uint8), png))))
            write(text, at, T['std_msgs/msg/String'](data=f'note {i}'))


@pytest.mark.parametrize('storage', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_bag_is_copied_with_labels_beside_its_images(tmp_path, segmenter, storage) -> None:
    make_bag(tmp_path / 'drive', storage)
    run(tmp_path / 'drive', '--output', tmp_path / 'out', '--overlay')
    result = tmp_path / 'out' / 'drive_labels'
    suffix = 'mcap' if storage == StoragePlugin.MCAP else 'db3'
    assert sorted(p.name for p in result.iterdir()) == [
        f'drive_labels.{suffix}', 'metadata.yaml']
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        'drive_labels', 'lednet_segment.json']
    with AnyReader([result], default_typestore=STORE) as reader, \
            Reader(tmp_path / 'drive') as original:
        assert set(reader.topics) == {
            *original.topics, '/segment/front/label', '/segment/front/overlay',
            '/segment/left/label', '/segment/left/overlay'}
        copied = [(c.topic, at, bytes(data)) for c, at, data in reader.messages()
                  if not c.topic.startswith('/segment')]
        assert copied == [(c.topic, at, bytes(data)) for c, at, data in original.messages()]
        [front] = [c for c in reader.connections if c.topic == '/front/image_raw']
        assert front.ext.offered_qos_profiles == [QOS]
        labels = [c for c in reader.connections if c.topic == '/segment/front/label']
        for i, (_, at, data) in enumerate(reader.messages(labels)):
            message = reader.deserialize(data, labels[0].msgtype)
            [expected] = segmenter.segment([street(i)])
            assert at == (100 + i) * 10**9
            stamp = message.header.stamp
            assert (stamp.sec, stamp.nanosec, message.header.frame_id) == (100 + i, 7, 'front')
            assert message.encoding == 'mono8'
            assert np.array_equal(message.data.reshape(48, 64), expected.labels)
        assert labels[0].msgcount == 3


def test_topics_of_a_bag_can_be_chosen_and_wrong_ones_are_named(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'drive', StoragePlugin.MCAP)
    run(tmp_path / 'drive', '--output', tmp_path / 'a', '--topics', '/rear/image', code=1)
    assert 'has no images on /rear/image' in capsys.readouterr().err
    run(tmp_path / 'drive', '--output', tmp_path / 'b', '--topics', '/left/image_raw/compressed')
    with Reader(tmp_path / 'b' / 'drive_labels') as reader:
        assert {t for t in reader.topics if t.startswith('/segment')} == {'/segment/left/label'}


def test_a_bag_that_is_done_has_what_is_asked_for_or_is_refused(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'drive', StoragePlugin.MCAP)
    words = (tmp_path / 'drive', '--output', tmp_path / 'out')
    left = ('--topics', '/left/image_raw/compressed')
    run(*words, *left)
    for more, complaint in (
            ((), 'out/drive_labels: lacks /segment/front/label: choose another --output, or'),
            ((*left, '--overlay'), 'out/drive_labels: lacks /segment/left/overlay: choose'),
            (('--topics', '/rear/image'), 'drive: has no images on /rear/image: choose'),
            (('--topics', '/depth/image/compressedDepth'), 'has no images on /depth/image/comp')):
        run(*words, *more, code=1)
        assert complaint in capsys.readouterr().err
    run(*words, *left)
    assert tally(capsys) == (0, 1)
    run(*words, '--overlay', '--overwrite')
    run(*words)
    assert tally(capsys) == (0, 1)


def test_labels_held_for_a_bag_are_not_taken_when_overwriting(
    tmp_path, capsys, monkeypatch
) -> None:
    make_bag(tmp_path / 'drive', StoragePlugin.MCAP)
    words = (tmp_path / 'drive', '--output', tmp_path / 'out')
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        run(*words, code=130)
    assert len(list((tmp_path / 'out' / '.work-drive_labels').rglob('*.png'))) == 4
    run(*words, '--min-confidence', '0.9', '--overwrite')
    assert tally(capsys) == (6, 0)


@pytest.mark.parametrize('name', ['0001.png', 'street.mp4', 'drive', 'photos'])
def test_results_of_another_source_of_the_same_name_are_not_taken(tmp_path, capsys, name) -> None:
    for day, seed in (('day1', 1), ('day2', 2)):
        source = tmp_path / day / name
        source.parent.mkdir()
        if name == 'drive':
            make_bag(source, StoragePlugin.MCAP)
        elif name == 'street.mp4':
            make_video(source, 3, height=48 * seed)
        else:
            source = source / '0001.png' if name == 'photos' else source
            source.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(source), street(seed))
    day1, day2 = tmp_path / 'day1' / name, tmp_path / 'day2' / name
    out = ('--output', tmp_path / 'out')
    run(day1, *out)
    run(day2, *out, code=1)
    assert f'{day2} and {tmp_path / "day1"}' in (said := capsys.readouterr().err)
    assert 'would share ' in said
    run(day1, *out)
    run(day2, *out, '--overwrite')
    segmented, kept = tally(capsys)
    assert segmented > kept == 0
    run(day2, *out)
    assert tally(capsys)[0] == 0
    run(day1, *out, code=1)


def test_a_picture_is_not_taken_for_one_of_the_directory_that_it_was_overwritten_by(
    tmp_path, capsys
) -> None:
    for day in ('day1', 'day2'):
        (tmp_path / day).mkdir()
        for name in ('1.png', '2.png'):
            cv2.imwrite(str(tmp_path / day / name), street(len(name)))
    out = ('--output', tmp_path / 'out')
    run(tmp_path / 'day1', *out)
    run(tmp_path / 'day2' / '1.png', *out, '--overwrite')
    run(tmp_path / 'day2', *out)
    assert tally(capsys) == (1, 1)


def test_a_directory_and_a_video_do_not_share_labels(images, tmp_path, capsys) -> None:
    make_video(tmp_path / 'deeper.mp4', 2)
    run(images, tmp_path / 'deeper.mp4', '--output', tmp_path / 'out', code=1)
    assert 'would share label/deeper: give each its own --output' in capsys.readouterr().err


def test_a_record_of_before_origins_were_kept_is_read(images, tmp_path, capsys) -> None:
    run(images, '--output', tmp_path / 'out')
    record = tmp_path / 'out' / 'lednet_segment.json'
    found = json.loads(record.read_text())
    record.write_text(json.dumps({
        k: found[k] for k in ('checkpoint', 'input', 'fit', 'min_confidence')}))
    run(images, '--output', tmp_path / 'out')
    assert tally(capsys) == (0, 3)


@pytest.mark.parametrize('damage', [
    lambda patch: patch.delattr('rosbags.rosbag2.StoragePlugin'),
    lambda patch: patch.setitem(sys.modules, 'rosbags.interfaces', None),
], ids=['too old', 'missing'])
def test_rosbags_that_will_not_do_is_one_line(tmp_path, capsys, monkeypatch, damage) -> None:
    make_bag(tmp_path / 'drive', StoragePlugin.MCAP)
    monkeypatch.delitem(sys.modules, 'lednet_ros.offline.bags')
    damage(monkeypatch)
    run(tmp_path / 'drive', '--output', tmp_path / 'out', code=1)
    assert "pip install 'rosbags>=0.10.11'" in capsys.readouterr().err


def test_a_damaged_bag_is_one_line(tmp_path, capsys) -> None:
    make_bag(tmp_path / 'drive', StoragePlugin.MCAP)
    [file] = (tmp_path / 'drive').glob('*.mcap')
    file.write_bytes(file.read_bytes()[:300])
    run(tmp_path / 'drive', '--output', tmp_path / 'out', code=1)
    assert f'lednet_segment: {tmp_path / "drive"}: ' in capsys.readouterr().err
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['lednet_segment.json']


@pytest.mark.parametrize(('image', 'label'), [
    ('/image', '/segment/label'), ('/image_raw', '/segment/label'),
    ('/front/image_raw', '/segment/front/label'),
    ('/camera/camera/color/image_raw/compressed', '/segment/camera/camera/color/label')])
def test_label_topics_are_the_node_s(image, label) -> None:
    assert label_topic(image) == label


def heed_sigint() -> None:
    """Undo what a shell does to SIGINT for a job in the background, these tests for one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(('kind', 'number'), [
    ('video', signal.SIGINT), ('bag', signal.SIGINT), ('bag', signal.SIGTERM)])
def test_a_signal_ends_it_and_the_same_command_goes_on(tmp_path, within, kind, number) -> None:
    source = tmp_path / 'street.mp4'
    if kind == 'bag':
        source = tmp_path / 'drive'
        make_bag(source, StoragePlugin.MCAP, images=300)
    else:
        make_video(source, 300)
    words = [sys.executable, '-m', 'lednet_ros.offline.command', str(source), '--output',
             str(tmp_path / 'out'), *SMALL]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=heed_sigint)
    while len(list((tmp_path / 'out').rglob('*.png'))) < 5:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    with within(2.0):
        _, said = process.communicate()
    assert process.returncode == 130
    assert 'stopped: the same command goes on from here' in said
    kept = len(list((tmp_path / 'out').rglob('*.png')))
    assert kept < 300
    assert not list((tmp_path / 'out').rglob('.partial*'))
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    total = 300 if kind == 'video' else 600  # front and left
    assert f'{total - kept} segmented' in done.stdout
    assert f'{kept} kept from before' in done.stdout
