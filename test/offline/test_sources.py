# SPDX-License-Identifier: Apache-2.0
"""What is found in a source, and what is skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip('rosbags', reason='needs rosbags')

from lednet_ros.common.errors import ConfigError
from lednet_ros.offline.output_dir import Output
from lednet_ros.offline.sources import find


def make(root: Path, *names: str) -> Path:
    """Make files that hold nothing, and directories where a name ends so."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith('/'):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(b'')
    return root


@pytest.fixture
def found(tmp_path: Path):
    """Look into a source; as texts, relative to tmp_path, '=' before what its results are called.
    """
    def found(source: Path, output: str = 'out'):
        place = Output(tmp_path / output, {}, [source], overwrite=True)
        result = find(source, place)
        return {
            'pictures': [f'{i.path.relative_to(tmp_path)}={i.name}' for i in result.pictures],
            'videos': [f'{i.path.relative_to(tmp_path)}={i.name}' for i in result.videos],
            'bags': [f'{i.path.relative_to(tmp_path)}={i.name}' for i in result.bags],
            'skipped': sorted(f'{kind}: {p.relative_to(tmp_path)}' for kind, p in result.skipped),
            'unreadable': [line.replace(f'{tmp_path}/', '') for line in result.unreadable]}

    return found


def test_pictures_videos_and_bags_of_a_directory_are_found_and_the_rest_is_counted(
    tmp_path, found
) -> None:
    make(tmp_path / 'd', '2.png', '10.PNG', 'a.b.jpg', 'deep/er/1.jpeg', 'film.MP4', 'deep/f.mkv',
         'drive/metadata.yaml', 'drive/drive_0.db3', 'drive/thumb.jpg', 'killed/k_0.mcap',
         'killed/k_1.mcap', 'old.bag', 'morning.mcap', 'x.heic', 'y.HEIC', 'z.gif', 'notes',
         '.DS_Store', '._2.png', '.git/1.png', 'frames.png/1.png')
    assert found(tmp_path / 'd') == {
        'pictures': ['d/2.png=2', 'd/10.PNG=10', 'd/a.b.jpg=a.b', 'd/deep/er/1.jpeg=deep/er/1',
                     'd/frames.png/1.png=frames.png/1'],
        'videos': ['d/deep/f.mkv=deep/f', 'd/film.MP4=film'],
        'bags': ['d/drive=drive', 'd/killed=killed', 'd/morning.mcap=morning', 'd/old.bag=old'],
        'skipped': ['.gif: d/z.gif', '.heic: d/x.heic', '.heic: d/y.HEIC',
                    'files beside a bag: d/drive/thumb.jpg', 'hidden: d/.DS_Store',
                    'hidden: d/._2.png', 'hidden: d/.git', 'no suffix: d/notes'],
        'unreadable': []}


def test_what_is_no_file_is_counted_and_never_opened(tmp_path, found) -> None:
    make(tmp_path / 'd', '1.png')
    os.mkfifo(tmp_path / 'd' / 'pipe.png')
    os.mkfifo(tmp_path / 'd' / 'pipe')
    assert found(tmp_path / 'd')['skipped'] == ['no files: d/pipe', 'no files: d/pipe.png']


def test_links_are_followed_and_those_that_lead_back_end_there(tmp_path, found) -> None:
    make(tmp_path, 'd/1.png', 'd/a/2.png', 'd/b/3.png', 'other/4.png', 'other/drive/metadata.yaml',
         'other/drive/drive_0.db3')
    for link, target in (
            ('d/5.png', '../other/4.png'), ('d/linked', '../other'), ('d/me', '.'),
            ('d/a/up', '..'), ('d/a/b', '../b'), ('d/b/a', '../a'), ('link', 'd'),
            ('drive_link', 'other/drive')):
        (tmp_path / link).symlink_to(target)
    names = ['1', '5', 'a/2', 'a/b/3', 'b/3', 'b/a/2', 'linked/4']
    for source in ('d', 'link'):
        seen = found(tmp_path / source)
        assert [line.partition('=')[2] for line in seen['pictures']] == names
        assert seen['bags'] == [f'{source}/linked/drive=linked/drive']
        assert seen['skipped'] == [f'links that lead back: {source}/{name}' for name in (
            'a/b/a', 'a/up', 'b/a/b', 'b/a/up', 'me')]
    assert found(tmp_path / 'drive_link')['bags'] == ['drive_link=drive_link']


def test_a_link_to_nothing_is_no_skipped_picture(tmp_path, found) -> None:
    make(tmp_path / 'd', '1.png')
    (tmp_path / 'd' / '2.png').symlink_to('gone.png')
    (tmp_path / 'd' / 'day2').symlink_to('gone')
    (tmp_path / 'd' / 'notes.txt').symlink_to('gone')
    (tmp_path / 'd' / 'self.png').symlink_to('self.png')
    seen = found(tmp_path / 'd')
    assert seen['unreadable'] == [
        'd/2.png: is a link to what is not there: mend or remove it',
        'd/day2: is a link to what is not there: mend or remove it',
        'd/self.png: cannot be read: Too many levels of symbolic links: mend that, or let this '
        'user read it']
    assert seen['skipped'] == ['no files: d/notes.txt']


