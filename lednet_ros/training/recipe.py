# SPDX-License-Identifier: Apache-2.0
"""A recipe: every knob of a training in one YAML file. Checked when made."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from lednet_ros.common.errors import ConfigError
from lednet_ros.common.paths import expanded
from lednet_ros.common.yaml_file import load_yaml
from lednet_ros.model.checkpoint import Metadata
from lednet_ros.model.networks import find_entry

OPTIMIZERS = ('adam', 'adamw')
PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16')
CLASS_WEIGHTS = ('none', 'enet', 'enet_sqrt')

_BASE = 'camvid'  # of a recipe of one's own


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Lengths in pixels; a batch is that of all processes together."""

    input_height: int                # at which it is scored and shipped
    input_width: int
    epochs: int                      # of the whole network
    network: str = 'lednet'          # one of the registry in model/networks
    encoder_epochs: int = 0          # before, of the encoder alone on labels at 1/8 (the paper's
    #                                  code); 0: none
    batch: int = 8
    # every image is brought to this height first; 0: as the network will see it, whole and in its
    # shape inside the input
    resize_height: int = 0
    # [from this share of the epochs, height, width] of random crops; []: the resized image
    crops: tuple[tuple[float, int, int], ...] = ()
    scale: tuple[float, float] = (1.0, 1.0)  # random, before the crop
    flip: bool = True                # half of the images, left to right
    shift: int = 0                   # at random up to so many pixels either way
    rotation: float = 0.0            # up to so many degrees either way
    perspective: float = 0.0         # how far each corner moves, as a share of the view's side:
    #                                  other heights, tilts and lenses
    color: float = 0.0               # how far brightness, contrast, saturation and gamma go
    white_balance: float = 0.0       # each channel is multiplied by e^N(0, this)
    hue: float = 0.0                 # turned by up to so many degrees either way
    grey: float = 0.0                # the share of images that lose their colour
    shading: float = 0.0             # smooth shadows and glare, up to e^(this) either way
    blur: float = 0.0                # up to so many pixels, out of focus or moved
    noise: float = 0.0               # its standard deviation goes up to so many of 255
    jpeg: int = 0                    # lowest quality that half of the images pass through; 0: none
    copy_paste: float = 0.0          # the share of views onto which small objects of another are
    #                                  pasted, at the place where they were (Ghiasi et al., 2021)
    optimizer: str = 'adamw'
    learning_rate: float = 1e-3      # falls to 0 by (1 - done / all) ** poly_power (train.py)
    poly_power: float = 0.9
    warm_up: float = 0.0             # epochs in which it rises from 0
    weight_decay: float = 1e-4
    # 'enet': 1 / ln(1.02 + frequency) (Paszke et al., 2016); 'enet_sqrt': its root, nearer to what
    # mean IoU rewards, which counts a false pixel as much as a missed one
    class_weights: str = 'none'
    # that 1.02: of the encoder's stage and the network's (the paper's code has 1.20 and 1.10)
    enet_c: tuple[float, float] = (1.02, 1.02)
    auxiliary_loss: float = 0.0      # weight of the encoder's own classes beside the decoder's
    iou_loss: float = 0.0            # weight of 1 - soft mean IoU beside cross entropy
    ohem: float = 1.0                # the share of pixels, the hardest, that the loss looks at
    # of LEDNet, at 32 and 64, at 128 channels (the paper's code); the others keep their own
    dropout: tuple[float, float] = (0.03, 0.3)
    ema: float = 0.0                 # decay by step of the averaged weights kept; 0: the last ones
    coarse: bool = False             # Cityscapes: gtCoarse of train_extra beside gtFine of train
    precision: str = 'auto'          # mixed where the device has bf16, or fp16 on older GPUs
    seed: int = 1
    workers: int = -1                # processes that read images; -1: by the computer's cores

    def __post_init__(self) -> None:
        Metadata(self.input_height, self.input_width)
        find_entry(self.network)
        checks = (
            ('epochs', self.epochs >= 1, 'give 1 or more'),
            ('encoder_epochs', self.encoder_epochs >= 0, 'give 0 or more'),
            ('batch', self.batch >= 1, 'give 1 or more'),
            ('resize_height', self.resize_height == 0 or self.resize_height >= 32,
             'give 0, or at least 32'),
            ('crops', _are_crops(self.crops),
             'give [from share, height, width] each, the first from 0, rising, sizes from 32'),
            ('scale', 0 < self.scale[0] <= self.scale[1], 'give [from, to] above 0'),
            ('shift', self.shift >= 0, 'give 0 or more'),
            ('rotation', 0 <= self.rotation <= 45, 'give 0 to 45 degrees'),
            ('perspective', 0 <= self.perspective <= 0.25, 'give 0 to 0.25'),
            ('color', 0 <= self.color < 1, 'give 0 to below 1'),
            ('white_balance', 0 <= self.white_balance <= 1, 'give 0 to 1'),
            ('hue', 0 <= self.hue <= 180, 'give 0 to 180 degrees'),
            ('grey', 0 <= self.grey <= 1, 'give 0 to 1'),
            ('shading', 0 <= self.shading <= 2, 'give 0 to 2'),
            ('blur', 0 <= self.blur <= 10, 'give 0 to 10 pixels'),
            ('noise', 0 <= self.noise <= 100, 'give 0 to 100'),
            ('jpeg', 0 <= self.jpeg <= 100, 'give 0 to 100'),
            ('copy_paste', 0 <= self.copy_paste <= 1, 'give 0 to 1'),
            ('optimizer', self.optimizer in OPTIMIZERS, f'choose {", ".join(OPTIMIZERS)}'),
            ('learning_rate', self.learning_rate > 0, 'give more than 0'),
            ('poly_power', self.poly_power >= 0, 'give 0 or more'),
            ('warm_up', self.warm_up >= 0, 'give 0 or more'),
            ('weight_decay', self.weight_decay >= 0, 'give 0 or more'),
            ('class_weights', self.class_weights in CLASS_WEIGHTS,
             f'choose {", ".join(CLASS_WEIGHTS)}'),
            ('enet_c', min(self.enet_c) > 1, 'give two numbers above 1'),
            ('auxiliary_loss', self.auxiliary_loss >= 0, 'give 0 or more'),
            ('iou_loss', self.iou_loss >= 0, 'give 0 or more'),
            ('ohem', 0 < self.ohem <= 1, 'give above 0 to 1'),
            ('dropout', all(0 <= p < 1 for p in self.dropout), 'give two numbers, 0 to below 1'),
            ('ema', 0 <= self.ema < 1, 'give 0 to below 1'),
            ('seed', 0 <= self.seed < 2 ** 32, 'give 0 to 4294967295'),
            ('precision', self.precision in PRECISIONS, f'choose {", ".join(PRECISIONS)}'),
        )
        for name, good, remedy in (*checks, *(
                (name, math.isfinite(value), 'give a finite number')
                for name, values in asdict(self).items()
                for value in (values if isinstance(values, tuple) else (values,))
                if isinstance(value, float))):
            if not good:
                raise ConfigError(f'{name} is {getattr(self, name)!r}: {remedy}')

    def crop_at(self, done: float) -> tuple[int, int] | None:
        """Return the crop's (height, width) at this share of the epochs; None: no crop."""
        size = None
        for from_share, height, width in self.crops:
            if from_share <= done:
                size = (height, width)
        return size

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads, in plain lists and numbers."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, knobs: Mapping[str, Any]) -> Recipe:
        """Read knobs by name. Raise ConfigError naming the first that is unknown or unfit."""
        known = typing.get_type_hints(cls)
        for key in knobs:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1, 0.0)
                raise ConfigError(f'{key!r} is no knob: did you mean {near[0]!r}?')
        for field in fields(cls):
            if field.name not in knobs and field.name in ('input_height', 'input_width', 'epochs'):
                raise ConfigError(f'{field.name} is missing: give it')
        return cls(**{key: _as(known[key], value, key) for key, value in knobs.items()})


