# SPDX-License-Identifier: Apache-2.0
"""
A checkpoint file <-> the network with all it takes to use it: labels, preprocessing, scores.

Our format is safetensors; its metadata key 'lednet_ros' holds a JSON record. The authors' files
(.pth, .pth.tar) are read too: authors_checkpoint.py.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lednet_ros.common.atomic_file import whole_file
from lednet_ros.common.errors import CheckpointError, ConfigError, first_line
from lednet_ros.common.paths import expanded
from lednet_ros.model.authors_checkpoint import read_authors_file, rename_ours_key
from lednet_ros.model.input_size import MAX_INPUT_SIZE, MIN_INPUT_SIZE
from lednet_ros.model.labels import LabelSet, builtin_label_set
from lednet_ros.model.networks import AnyNetwork, find_entry, make_network, name_of
from lednet_ros.model.score_floors import ScoreFloors

FORMAT = 1
_TEMPERATURES = (1e-3, 1e3)  # beyond, confidence is no number in fp16
_NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# What the authors' files do not say, by their class count: label set, input height and width.
_AUTHORS_DEFAULTS = {20: ('cityscapes', 512, 1024), 11: ('camvid', 360, 480)}


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network's input: RGB in [0, 1], then (x - mean) / std by channel."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name, values in (('mean', self.mean), ('std', self.std)):
            if len(values) != 3 or not all(_is_number(v) for v in values):
                raise ConfigError(f'preprocessing {name} is {values!r}: give three numbers')
        if min(self.std) <= 0:
            raise ConfigError(f'preprocessing std is {self.std!r}: give numbers above 0')


@dataclass(frozen=True)
class Metadata:
    """What else the file says of the weights."""

    input_height: int  # pixels; what the network was made for, not a limit
    input_width: int
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0  # scores are divided by it before softmax, so that confidence is true
    score_floors: ScoreFloors | None = None  # how low ordinary pixels score; None: not measured

    def __post_init__(self) -> None:
        if not (_is_number(self.temperature) and self.temperature > 0):
            raise ConfigError(f'temperature is {self.temperature!r}: give a number above 0')
        low, high = _TEMPERATURES
        if not low <= self.temperature <= high:
            raise ConfigError(f'temperature is {self.temperature!r}: give {low:g} to {high:g}')
        for name, value in (('height', self.input_height), ('width', self.input_width)):
            if type(value) is not int or not MIN_INPUT_SIZE <= value <= MAX_INPUT_SIZE:
                raise ConfigError(f'input_{name} is {value!r}: give at least {MIN_INPUT_SIZE} '
                                  f'pixels, at most {MAX_INPUT_SIZE}')


@dataclass(frozen=True)
class Checkpoint:
    """A network ready to use (eval mode, CPU, fp32) and its record."""

    network: AnyNetwork
    labels: LabelSet
    preprocessing: Preprocessing
    metadata: Metadata
    path: Path | None = None

    @property
    def name(self) -> str:
        """The file's name, for people; with its run's, where each run has one of that name."""
        if not self.path:
            return 'unsaved'
        run = self.metadata.training.get('run')
        is_one_of_many = self.path.stem in ('best', 'last')
        return f'{run}/{self.path.name}' if run and is_one_of_many else self.path.name

    def diverged(self, image: Path | None = None) -> CheckpointError:
        """Return the error over scores that are not finite: finite weights may lead to such."""
        seen = f'{image}: ' if image else ''
        return CheckpointError(f'{seen}the scores of {self.name} are not finite, as of a training '
                               'that diverged: choose another checkpoint')

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights alone: equal weights in any file have it in common."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            if not name.endswith('num_batches_tracked'):  # counts training steps, weighs nothing
                digest.update(f'{name} {tuple(value.shape)} {value.dtype}\n'.encode())
                digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()


def default_checkpoint() -> Path:
    """Return the checkpoint that comes with the package: CamVid, 11 classes, 480x360."""
    return Path(str(files('lednet_ros.model') / 'weights' / 'lednet-camvid.safetensors'))


def load_checkpoint(path: str | Path, labels: LabelSet | None = None) -> Checkpoint:
    """
    Read a checkpoint file, ours or the authors'.

    `labels` names the classes of an authors' file, which cannot say it; left out, 20 classes are
    taken for Cityscapes and 11 for CamVid. Raise CheckpointError naming file and first mismatch.
    """
    path = expanded(path)
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would keep us waiting
        raise CheckpointError(f'{path}: is no file: give the path of a checkpoint file')
    try:
        with path.open('rb') as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(
            f'{path}: cannot be read: {error.strerror}: give the path of a checkpoint '
            'file') from error
    if not start:
        raise CheckpointError(f'{path}: the file is empty: copy it again')
    if start[8:] == b'{' or path.suffix == '.safetensors':
        return _load_ours(path)
    return _load_authors(path, labels)


def save_checkpoint(
    path: str | Path,
    network: AnyNetwork,
    labels: LabelSet,
    preprocessing: Preprocessing | None = None,
    *,
    input_height: int,
    input_width: int,
    training: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    temperature: float = 1.0,
    score_floors: ScoreFloors | None = None,
) -> None:
    """Write our format. The file appears whole or not at all."""
    if len(labels) != network.num_classes:
        raise ConfigError(
            f'label set {labels.name!r} has {len(labels)} classes but the network '
            f'{network.num_classes}: choose the labels it was trained with')
    preprocessing = preprocessing or Preprocessing()
    Metadata(input_height, input_width, temperature=temperature)  # refuses what loading would
    record = {
        'format': FORMAT,
        'network': name_of(network),
        'labels': labels.to_dict(),
        'preprocessing': {'mean': list(preprocessing.mean), 'std': list(preprocessing.std)},
        'input_height': input_height,
        'input_width': input_width,
        'temperature': temperature,
        **({'score_floors': score_floors.to_dict()} if score_floors else {}),
        'training': dict(training or {}),
        'scores': dict(scores or {}),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    path = Path(path)
    try:
        with whole_file(path) as partial:
            # Not save_file(), whose files only their owner may read.
            partial.write_bytes(
                safetensors.torch.save(tensors, {'lednet_ros': json.dumps(record)}))
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f'{path}: cannot be written: {first_line(error)}: make room, or '
                              'choose another file') from error


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint with the metadata that it has. Raise CheckpointError."""
    metadata = checkpoint.metadata
    save_checkpoint(
        path, checkpoint.network, checkpoint.labels, checkpoint.preprocessing,
        input_height=metadata.input_height, input_width=metadata.input_width,
        training=metadata.training, scores=metadata.scores, temperature=metadata.temperature,
        score_floors=metadata.score_floors)


