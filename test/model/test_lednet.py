# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from lednet_ros.model.lednet import LEDNet, channel_shuffle


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_it_has_the_parameters_of_the_papers_network() -> None:
    network = LEDNet(20)
    assert count(network) == 925_663
    assert count(network.encoder) == 914_016
    assert count(network.encoder.output_conv) == 2_580
    assert count(network.apn) == 11_647


def test_every_stage_has_the_size_table_1_gives() -> None:
    sizes = {}
    network = LEDNet(20).eval()
    for name, module in network.named_modules():
        if name.count('.') <= 1:
            module.register_forward_hook(
                lambda m, i, output, name=name: sizes.__setitem__(name, tuple(output.shape[1:])))
    with torch.no_grad():
        scores = network.scores(torch.rand(1, 3, 512, 1024))
        assert network(torch.rand(1, 3, 512, 1024)).shape == (1, 20, 512, 1024)
    for stage, size in {
            'encoder.down1': (32, 256, 512), 'encoder.units1': (32, 256, 512),
            'encoder.down2': (64, 128, 256), 'encoder.units2': (64, 128, 256),
            'encoder.down3': (128, 64, 128), 'encoder.units3': (128, 64, 128)}.items():
        assert sizes[stage] == size, stage
    assert scores.shape == (1, 20, 64, 128)  # the APN's
    units = [len(network.encoder.units1), len(network.encoder.units2)]
    assert units == [3, 2]
    assert [u.left.conv3.dilation[0] for u in network.encoder.units3] == [1, 2, 5, 9, 2, 5, 9, 17]


@pytest.mark.parametrize('classes', [1, 11, 19])
@pytest.mark.parametrize('size', [(32, 32), (33, 47), (45, 100), (360, 480), (101, 33)])
def test_any_size_and_class_count_comes_out_at_the_input_s_size(size, classes) -> None:
    with torch.no_grad():
        assert LEDNet(classes).eval()(torch.rand(2, 3, *size)).shape == (2, classes, *size)


def test_a_training_batch_of_one_works_and_gradients_reach_every_weight() -> None:
    """The reference fails here: one value a channel has no variance."""
    network = LEDNet(5).train()
    image = torch.rand(1, 3, 64, 64)
    (network(image).sum() + network.encoder.output_conv(network.encoder(image)).sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_the_shuffle_interleaves_the_halves() -> None:
    channels = torch.arange(6.0).view(1, 6, 1, 1)
    assert channel_shuffle(channels).flatten().tolist() == [0, 3, 1, 4, 2, 5]
