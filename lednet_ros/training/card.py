# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's record as a page that people can read, beside the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lednet_ros.common.atomic_file import whole_file
from lednet_ros.common.errors import DataError
from lednet_ros.model.checkpoint import Checkpoint


def write_card(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint's card, Markdown. Raise DataError."""
    try:
        with whole_file(path) as partial:
            # Names of runs are those of directories, which need not be UTF-8.
            text = '\n'.join(card(checkpoint)) + '\n'
            partial.write_bytes(text.encode('utf-8', 'backslashreplace'))
    except OSError as error:
        raise DataError(f'{path}: cannot be written: {error.strerror}: make room, then the same '
                        'command goes on from the last state saved') from error


def card(checkpoint: Checkpoint) -> Iterator[str]:
    """Say in Markdown, line by line, what a checkpoint of lednet_train is and how well it sees."""
    metadata, labels = checkpoint.metadata, checkpoint.labels
    training = metadata.training
    yield f'# {checkpoint.name}'
    yield ''
    yield from _table(('', ''), {
        'classes': f'{len(labels)} of {labels.name}: {", ".join(labels.names)}',
        'input': f'{metadata.input_width}x{metadata.input_height}, RGB',
        'trained on': f'{training.get("data")}, {training.get("images")} images',
        'hash of the data': training.get('data_sha256'),
        'begun with': _begun_with(training.get('init')),
        'epoch': training.get('epoch'),
        'hours': training.get('hours'),
        'written': f'{training.get("date")} by lednet_ros {training.get("lednet_ros")}, '
                   f'on {training.get("device")}',
        'hash of the weights': checkpoint.sha256,
        'confidence': _calibrated(metadata.temperature, training.get('calibration'))})
    for split, scores in metadata.scores.items():
        yield ''
        yield f'## On {split}'
        yield ''
        yield from _table(('', '%'), {
            '**mean IoU**': _percent(scores.get('miou')),
            'pixel accuracy': _percent(scores.get('pixel_accuracy')),
            **{name: _percent(iou) for name, iou in scores.get('class_iou', {}).items()}})
        yield ''
        yield ('The best epoch was chosen by these very images: others, above all of another '
               'street, score lower.')
    yield ''
    yield '## Recipe'
    yield ''
    yield from _table(('knob', ''), training.get('recipe', {}))


def _table(head: tuple[str, str], rows: Mapping[str, Any]) -> Iterator[str]:
    yield f'| {head[0]} | {head[1]} |'
    yield '|---|---|'
    for name, value in rows.items():
        if value is not None:
            yield f'| {name} | {str(value).replace("|", "/")} |'


def _begun_with(init: Mapping[str, Any] | None) -> str:
    return f'{init["name"]} ({init["sha256"][:16]})' if init else 'random weights'


def _calibrated(temperature: float, calibration: Mapping[str, Any] | None) -> str:
    if not calibration:
        return 'not calibrated'
    after = calibration['ece_after']
    return (f'temperature {temperature:.3f}, fitted on {calibration["split"]} of '
            f'{calibration["data"]}: expected calibration error '
            f'{_percent(calibration["ece_before"])} % before'
            + ('' if after is None else f', {_percent(after)} % on images not fitted to'))


def _percent(share: float | None) -> str:
    return '-' if share is None else f'{100 * share:.1f}'
