# SPDX-License-Identifier: Apache-2.0
"""
The ScoreGraph written out in ONNX, in the forms that ONNX Runtime runs fastest on a CPU.

Its convolutions work on channels in blocks of 8 or 16 and take a following addition and ReLU
along; splits, concatenations and shuffles make it unpack and repack every tensor instead. So here
is nothing else: the features are several tensors, none larger than a half, and which channels of
the plain network each holds is kept on paper (`Features`). A unit's split is a choice of tensors,
its residual an addition fused into the last convolution, its shuffle a renumbering. Where the
halves of the next unit cut through a tensor, a 1x1 convolution of zeros and ones deals the
channels out anew. Batch normalisation and the pixels' scale are folded into the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lednet_ros.model.checkpoint import Checkpoint
from lednet_ros.model.lednet import BN_EPS

# For how many units each layout of the features lasts, by stage. Lasting long means many small
# tensors; below 16 channels (stage 1) or 32 (stages 2 and 3) a convolution loses more than the
# dealing-out costs. Chosen by measuring the alternatives (docs/decisions.md).
_UNITS_PER_LAYOUT = {'units1': (1, 1, 1), 'units2': (1, 1), 'units3': (2, 2, 2, 2)}
_DILATIONS = {'units1': (1, 1, 1), 'units2': (1, 1), 'units3': (1, 2, 5, 9, 2, 5, 9, 17)}


class Features(NamedTuple):
    """One tensor of a feature map and, for each of its channels, the plain network's."""

    tensor: str
    channels: list[int]


def build_onnx_model(checkpoint: Checkpoint, height: int, width: int) -> bytes:
    """Return a serialized model of 'frames', uint8 (N, H, W, 3) RGB, to float32 'scores'."""
    weights = {name: value.double().numpy()
               for name, value in checkpoint.network.state_dict().items()}
    return _Writer(weights).model(checkpoint, height, width).SerializeToString()