def test_a_directory_that_cannot_be_read_is_named(tmp_path, found, monkeypatch) -> None:
    make(tmp_path / 'd', '1.png', 'closed/2.png')
    listed = Path.iterdir

    def iterdir(path):
        if path.name == 'closed':
            raise PermissionError(13, 'Permission denied')
        return listed(path)

    monkeypatch.setattr(Path, 'iterdir', iterdir)
    seen = found(tmp_path / 'd')
    assert seen['pictures'] == ['d/1.png=1']
    assert seen['unreadable'] == [
        'd/closed: cannot be read: Permission denied: let this user read it']


@pytest.mark.parametrize('output', ['d/out', 'd'])
def test_results_in_a_source_are_no_part_of_it(tmp_path, found, output) -> None:
    make(tmp_path / 'd', '1.png', 'drive_labels/metadata.yaml', 'drive_labels/drive_labels.db3')
    place = Output(tmp_path / output, {}, [tmp_path / 'd'], overwrite=True)
    make(tmp_path / output, 'label/1.png', 'overlay/1.png', 'overlay/film.mp4',
         '.work-x/1/1.png', 'more/x_labels/metadata.yaml', 'more/x_labels/x_labels.db3')
    place.begin(tmp_path / 'd', {Path('more/x_labels'): tmp_path / 'd' / 'x'})
    seen = find(tmp_path / 'd', place)
    assert [item.name for item in seen.pictures] == [Path('1')]
    assert [item.name for item in seen.bags] == [Path('drive_labels')]
    assert not seen.videos


def test_results_of_other_runs_are_no_pictures_either(tmp_path, found) -> None:
    make(tmp_path / 'd', '1.png', 'more/2.png')
    for other in ('d', 'd/more', 'd/out1'):
        place = Output(tmp_path / other, {}, [tmp_path / 'd'], overwrite=True)
        place.begin(tmp_path / 'd', {Path('drive_labels'): tmp_path / 'drive'})
        make(tmp_path / other, 'label/1.png', 'overlay/1.png', 'drive_labels/metadata.yaml',
             'drive_labels/drive_labels.db3')
    seen = found(tmp_path / 'd')
    assert seen['pictures'] == ['d/1.png=1', 'd/more/2.png=more/2']
    assert not seen['bags']
    assert seen['skipped'] == sorted(
        f'results of other runs: {other}/{name}' for other in ('d', 'd/more', 'd/out1')
        for name in ('label', 'overlay', 'drive_labels', 'lednet_segment.json'))


@pytest.mark.parametrize(('name', 'kind', 'expected'), [
    ('photo.JPG', 'pictures', 'photo'), ('film.xyz', 'videos', 'film'), ('film', 'videos', 'film'),
    ('drive.mcap', 'bags', 'drive'), ('drive.db3.zstd', 'bags', 'drive'),
    ('.hidden.png', 'pictures', '.hidden'), ('..png', 'pictures', '..png'),
    ('...mp4', 'videos', '...mp4')])
def test_a_file_is_what_its_name_says(tmp_path, found, name, kind, expected) -> None:
    make(tmp_path, name)
    seen = found(tmp_path / name)
    assert seen[kind] == [f'{name}={expected}']
    assert sum(map(len, seen.values())) == 1


@pytest.mark.parametrize(('name', 'kind'), [
    ('photo', 'pictures'), ('photo.jfif', 'pictures'), ('photo.mp4', 'pictures'),
    ('photos.mjpeg', 'videos')])
def test_a_jpeg_is_a_picture_whatever_its_name_but_in_a_stream(
    tmp_path, found, name, kind
) -> None:
    (tmp_path / name).write_bytes(b'\xff\xd8\xff\xe0')
    for source in (tmp_path / name, *([tmp_path] if '.m' in name else [])):
        assert len(found(source)[kind]) == 1


def test_an_mcap_is_known_by_its_first_bytes_too(tmp_path, found) -> None:
    (tmp_path / 'recording').write_bytes(b'\x89MCAP0\r\n')
    assert found(tmp_path / 'recording')['bags'] == ['recording=recording']


def test_a_bag_given_as_here_has_its_directory_s_name(tmp_path, monkeypatch) -> None:
    make(tmp_path / 'drive', 'metadata.yaml', 'drive_0.db3')
    monkeypatch.chdir(tmp_path / 'drive')
    [bag] = find(Path('.'), Output(tmp_path / 'out', {}, [], overwrite=True)).bags
    assert bag.name == Path('drive')


def test_a_directory_of_nothing_tells_what_would_do(tmp_path, found) -> None:
    make(tmp_path / 'd', 'x.heic', '.hidden.png')
    with pytest.raises(ConfigError, match=r'd: holds no image, video or bag, but hidden: 1, '
                                          r'\.heic: 1: put \.png, '):
        found(tmp_path / 'd')
