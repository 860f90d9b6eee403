# SPDX-License-Identifier: Apache-2.0
"""The network as it is trained: where its weights begin, what each stage trains and compares."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lednet_ros.common.errors import ConfigError
from lednet_ros.model.checkpoint import Checkpoint, Preprocessing
from lednet_ros.model.labels import LabelSet
from lednet_ros.model.lednet import LEDNet
from lednet_ros.model.networks import (
    AnyNetwork,
    entry_of,
    find_entry,
    make_network,
    name_of,
)
from lednet_ros.training.recipe import Recipe


def refuse_unfit(recipe: Recipe, init: Checkpoint | None) -> None:
    """Raise ConfigError for a recipe that its network cannot follow."""
    title = find_entry(recipe.network).title
    if init is not None and name_of(init.network) != recipe.network:
        raise ConfigError(
            f'{init.name} holds {entry_of(init.network).title} but the recipe trains {title}: '
            f'give another file, or network={name_of(init.network)}')
    if 'lednet' in recipe.network:
        return
    for knob in ('encoder_epochs', 'auxiliary_loss'):
        if getattr(recipe, knob):
            raise ConfigError(
                f'{knob} is {getattr(recipe, knob)}, but the encoder of {title} tells no classes '
                f'apart by itself as that of LEDNet does: give {knob}=0')


def new_network(
    labels: LabelSet, init: Checkpoint | None, seed: int, name: str = 'lednet'
) -> tuple[AnyNetwork, Preprocessing]:
    """Make the network to train: anew, or with a checkpoint's weights.

    Where the checkpoint tells other classes apart, the layers that name classes are new and all
    others are kept.
    """
    torch.manual_seed(seed)
    network = make_network(name, len(labels))
    if init is None:
        return network, Preprocessing()
    weights = init.network.state_dict()
    if init.labels.names != labels.names:
        new = class_layers(name, len(labels))
        weights = {k: v for k, v in weights.items() if k.rpartition('.')[0] not in new}
    network.load_state_dict(weights, strict=False)
    return network, init.preprocessing


def class_layers(name: str, classes: int) -> set[str]:
    """Return the layers of a network whose shape depends on how many classes there are."""
    with torch.device('meta'):
        some, more = (make_network(name, n).state_dict() for n in (classes, 2 * classes + 5))
    return {key.rpartition('.')[0] for key in some if some[key].shape != more[key].shape}


def set_dropout(network: AnyNetwork, shallow: float, deep: float) -> None:
    """Set LEDNet's rates of the units at 32 and 64, and at 128 channels."""
    if not isinstance(network, LEDNet):
        return
    for name, module in network.named_modules():
        if isinstance(module, nn.Dropout2d):
            module.p = deep if '.units3.' in name else shallow


def choose_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Give the half precision that convolutions run in; None: float32 throughout."""
    if precision == 'auto':
        if device.type == 'cuda':
            precision = 'bf16' if torch.cuda.is_bf16_supported(False) else 'fp16'
        else:  # without the instructions bf16 is emulated, slower than fp32
            has = getattr(torch.cpu, '_is_avx512_bf16_supported', lambda: False)
            precision = 'bf16' if has() else 'fp32'
    if precision == 'fp16' and device.type != 'cuda':
        raise ConfigError('precision is fp16 but the device is the CPU: choose auto, bf16 or fp32')
    return {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}[precision]


class TrainedNetwork(nn.Module):
    """The network with its preprocessing, giving what the losses of a stage compare.

    In stage 'encoder' the decoder rests and the encoder's own classes are trained; in stage
    'network' these are only trained `with_auxiliary`. Only LEDNet has such an encoder.
    """

    def __init__(
        self, network: AnyNetwork, preprocessing: Preprocessing, stage: str, with_auxiliary: bool
    ) -> None:
        super().__init__()
        self.network = network
        self._decodes = stage == 'network'
        self._names_early = stage == 'encoder' or with_auxiliary
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(
                self._names_early if name.startswith('encoder.output_conv.') else
                self._decodes or not name.startswith('apn.'))
        self.mean: Tensor
        self.std: Tensor
        for name in ('mean', 'std'):
            value = torch.tensor(getattr(preprocessing, name)).view(1, 3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Frames uint8 (N, H, W, 3) RGB to the decoder's and the encoder's (N, C, h, w) scores."""
        if not isinstance(self.network, LEDNet):
            return self.network.scores(self._prepare(frames)), None
        x = self.network.encoder(self._prepare(frames))
        return (self.network.apn(x) if self._decodes else None,
                self.network.encoder.output_conv(x) if self._names_early else None)

    def scores(self, network: AnyNetwork, frames: Tensor) -> Tensor:
        """What counts in this stage, (N, C, h, w), by these or averaged weights."""
        x = self._prepare(frames)
        if self._decodes or not isinstance(network, LEDNet):
            return network.scores(x)
        scores: Tensor = network.encoder.output_conv(network.encoder(x))
        return scores

    def _prepare(self, frames: Tensor) -> Tensor:
        return (frames.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
