# SPDX-License-Identifier: Apache-2.0
"""
The LEDNet authors' checkpoint files (.pth, .pth.tar): read, renamed, and told from others.

Nothing is unpickled beyond tensors and plain containers. The names are those of train/lednet.py in
xiaoyufenfei/LEDNet.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lednet_ros.common.errors import CheckpointError, first_line

# The authors' names for the parts of a branch, in ours.
_BRANCH_PARTS = {
    'conv3x1_1_l': 'left.conv1', 'conv1x3_1_l': 'left.conv2', 'bn1_l': 'left.bn1',
    'conv3x1_2_l': 'left.conv3', 'conv1x3_2_l': 'left.conv4', 'bn2_l': 'left.bn2',
    'conv1x3_1_r': 'right.conv1', 'conv3x1_1_r': 'right.conv2', 'bn1_r': 'right.bn1',
    'conv1x3_2_r': 'right.conv3', 'conv3x1_2_r': 'right.conv4', 'bn2_r': 'right.bn2',
}
_APN_PARTS = {
    'branch1.1': 'global_branch', 'mid.0': 'mid', 'down1': 'down1', 'down2': 'down2',
    'down3.0': 'down3', 'down3.1': 'conv3', 'conv1': 'conv1', 'conv2': 'conv2',
}
_LAYERS = ['units1.0', 'units1.1', 'units1.2', 'down2', 'units2.0', 'units2.1', 'down3',
           *(f'units3.{i}' for i in range(8))]


def read_authors_file(path: Path) -> tuple[dict[str, Tensor], int]:
    """
    Return the weights, under our names, and the number of classes.

    Raise CheckpointError for what is damaged, holds more than tensors, or is another network.
    """
    try:
        with warnings.catch_warnings():  # of forms that are refused
            warnings.simplefilter('ignore')
            content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged file makes torch.load raise nearly anything
        foreign = re.search(r'GLOBAL (\S+)', str(error))  # the rest of torch's text advises trust
        if foreign:
            raise CheckpointError(
                f'{path}: holds {foreign[1]}, not only tensors, and is not unpickled: save just '
                'its state_dict') from error
        sentence = first_line(error).partition('. ')[0]  # the rest is advice about trust
        raise CheckpointError(
            f'{path}: no checkpoint, or damaged ({type(error).__name__}: {sentence}): give a '
            '.safetensors file of lednet_train, or copy it again') from error
    if isinstance(content, Mapping) and isinstance(content.get('state_dict'), Mapping):
        content = content['state_dict']
    if not isinstance(content, Mapping) or not content or not all(
            isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        raise CheckpointError(f'{path}: holds no state_dict: save network.state_dict()')
    theirs = {name.removeprefix('module.'): value for name, value in content.items()}
    _refuse_variants(path, theirs)
    scores = theirs.get('decoder.apn.mid.0.conv.0.weight')
    if scores is None or scores.ndim != 4:
        raise CheckpointError(
            f"{path}: not the authors' LEDNet: 'decoder.apn.mid.0.conv.0.weight' is missing: "
            'give a LEDNet checkpoint')
    num_classes = scores.shape[0]
    weights = {rename_authors_key(name): value for name, value in theirs.items()}
    # Trained from an ImageNet encoder, the authors' network has no auxiliary layer; it only
    # matters in training.
    weights.setdefault('encoder.output_conv.weight', torch.zeros(num_classes, 128, 1, 1))
    weights.setdefault('encoder.output_conv.bias', torch.zeros(num_classes))
    return weights, num_classes


def rename_authors_key(name: str) -> str:
    """Return a state-dict key of the authors' network in our names; an unknown key as it is."""
    if match := re.fullmatch(r'decoder\.apn\.(.+)\.conv\.([01])\.(\w+)', name):
        part, index, tensor = match.groups()
        if part in _APN_PARTS:
            return f'apn.{_APN_PARTS[part]}.{("conv", "bn")[int(index)]}.{tensor}'
    if match := re.fullmatch(r'encoder\.initial_block\.(.+)', name):
        return f'encoder.down1.{match[1]}'
    if match := re.fullmatch(r'encoder\.layers\.(\d+)\.(\w+)\.(\w+)', name):
        layer, part, tensor = int(match[1]), match[2], match[3]
        if layer < len(_LAYERS):
            return f'encoder.{_LAYERS[layer]}.{_BRANCH_PARTS.get(part, part)}.{tensor}'
    return name


def rename_ours_key(name: str) -> str:
    """Undo `rename_authors_key`, for messages about the authors' files."""
    return _OURS_TO_AUTHORS.get(name, name)


def _authors_keys() -> list[str]:
    parts = [f'encoder.layers.{i}.{part}' for i, layer in enumerate(_LAYERS)
             for part in (_BRANCH_PARTS if layer.startswith('units') else ('conv', 'bn'))]
    parts += ['encoder.initial_block.conv', 'encoder.initial_block.bn']
    parts += [f'decoder.apn.{part}.conv.{i}' for part in _APN_PARTS for i in (0, 1)]
    tensors = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
    return [f'{part}.{tensor}' for part in parts for tensor in tensors]


_OURS_TO_AUTHORS = {rename_authors_key(key): key for key in _authors_keys()}


def _refuse_variants(path: Path, theirs: Mapping[str, Tensor]) -> None:
    """Name the other networks that go by LEDNet, by what only their files hold."""
    pyramid = theirs.get('decoder.apn.down1.conv.0.weight')
    if 'apn.mid_branch.0.weight' in theirs or 'encoder.1.left_branch.0.weight' in theirs:
        variant = ('the 1.46 M variant of realtime-semantic-segmentation-pytorch, whose layers '
                   'differ')
    elif 'features.encoder.initial_block.conv.weight' in theirs:
        variant = "the authors' ImageNet classifier, an encoder without a decoder"
    elif pyramid is not None and pyramid.ndim == 4 and pyramid.shape[0] != 1:
        variant = (f"the 2.29 M variant (train/lednet_1.py): 'decoder.apn.down1.conv.0.weight' "
                   f'has {pyramid.shape[0]} channels, not 1')
    else:
        if 'apn.mid.conv.weight' in theirs:
            raise CheckpointError(f"{path}: a state_dict in this package's names: save it with "
                                  'lednet_ros.model.checkpoint.save_checkpoint')
        steps = {part: max((int(v) for k, v in theirs.items() if k.startswith(part)
                            and k.endswith('num_batches_tracked') and v.numel() == 1), default=0)
                 for part in ('encoder.', 'decoder.')}
        has_decoder = any(name.startswith('decoder.') for name in theirs)
        if not (has_decoder and steps['encoder.'] > steps['decoder.'] == 0):
            return
        variant = "of the authors' first training stage: its decoder was never trained"
    raise CheckpointError(f'{path}: {variant}: give a trained checkpoint of the 0.94 M LEDNet')