def _layout(channels: int, units: int) -> list[list[int]]:
    """Group channels so that for so many units each half is made of whole groups."""
    groups: dict[tuple[bool, ...], list[int]] = {}
    for channel in range(channels):
        position, sides = channel, []
        for _ in range(units):
            sides.append(position >= channels // 2)
            position = _shuffled(position, channels)
        groups.setdefault(tuple(sides), []).append(channel)
    return [groups[sides] for sides in sorted(groups)]


def _shuffled(position: int, channels: int) -> int:
    """Where lednet.channel_shuffle moves a channel to."""
    half = channels // 2
    return 2 * position if position < half else 2 * (position - half) + 1


class _Writer:
    """Collects the nodes of one model. Each method adds some and gives their output's name."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self._weights = weights  # float64, as is all folding
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def model(self, checkpoint: Checkpoint, height: int, width: int) -> Any:
        sizes = [(height, width)]
        for _ in range(6):  # each stage halves, rounding up
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))

        pixels = self._op('Cast', ['frames'], to=TensorProto.FLOAT)
        mean, std = (np.array(v) for v in (checkpoint.preprocessing.mean,
                                           checkpoint.preprocessing.std))
        if mean.any():  # not folded: the padding, which comes after it, stays 0
            pixels = self._op('Sub', [pixels, self._constant((255 * mean).astype(np.float32))])
        pixels = self._op('Transpose', [pixels], perm=[0, 3, 1, 2])

        x = [Features(pixels, [0, 1, 2])]
        for name, stage, channels, scale in (
                ('down1', 'units1', 32, 1 / (255 * std)),
                ('down2', 'units2', 64, None), ('down3', 'units3', 128, None)):
            x = self._downsampling(x, f'encoder.{name}', channels, scale,
                                   _layout(channels, _UNITS_PER_LAYOUT[stage][0]))
            x = self._stage(x, stage, channels)
        scores = self._apn(x, sizes[3:])

        classes = checkpoint.network.num_classes
        self._nodes.append(helper.make_node('Identity', [scores], ['scores']))
        graph = helper.make_graph(
            self._nodes, 'lednet',
            [helper.make_tensor_value_info('frames', TensorProto.UINT8, ['N', height, width, 3])],
            [helper.make_tensor_value_info(
                'scores', TensorProto.FLOAT, ['N', classes, *sizes[3]])],
            self._constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=8,
            producer_name='lednet_ros')
        onnx.checker.check_model(model, full_check=True)
        return model

    # The parts of lednet.py, in its order.

    def _downsampling(
        self, x: list[Features], name: str, channels: int, scale: np.ndarray | None,
        layout: list[list[int]],
    ) -> list[Features]:
        gain, shift = self._bn(f'{name}.bn')
        inputs = sum(len(part.channels) for part in x)
        kernel = self._weights[f'{name}.conv.weight']
        convolved = len(kernel)  # channels; the rest is pooled
        kernel = kernel * gain[:convolved, None, None, None]
        bias = self._weights[f'{name}.conv.bias'] * gain[:convolved] + shift[:convolved]
        pooling = np.diag(gain[convolved:])[:, :, None, None]  # a scale is a 1x1 convolution
        if scale is not None:
            kernel, pooling = (w * scale[:, None, None] for w in (kernel, pooling))
        # Both in terms of all output channels, for those tensors that hold some of either.
        kernel = np.concatenate([kernel, np.zeros((inputs, *kernel.shape[1:]))])
        pooling = np.concatenate([np.zeros((convolved, *pooling.shape[1:])), pooling])
        bias = np.concatenate([bias, shift[convolved:]])
        pooled = [Features(self._op('MaxPool', [tensor], kernel_shape=[2, 2], strides=[2, 2],
                                    ceil_mode=1), which) for tensor, which in x]
        out = []
        for group in layout:
            y = None
            if group[0] < convolved:
                y = self._conv(x, kernel[group], bias[group], stride=2, pad=(1, 1))
            if group[-1] >= convolved:
                y = self._conv(pooled, pooling[group], None if y else bias[group], add=y)
            assert y
            out.append(Features(self._op('Relu', [y]), group))
        return out

    def _stage(self, x: list[Features], stage: str, channels: int) -> list[Features]:
        unit = 0
        for units in _UNITS_PER_LAYOUT[stage]:
            if unit:
                deal = np.eye(channels)[:, :, None, None]
                x = [Features(self._conv(x, deal[group]), group)
                     for group in _layout(channels, units)]
            for _ in range(units):
                x = self._unit(x, f'encoder.{stage}.{unit}', channels, _DILATIONS[stage][unit])
                unit += 1
        return x

    def _unit(
        self, x: list[Features], name: str, channels: int, dilation: int
    ) -> list[Features]:
        half = channels // 2
        out = []
        for side, first, is_vertical in (('left', 0, True), ('right', half, False)):
            mine = [Features(tensor, [c - first for c in which]) for tensor, which in x
                    if first <= which[0] < first + half]
            y = mine
            for conv, bn, r in (
                    ('conv1', None, 1), ('conv2', 'bn1', 1), ('conv3', None, dilation)):
                kernel, bias = self._folded(f'{name}.{side}', conv, bn)
                y = [self._whole(self._op('Relu', [self._conv(
                    y, kernel, bias, pad=(r, 0) if is_vertical else (0, r), dilation=r)]), half)]
                is_vertical = not is_vertical
            kernel, bias = self._folded(f'{name}.{side}', 'conv4', 'bn2')
            pad = (dilation, 0) if is_vertical else (0, dilation)
            for tensor, which in mine:
                z = self._conv(y, kernel[which], bias[which], pad=pad, dilation=dilation,
                               add=tensor)
                out.append(Features(self._op('Relu', [z]),
                                    [_shuffled(c + first, channels) for c in which]))
        return out

    def _apn(self, x: list[Features], sizes: Sequence[tuple[int, int]]) -> str:
        x = [Features(self._op('Concat', [tensor for tensor, _ in x], axis=1),
                      [c for _, which in x for c in which])]
        # 128 channels to one by 7x7 would leave 7 of 8 lanes empty: first each of the kernel's 7
        # rows to a channel of its own, then the sum of the 7, each from its row.
        kernel, bias = self._folded('apn.down1', 'conv', 'bn')
        rows = self._conv(x, kernel[0].transpose(1, 0, 2)[:, :, None], None, pad=(0, 3),
                          stride=(1, 2))
        one_hot = np.eye(7)[None, :, :, None]
        pyramid1 = [self._whole(self._op('Relu', [self._conv(
            [self._whole(rows, 7)], one_hot, bias, pad=(3, 0), stride=(2, 1))]), 1)]
        pyramid2 = [self._whole(self._conv_bn_relu(pyramid1, 'apn.down2', 2), 1)]
        pyramid3 = [self._whole(self._conv_bn_relu(pyramid2, 'apn.down3', 2), 1)]
        attention = self._op('Add', [
            self._resize(self._conv_bn_relu(pyramid3, 'apn.conv3'), sizes[2]),
            self._conv_bn_relu(pyramid2, 'apn.conv2')])
        attention = self._op('Add', [
            self._resize(attention, sizes[1]), self._conv_bn_relu(pyramid1, 'apn.conv1')])
        attention = self._resize(attention, sizes[0])
        mean = [Features(self._op('GlobalAveragePool', [tensor]), which) for tensor, which in x]
        context = self._conv_bn_relu(mean, 'apn.global_branch')
        mid = self._conv_bn_relu(x, 'apn.mid')
        return self._op('Add', [self._op('Mul', [mid, attention]), context])

    # What they are made of.

    def _conv_bn_relu(self, x: list[Features], name: str, stride: int = 1) -> str:
        kernel, bias = self._folded(name, 'conv', 'bn')
        pad = kernel.shape[2] // 2
        return self._op('Relu', [self._conv(x, kernel, bias, pad=(pad, pad), stride=stride)])

    def _conv(
        self,
        x: list[Features],
        kernel: np.ndarray,  # (out, in, kh, kw), `in` numbered as in the plain network
        bias: np.ndarray | None = None,
        *,
        pad: tuple[int, int] = (0, 0),
        stride: int | tuple[int, int] = 1,
        dilation: int = 1,
        add: str | None = None,
    ) -> str:
        """Convolve tensors that together are the input: the sum of one convolution each."""
        strides = [stride, stride] if isinstance(stride, int) else list(stride)
        total = add
        for tensor, which in x:
            inputs = [tensor, self._constant(kernel[:, which].astype(np.float32))]
            if bias is not None:
                inputs.append(self._constant(bias.astype(np.float32)))
                bias = None
            y = self._op('Conv', inputs, kernel_shape=list(kernel.shape[2:]), strides=strides,
                         pads=[*pad, *pad], dilations=[dilation, dilation])
            total = y if total is None else self._op('Add', [total, y])
        assert total
        return total

    def _resize(self, x: str, size: tuple[int, int]) -> str:
        sizes = self._constant(np.array(size, np.int64))
        return self._op('Resize', [x, '', '', sizes], axes=[2, 3], mode='linear',
                        coordinate_transformation_mode='align_corners')

    def _folded(self, name: str, conv: str, bn: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of a convolution with the batch normalisation after it folded in."""
        kernel, bias = (self._weights[f'{name}.{conv}.{part}'] for part in ('weight', 'bias'))
        if bn is None:
            return kernel, bias
        gain, shift = self._bn(f'{name}.{bn}')
        return kernel * gain[:, None, None, None], bias * gain + shift

    def _bn(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        mean, variance, weight, bias = (
            self._weights[f'{name}.{part}']
            for part in ('running_mean', 'running_var', 'weight', 'bias'))
        gain = weight / np.sqrt(variance + BN_EPS)
        return gain, bias - mean * gain

    @staticmethod
    def _whole(tensor: str, channels: int) -> Features:
        return Features(tensor, list(range(channels)))

    def _op(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        output = f'{kind.lower()}_{len(self._nodes)}'
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _constant(self, value: np.ndarray) -> str:
        name = f'constant_{len(self._constants)}'
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name
