# SPDX-License-Identifier: Apache-2.0
"""Which frames of recordings to label next, and a package of them for labelling tools."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lednet_ros.common.atomic_file import jpeg_of, png_of
from lednet_ros.common.errors import ConfigError, printable
from lednet_ros.images.encodings import Frame
from lednet_ros.model.labels import LabelSet
from lednet_ros.offline.labelling_package import IGNORED, cvat_constructor, labelme, write_cvat
from lednet_ros.offline.output_dir import Results
from lednet_ros.offline.recordings import Recording, Shot
from lednet_ros.offline.selection import (
    Scored,
    look_of,
    most_uncertain,
    most_various,
    uncertainty,
)
from lednet_ros.offline.work import Complaint, Work, batches, rgb_of

SAVE_EVERY = 200  # frames: no more are scored again where a run was stopped
SELECTION = Path('selection.json')
CHOICES = {'variety': most_various, 'uncertainty': most_uncertain}


class Score(NamedTuple):
    """What a choice knows of a frame."""

    uncertainty: float
    look: bytes


class Chosen(NamedTuple):
    """A frame to be labelled."""

    recording: Recording
    shot: Shot
    uncertainty: float


class Scores:
    """What is known of each frame of one recording, and what was left out: in a file."""

    def __init__(self, recording: Recording, results: Results) -> None:
        """Take what an earlier run has found. Raise ConfigError."""
        self._path = score_file(recording)
        self._state = recording.state
        self._results = results
        self.frames: dict[Shot, Score] = {}
        self.is_done = False
        self.left_out: list[Complaint] = []
        if not results.is_done(self._path):
            return
        path = results.directory / self._path
        try:
            found = json.loads(path.read_text(encoding='utf-8'))
            if found.get('state', '') != self._state:
                return
            self.frames = {Shot(*shot): Score(float(value), b64decode(look, validate=True))
                           for *shot, value, look in found['frames']}
            self.is_done = found['is_done']
            self.left_out = [Complaint(*complaint) for complaint in found['left_out']]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f'{path}: is damaged: remove it') from error

    def save(self) -> None:
        """Write the file. Raise ConfigError."""
        _write_json(self._results, self._path, {
            'state': self._state, 'is_done': self.is_done, 'left_out': self.left_out,
            'frames': [[*shot, score.uncertainty, b64encode(score.look).decode()]
                       for shot, score in self.frames.items()]})


def score_file(recording: Recording) -> Path:
    """Return where a recording's scores are kept."""
    return 'scores' / recording.name.with_name(f'{recording.name.name}.json')


def score(recording: Recording, every: int, work: Work) -> Scores:
    """Score each `every`-th frame of a recording; what is scored already stays so."""
    scores = Scores(recording, work.output)
    work.kept += len(scores.frames)
    if scores.is_done:
        for complaint in scores.left_out:
            work.complain(*complaint)
        return scores
    task = work.progress.add_task(printable(str(recording.name)), total=None)
    before = len(work.complaints)
    classes = len(work.segmenter.labels)

    def is_wanted(shot: Shot) -> bool:
        work.progress.advance(task)
        return shot.place % every == 0 and shot not in scores.frames

    unsaved = 0
    for batch in batches(recording.read(is_wanted, work), work.batch):
        for (shot, frame), seen in zip(
                batch, work.segment([frame for _, frame in batch]), strict=True):
            assert seen.confidence is not None
            scores.frames[shot] = Score(
                uncertainty(seen.confidence), look_of(rgb_of(frame), seen.labels, classes))
        work.segmented += len(batch)
        unsaved += len(batch)
        if unsaved >= SAVE_EVERY:
            scores.save()
            unsaved = 0
    scores.is_done, scores.left_out = True, work.complaints[before:]
    scores.save()
    return scores


def choose_frames(
    scored: Sequence[tuple[Recording, Scores]], count: int, by: str
) -> list[Chosen]:
    """Return the frames to label by one of CHOICES, in order of their recordings and places."""
    frames = [(recording, shot, score) for recording, scores in scored
              for shot, score in scores.frames.items()]
    tracks: dict[str, int] = {}
    length: Counter[str] = Counter()
    places = []
    for _, shot, score in frames:
        # Not the shot's place: pictures that are named one by one are each the first.
        places.append(Scored(
            tracks.setdefault(shot.track, len(tracks)), length[shot.track], *score))
        length[shot.track] += 1
    wanted = set(CHOICES[by](places, count))
    return [Chosen(recording, shot, score.uncertainty)
            for (recording, shot, score), place in zip(frames, places, strict=True)
            if place in wanted]


