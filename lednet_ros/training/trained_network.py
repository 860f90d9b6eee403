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
    """
    Make the network to train: anew, or with a checkpoint's weights.

    Of the layers that name classes those classes are kept that the checkpoint has by the same
    name, upper and lower case aside; the others begin anew.
    """
    torch.manual_seed(seed)
    network = make_network(name, len(labels))
    if init is None:
        return network, Preprocessing()
    theirs, ours = init.network.state_dict(), network.state_dict()
    if [n.casefold() for n in init.labels.names] == [n.casefold() for n in labels.names]:
        network.load_state_dict(theirs)
        return network, init.preprocessing
    kept, axes = kept_classes(labels, init), class_axes(name, len(labels))
    for key, value in ours.items():
        if key not in axes:
            value.copy_(theirs[key])
        elif kept and axes[key] is not None:
            to, from_ = (torch.tensor(ids) for ids in (list(kept), list(kept.values())))
            value.index_copy_(axes[key], to, theirs[key].index_select(axes[key], from_))
    network.load_state_dict(ours)
    return network, init.preprocessing


def class_axes(name: str, classes: int) -> dict[str, int | None]:
    """
    Return the tensors of a network that name classes, each with its axis of classes.

    None where there is no one axis, as where each class meets each.
    """
    more = 2 * classes + 5
    with torch.device('meta'):
        some, others = (make_network(name, n).state_dict() for n in (classes, more))
    layers = {key.rpartition('.')[0] for key in some if some[key].shape != others[key].shape}
    axes: dict[str, int | None] = {}
    for key, value in some.items():
        if key.rpartition('.')[0] in layers and value.ndim:
            found = [axis for axis, (a, b) in enumerate(
                zip(value.shape, others[key].shape, strict=True)) if a != b]
            is_plain = len(found) == 1 and others[key].shape[found[0]] == more
            axes[key] = found[0] if is_plain else None
    return axes


def kept_classes(labels: LabelSet, init: Checkpoint) -> dict[int, int]:
    """Return the ids of classes that a checkpoint has too, each with its id there."""
    ids = {name.casefold(): id_ for id_, name in enumerate(init.labels.names)}
    return {id_: ids[name.casefold()] for id_, name in enumerate(labels.names)
            if name.casefold() in ids}


def what_is_kept(labels: LabelSet, init: Checkpoint) -> str:
    """Say in a line what a training keeps of the checkpoint that it begins with."""
    kept = kept_classes(labels, init)
    new = [name for id_, name in enumerate(labels.names) if id_ not in kept]
    if not new:
        return (f'--init: all of {init.name} is kept, with its layers for these '
                f'{len(labels)} classes')
    names = ', '.join(labels.names[id_] for id_ in kept)
    return (f'--init: all of {init.name} is kept but its class layers'
            + (f', and of these what is for {names}' if names else '')
            + f'; what is for {", ".join(new)} is new, as {init.labels.name} has no '
            f'class of {"these names" if len(new) > 1 else "this name"}')


def set_dropout(network: AnyNetwork, shallow: float, deep: float) -> None:
    """Set LEDNet's rates of the units at 32 and 64, and at 128 channels."""
    if not isinstance(network, LEDNet):
        return
    for name, module in network.named_modules():
        if isinstance(module, nn.Dropout2d):
            module.p = deep if '.units3.' in name else shallow


def choose_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the half precision that convolutions run in; None: float32 throughout."""
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
    """
    The network with its preprocessing, giving what the losses of a stage compare.

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
        """Return what counts in this stage, (N, C, h, w), by these or averaged weights."""
        x = self._prepare(frames)
        if self._decodes or not isinstance(network, LEDNet):
            return network.scores(x)
        scores: Tensor = network.encoder.output_conv(network.encoder(x))
        return scores

    def _prepare(self, frames: Tensor) -> Tensor:
        return (frames.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
