# SPDX-License-Identifier: Apache-2.0
"""The six networks that the paper compares LEDNet with.

data/networks_golden.npz holds what the authors' own definitions gave for seeded weights, run
outside this repository: the PyTorch of ERFNet, ESPNet and CGNet, ENet's Lua, and the Caffe models
of SegNet and ICNet layer by layer. Scores at some rows and columns; the key says name and size.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden import authors_state_dict, image

from lednet_ros.common.errors import ConfigError
from lednet_ros.model.networks import (
    NETWORKS,
    AnyNetwork,
    entry_of,
    find_entry,
    make_network,
    name_of,
)
from lednet_ros.model.networks.segnet import pool, unpool

GOLDEN = np.load(Path(__file__).parents[1] / 'data' / 'networks_golden.npz')
PARAMETERS = {'segnet': 29_454_548, 'enet': 364_376, 'erfnet': 2_064_256, 'icnet': 6_700_116,
              'cgnet': 496_562, 'espnet': 365_109}


def seeded_network(name: str) -> AnyNetwork:
    network = make_network(name, 20).eval()
    state = network.state_dict()
    names = sorted(state)
    values = authors_state_dict(names, [','.join(map(str, state[n].shape)) for n in names], 7)
    network.load_state_dict({n: torch.from_numpy(np.asarray(v)) for n, v in values.items()})
    return network


@pytest.mark.parametrize('key', GOLDEN.files)
def test_its_scores_are_those_of_the_authors_network(key: str) -> None:
    name, _, size = key.partition('_')
    height, width = map(int, size.split('x'))
    picture = np.tile(image(7), (1, 1, 3, 3))[:, :, :height, :width]
    with torch.no_grad():
        scores = seeded_network(name)(torch.from_numpy(picture.copy()))[0].numpy()
    sampled = scores[:, ::max(1, height // 8), ::max(1, width // 8)]
    assert np.abs(sampled - GOLDEN[key]).max() < 1e-4


def test_there_is_a_golden_score_of_every_network_that_other_authors_have() -> None:
    assert {key.partition('_')[0] for key in GOLDEN.files} == set(NETWORKS) - {
        'lednet', 'lednet_1d'}


@pytest.mark.parametrize('name', PARAMETERS)
def test_it_has_the_parameters_of_the_authors_network(name: str) -> None:
    assert sum(p.numel() for p in make_network(name, 20).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('size', [(32, 32), (33, 47), (101, 60)])
def test_any_size_comes_out_whole_and_scores_at_the_stride(
    name: str, size: tuple[int, int]
) -> None:
    network = make_network(name, 3).eval()
    picture = torch.rand(1, 3, *size)
    with torch.no_grad():
        assert network(picture).shape == (1, 3, *size)
        stride = entry_of(network).stride
        assert network.scores(picture).shape[2:] == tuple(-(-n // stride) for n in size)


@pytest.mark.parametrize('name', NETWORKS)
def test_gradients_reach_every_weight_and_its_name_finds_it_again(name: str) -> None:
    network = make_network(name, 5).train()
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert [key for key, p in network.named_parameters()
            if p.grad is None and not key.startswith('encoder.output_conv')] == []
    assert name_of(network) == name


def test_a_pair_of_the_apn_computes_what_the_outer_product_of_its_kernels_does() -> None:
    pairs = seeded_network('lednet_1d')
    assert sum(p.numel() for p in pairs.parameters()) == 920_223
    plain = make_network('lednet', 20).eval()
    state = pairs.state_dict()
    for name in ('down1', 'down2', 'down3', 'conv1', 'conv2', 'conv3'):
        column, row = (state.pop(f'apn.{name}.{part}.weight') for part in ('column', 'row'))
        state[f'apn.{name}.conv.weight'] = column @ row
        state[f'apn.{name}.conv.bias'] = state.pop(f'apn.{name}.row.bias')
    plain.load_state_dict(state)
    picture = torch.rand(1, 3, 70, 101)
    with torch.no_grad():
        assert torch.allclose(pairs(picture), plain(picture), atol=1e-4)


def test_unpooling_puts_maxima_back_where_torch_would() -> None:
    """Of equal values, as ReLU makes them, the first is the maximum; odd edges are real pixels."""
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)).relu()
    maximum, places = pool(x)
    expected, indices = torch.nn.functional.max_pool2d(
        x, 2, ceil_mode=True, return_indices=True)
    assert torch.equal(maximum, expected)
    values = torch.rand_like(maximum)
    assert torch.equal(unpool(values, places, x.shape[2:]),
                       torch.nn.functional.max_unpool2d(values, indices, 2, output_size=(5, 7)))


def test_a_name_that_is_not_in_the_registry_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="network is 'erf': did you mean 'erfnet'"):
        find_entry('erf')
    with pytest.raises(ConfigError, match='choose lednet, segnet'):
        find_entry('os.system')
