# SPDX-License-Identifier: Apache-2.0
"""The network as it is trained: where its weights begin, what each stage trains and compares."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lednet_ros.common.errors import ConfigError
from lednet_ros.model.checkpoint import Checkpoint, Preprocessing
from lednet_ros.model.labels import LabelSet
from lednet_ros.model.lednet import LEDNet

CLASS_LAYERS = ('encoder.output_conv.', 'apn.global_branch.', 'apn.mid.')


def new_network(
    labels: LabelSet, init: Checkpoint | None, seed: int
) -> tuple[LEDNet, Preprocessing]:
    """Make the network to train: anew, or with a checkpoint's weights.

    Where the checkpoint tells other classes apart, its encoder and pyramid are kept and the
    layers that name classes are new.
    """
    torch.manual_seed(seed)
    network = LEDNet(len(labels))
    if init is None:
        return network, Preprocessing()
    weights = init.network.state_dict()
    if init.labels.names != labels.names:
        weights = {k: v for k, v in weights.items() if not k.startswith(CLASS_LAYERS)}
    network.load_state_dict(weights, strict=False)
    return network, init.preprocessing


def set_dropout(network: LEDNet, shallow: float, deep: float) -> None:
    """Set the rates of the units at 32 and 64, and at 128 channels."""
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
    'network' these are only trained `with_auxiliary`.
    """

    def __init__(
        self, network: LEDNet, preprocessing: Preprocessing, stage: str, with_auxiliary: bool
    ) -> None:
        super().__init__()
        self.network = network
        self._decodes = stage == 'network'
        self._names_early = stage == 'encoder' or with_auxiliary
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(
                self._decodes if name.startswith('apn.') else
                self._names_early or not name.startswith('encoder.output_conv.'))
        self.mean: Tensor
        self.std: Tensor
        for name in ('mean', 'std'):
            value = torch.tensor(getattr(preprocessing, name)).view(1, 3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Frames uint8 (N, H, W, 3) RGB to the decoder's and the encoder's (N, C, h, w) scores."""
        x = self.network.encoder(self._prepare(frames))
        return (self.network.apn(x) if self._decodes else None,
                self.network.encoder.output_conv(x) if self._names_early else None)

    def scores(self, network: LEDNet, frames: Tensor) -> Tensor:
        """What counts in this stage, (N, C, h, w), by these or averaged weights."""
        x = network.encoder(self._prepare(frames))
        scores: Tensor = network.apn(x) if self._decodes else network.encoder.output_conv(x)
        return scores

    def _prepare(self, frames: Tensor) -> Tensor:
        return (frames.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