def load_recipe(
    name: str, overrides: Sequence[str] = (), size: tuple[int, int] | None = None
) -> Recipe:
    """
    Read a recipe: one that comes with the package by its name, or a YAML file.

    Knobs that a file does not name are those of the recipe that its `base` names, 'camvid' where
    it names none; 'none' leaves them at their defaults. `size`, (height, width), is that of the
    input, and scales the crops with it. `overrides` are 'knob=value', values as in YAML. Raises
    ConfigError naming recipe and knob.
    """
    knobs = _knobs(name)
    if size:
        knobs = _scaled(knobs, *size)
    for override in overrides:
        knob, equals, value = override.partition('=')
        if not equals:
            raise ConfigError(f'--set {override}: give KNOB=VALUE')
        try:
            knobs[knob] = load_yaml(value)
        except yaml.YAMLError as error:
            raise ConfigError(f'--set {override}: {value!r} is not a YAML value') from error
    try:
        return Recipe.from_dict(knobs)
    except ConfigError as error:
        raise ConfigError(f'recipe {name}: {error}') from error


def _knobs(name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read the knobs of a recipe and of those that it is based on."""
    if name in seen:
        raise ConfigError(f'recipe {name}: is based on itself: give another base')
    shipped = files('lednet_ros.training') / 'recipes'
    names = sorted(Path(str(p)).stem for p in shipped.iterdir() if str(p).endswith('.yaml'))
    try:
        file = shipped / f'{name}.yaml' if name in names else Path(name)
        knobs = load_yaml(file.read_text(encoding='utf-8'))
    except OSError as error:
        raise ConfigError(f'recipe {name}: cannot be read: {error.strerror}: give a YAML file or '
                          f'one of {", ".join(names)}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'recipe {name}: is not YAML: {str(error).splitlines()[0]}') from error
    if not isinstance(knobs, Mapping):
        raise ConfigError(f'recipe {name}: is not a mapping: give "knob: value" lines')
    knobs = dict(knobs)
    base = knobs.pop('base', 'none' if name in names else _BASE)
    if base == 'none':
        return knobs
    if not isinstance(base, str):
        raise ConfigError(f'recipe {name}: base is {base!r}: give one of {", ".join(names)}, '
                          'a YAML file, or none')
    if base not in names:  # a file, named from this one's folder
        base = str(Path(name).parent / expanded(base))
    below = _knobs(base, (*seen, name))
    height, width = (knobs.get(side, below.get(side)) for side in ('input_height', 'input_width'))
    if type(height) is int and type(width) is int and min(height, width) > 0:
        below = _scaled(below, height, width)
    return {**below, **knobs}


def _scaled(knobs: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """Return knobs for another input size: crops are the same shares of it."""
    old = knobs.get('input_height'), knobs.get('input_width')
    crops = knobs.get('crops') or []
    if old != (height, width) and None not in old:
        crops = [[share, _multiple_of_8(crop_height * height / old[0]),
                  _multiple_of_8(crop_width * width / old[1])]
                 for share, crop_height, crop_width in crops]
    return {**knobs, 'input_height': height, 'input_width': width, 'crops': crops}


def _multiple_of_8(length: float) -> int:
    return max(32, 8 * round(length / 8))


def _are_crops(crops: Sequence[tuple[float, int, int]]) -> bool:
    shares = [crop[0] for crop in crops]
    return not crops or (
        shares[0] == 0 and shares == sorted(shares) and shares[-1] < 1
        and all(height >= 32 and width >= 32 for _, height, width in crops))


def _as(wanted: Any, value: Any, knob: str) -> Any:
    """Return a YAML value as the type a knob has. Raise ConfigError."""
    if wanted is float and isinstance(value, str):
        try:
            return float(value)  # YAML takes 1e-3 for a text
        except ValueError:
            pass
    if wanted is float and type(value) is int:
        return float(value)
    if typing.get_origin(wanted) is tuple and isinstance(value, (list, tuple)):
        inner = typing.get_args(wanted)
        if inner[-1:] == (Ellipsis,):
            return tuple(_as(inner[0], item, knob) for item in value)
        if len(inner) == len(value):
            return tuple(_as(t, item, knob) for t, item in zip(inner, value, strict=True))
    elif type(value) is wanted:
        return value
    name = wanted if isinstance(wanted, types.GenericAlias) else wanted.__name__
    raise ConfigError(f'{knob} is {value!r}: give a value of type {name}')


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
