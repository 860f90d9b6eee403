# SPDX-License-Identifier: Apache-2.0
"""What is to be done for a source, cut into jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('rosbags', reason='needs rosbags')

from recordings import make_bag, make_video
from rosbags.rosbag2 import StoragePlugin

from lednet_ros.images.sources import Part
from lednet_ros.offline.jobs import Job, count_frames, cut
from lednet_ros.offline.output_dir import Results
from lednet_ros.offline.sources import Item
from lednet_ros.offline.work import Work, silent_progress


def job(kind: str, *paths: str) -> Job:
    return Job(kind, Path(paths[0]), tuple(Item(Path(p), Path(Path(p).stem)) for p in paths), 0)


def work_in(directory: Path) -> Work:
    return Work(None, Results(directory, 'the same command'), silent_progress())


@pytest.mark.parametrize(('count', 'parts'), [
    (0, []), (10, []), (11, [(0, 9), (10, -1)]), (30, [(0, 9), (10, 19), (20, -1)])])
def test_a_long_video_s_parts_have_all_of_its_frames(count, parts) -> None:
    """The last goes to the end: how many frames there are is not quite known."""
    assert [one.part for one in cut(job('video', 'a.mp4'), count, 10)] == [
        Part(*part) for part in parts]


def test_pictures_are_cut_into_lists() -> None:
    whole = job('pictures', *(f'{i}.png' for i in range(7)))
    pieces = cut(whole, 7, 3)
    assert [len(piece.items) for piece in pieces] == [3, 3, 1]
    assert [item for piece in pieces for item in piece.items] == [*whole.items]


def test_frames_are_counted_and_what_is_done_or_damaged_is_not_cut(tmp_path) -> None:
    make_video(tmp_path / 'a.mp4', 9)
    make_bag(tmp_path / 'drive', StoragePlugin.MCAP)
    (tmp_path / 'b.mp4').write_bytes(b'no film')
    work = work_in(tmp_path / 'out')
    for kind, name, expected in (
            ('video', 'a.mp4', 9), ('video', 'b.mp4', 0), ('bag', 'drive', 6)):
        assert count_frames(job(kind, str(tmp_path / name)), work) == expected
    (tmp_path / 'out' / 'drive_labels').mkdir(parents=True)
    assert count_frames(job('bag', str(tmp_path / 'drive')), work) == 0