def write_package(chosen: Sequence[Chosen], form: str, labels: LabelSet, work: Work) -> None:
    """
    Write images, pre-labels and what tools need; what is there stays.

    Raise ConfigError where the output has another choice.
    """
    results = work.output
    record: list[dict[str, Any]] = [{
        'name': one.shot.name, 'source': str(one.recording.origin), 'track': one.shot.track,
        'frame': one.shot.place, 'uncertainty': round(one.uncertainty, 6)} for one in chosen]
    _keep_or_write_selection(record, results)
    by_recording: dict[Path, list[Chosen]] = {}
    for one in chosen:
        by_recording.setdefault(one.recording.name, []).append(one)
    for ones in by_recording.values():
        _write_frames(ones, form, labels, work)
    with results.making(Path('labels.txt')) as path:
        path.write_text('\n'.join([IGNORED, *labels.names]) + '\n', encoding='utf-8')
    _write_json(results, Path('cvat_labels.json'), cvat_constructor(labels))
    names = [one.shot.name for one in chosen]
    if not results.is_done(Path('cvat.zip')):
        with results.making(Path('cvat.zip')) as path:
            write_cvat(path, names, (_labels_of(name, results) for name in names), labels)


def _keep_or_write_selection(record: list[dict[str, Any]], results: Results) -> None:
    path = results.directory / SELECTION
    if results.is_done(SELECTION):
        try:
            found = json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            found = None
        if found != record:
            raise ConfigError(f'{path}: is another choice, which may be labelled already: choose '
                              'another --output, or --overwrite')
        return
    _remove_others(path, {one['name'] for one in record}, results)
    _write_json(results, SELECTION, record)


def _remove_others(path: Path, names: set[str], results: Results) -> None:
    """Remove the frames of a choice that is overwritten."""
    try:
        found = {str(one['name']) for one in json.loads(path.read_text(encoding='utf-8'))}
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in found - names:
        if '/' not in name:
            for kind, suffix in (('images', 'png'), ('images', 'jpg'), ('images', 'json'),
                                 ('label', 'png')):
                (results.directory / kind / f'{name}.{suffix}').unlink(missing_ok=True)


def _write_frames(ones: Sequence[Chosen], form: str, labels: LabelSet, work: Work) -> None:
    """Write the images of one recording, their labels, and their polygons."""
    def files(shot: Shot) -> tuple[Path, Path, Path]:
        return (Path('images', f'{shot.name}.{form}'), Path('label', f'{shot.name}.png'),
                Path('images', f'{shot.name}.json'))

    missing = {one.shot for one in ones
               if not all(work.output.is_done(file) for file in files(one.shot))}
    if not missing:
        return
    # Of what is complained of here, scoring has complained.
    quiet = work.silent()
    for shot, frame in ones[0].recording.read(lambda shot: shot in missing, quiet):
        image, label, polygons = files(shot)
        [seen] = quiet.segment([frame])
        _write_image(image, frame, work.output)
        work.output.write_labels(label, seen.labels)
        _write_json(work.output, polygons, labelme(image.name, seen.labels, labels))
        missing.remove(shot)
        if not missing:
            break


def _write_image(name: Path, frame: Frame, results: Results) -> None:
    pixels = rgb_of(frame)
    with results.making(name) as path:
        path.write_bytes(png_of(pixels) if name.suffix == '.png' else jpeg_of(pixels))


def _labels_of(name: str, results: Results) -> np.ndarray:
    """Return the labels of a frame, uint8 (H, W). Raise ConfigError."""
    path = Path('label', f'{name}.png')
    labels = results.kept_labels(path)
    if labels is None:
        raise ConfigError(f'{results.directory / path}: cannot be read: remove it, and go on by '
                          f'{results.again}')
    return labels


def _write_json(results: Results, name: Path, content: Any) -> None:
    with results.making(name) as path:
        path.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