def _load_ours(path: Path) -> Checkpoint:
    try:
        # Not by safe_open: it takes no name that is not UTF-8, loses 36 kB each time (0.8.0), and
        # the file may change beneath it.
        data = path.read_bytes()
        weights = safetensors.torch.load(data)
        header = json.loads(data[8:8 + int.from_bytes(data[:8], 'little')])
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        # KeyError: a type of number that torch has not
        raise CheckpointError(
            f'{path}: damaged or not a safetensors file ({first_line(error)}): '
            'copy it again') from error
    record_text = header.get('__metadata__', {}).get('lednet_ros')
    if record_text is None:
        raise CheckpointError(
            f"{path}: a safetensors file without a 'lednet_ros' record: save it with "
            'lednet_ros.model.checkpoint.save_checkpoint')
    try:
        record = json.loads(record_text)
        if record.get('format') != FORMAT:
            raise CheckpointError(
                f'{path}: format {record.get("format")!r}, this version reads {FORMAT}: '
                'update lednet_ros')
        name = record.get('network', 'lednet')  # older files do not say
        find_entry(name)
        labels = LabelSet.from_dict(record['labels'], where='labels')
        preprocessing = Preprocessing(
            tuple(record['preprocessing']['mean']), tuple(record['preprocessing']['std']))
        metadata = Metadata(
            record['input_height'], record['input_width'],
            dict(record.get('training', {})), dict(record.get('scores', {})),
            record.get('temperature', 1.0),
            ScoreFloors.from_dict(record['score_floors'], len(labels))
            if 'score_floors' in record else None)
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError,
            RecursionError) as error:
        problem = f'lacks {error}' if isinstance(error, KeyError) else first_line(error)
        raise CheckpointError(
            f"{path}: its 'lednet_ros' record is not usable: {problem}: save it "
            'again') from error
    return Checkpoint(
        _network(path, weights, len(labels), name), labels, preprocessing, metadata, path)


def _load_authors(path: Path, labels: LabelSet | None) -> Checkpoint:
    weights, num_classes = read_authors_file(path)
    network = _network(path, weights, num_classes, 'lednet', rename_ours_key)
    set_name, height, width = _AUTHORS_DEFAULTS.get(num_classes, ('', 512, 1024))
    if labels is None:
        if not set_name:
            raise CheckpointError(
                f'{path}: has {num_classes} classes and does not say which: convert it once with '
                'load_checkpoint(path, labels=LabelSet.from_yaml(...)) and save_checkpoint')
        labels = builtin_label_set(set_name)
    if len(labels) != num_classes:
        raise CheckpointError(
            f'{path}: has {num_classes} classes but label set {labels.name!r} {len(labels)}: '
            'give the labels it was trained with')
    return Checkpoint(network, labels, Preprocessing(), Metadata(height, width), path)


def _network(
    path: Path, weights: Mapping[str, Tensor], num_classes: int, name: str, spell: Any = str
) -> AnyNetwork:
    """Build the network from weights in our names; `spell` turns names into the file's own."""
    network = make_network(name, num_classes)
    title = '0.94 M LEDNet' if name == 'lednet' else find_entry(name).title
    expected = network.state_dict()
    for key, value in expected.items():
        if key not in weights:
            if key.endswith('num_batches_tracked'):  # not written by PyTorch before 0.4.1
                continue
            raise CheckpointError(
                f'{path}: {spell(key)!r} is missing: this is not the {title} with '
                f'{num_classes} classes')
        if weights[key].shape != value.shape:
            raise CheckpointError(
                f'{path}: {spell(key)!r} has shape {tuple(weights[key].shape)}, expected '
                f'{tuple(value.shape)}: this is not the {title} with {num_classes} classes')
        if not value.is_floating_point():
            continue
        if weights[key].dtype not in _NUMBERS:
            raise CheckpointError(
                f'{path}: {spell(key)!r} holds {str(weights[key].dtype).removeprefix("torch.")}: '
                'give a checkpoint in float32, or of half precision')
        if not bool(torch.isfinite(weights[key].float()).all()):
            raise CheckpointError(
                f'{path}: {spell(key)!r} holds NaN or infinity: the training diverged or the '
                'file is damaged')
    for key in weights:
        if key not in expected:
            raise CheckpointError(
                f'{path}: {spell(key)!r} is not part of the {title}: give a checkpoint '
                'of that network')
    network.load_state_dict(dict(weights), strict=False)  # names were compared above
    return network.eval().requires_grad_(False)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
