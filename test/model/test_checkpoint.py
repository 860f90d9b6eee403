# SPDX-License-Identifier: Apache-2.0
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from golden import authors_state_dict, image

from lednet_ros.common.errors import CheckpointError, ConfigError
from lednet_ros.model.authors_checkpoint import rename_authors_key, rename_ours_key
from lednet_ros.model.checkpoint import (
    Preprocessing,
    default_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from lednet_ros.model.labels import LabelSet, builtin_label_set
from lednet_ros.model.lednet import LEDNet

GOLDEN = np.load(Path(__file__).parents[1] / 'data' / 'lednet_golden.npz')


@pytest.fixture(scope='module')
def authors() -> dict[str, torch.Tensor]:
    state = authors_state_dict(GOLDEN['names'], GOLDEN['shapes'], int(GOLDEN['seed']))
    return {str(name): torch.from_numpy(value) for name, value in state.items()}


@pytest.fixture
def ours(tmp_path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / 'ours.safetensors'
    save_checkpoint(path, LEDNet(11), builtin_label_set('camvid'), input_height=360,
                    input_width=480, training={'epochs': 3}, scores={'val': {'mIoU': 0.5}})
    return path


def test_scores_equal_those_of_the_authors_network(tmp_path, authors) -> None:
    torch.save(authors, tmp_path / 'authors.pth')
    checkpoint = load_checkpoint(tmp_path / 'authors.pth')
    with torch.no_grad():
        scores = checkpoint.network(torch.from_numpy(image(int(GOLDEN['seed']))))[0].numpy()
    scores = scores[:, GOLDEN['rows']][:, :, GOLDEN['columns']]
    assert len(np.unique(scores.argmax(0))) > 3
    assert np.abs(scores - GOLDEN['scores']).max() < 1e-4
    assert checkpoint.labels == builtin_label_set('cityscapes')
    assert (checkpoint.metadata.input_height, checkpoint.metadata.input_width) == (512, 1024)


@pytest.mark.parametrize('wrap', [
    lambda s: s,
    lambda s: {'epoch': 3, 'arch': 'Net(...)', 'state_dict': s, 'best_acc': 0.5},
    lambda s: {'module.' + k: v for k, v in s.items()},
    lambda s: {k: v for k, v in s.items() if not k.endswith('num_batches_tracked')},
    lambda s: {k: v for k, v in s.items() if not k.startswith('encoder.output_conv')},
], ids=['plain', 'pth.tar', 'DataParallel', 'old PyTorch', 'from an ImageNet encoder'])
def test_the_authors_files_are_read_however_they_were_saved(tmp_path, authors, wrap) -> None:
    path = tmp_path / 'model_best.pth.tar'
    torch.save(wrap(authors), path)
    weights = load_checkpoint(path).network.state_dict()
    assert torch.equal(weights['encoder.units3.7.right.conv4.weight'],
                       authors['encoder.layers.14.conv3x1_2_r.weight'])


@pytest.mark.parametrize(('change', 'words'), [
    (lambda s: s.update({'decoder.apn.down1.conv.0.weight': torch.zeros(128, 128, 7, 7)}),
     "the 2.29 M variant .*'decoder.apn.down1.conv.0.weight' has 128 channels, not 1"),
    (lambda s: (s.clear(), s.update({'apn.mid_branch.0.weight': torch.zeros(20, 128, 3, 3)})),
     'the 1.46 M variant'),
    (lambda s: (s.clear(), s.update({
        'module.features.encoder.initial_block.conv.weight': torch.zeros(29, 3, 3, 3)})),
     "the authors' ImageNet classifier"),
    (lambda s: s.update({'encoder.initial_block.bn.num_batches_tracked': torch.tensor(7)}),
     'its decoder was never trained'),
    (lambda s: (s.clear(), s.update(load_checkpoint(default_checkpoint()).network.state_dict())),
     r"in this package's names: save it with lednet_ros\.model\.checkpoint\.save_checkpoint"),
], ids=['2.29 M', '1.46 M', 'ImageNet', 'first stage', 'ours'])
def test_other_networks_of_the_name_are_refused_by_name(tmp_path, authors, change, words) -> None:
    state = dict(authors)
    change(state)
    torch.save({'state_dict': state}, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / 'other.pth')


def test_every_key_has_one_name_on_either_side(authors) -> None:
    ours = [rename_authors_key(name) for name in authors]
    assert sorted(ours) == sorted(LEDNet(20).state_dict())
    assert [rename_ours_key(name) for name in ours] == list(authors)


def test_a_checkpoint_comes_back_as_it_was_saved(ours) -> None:
    checkpoint = load_checkpoint(ours)
    torch.manual_seed(0)
    expected = LEDNet(11).state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in checkpoint.network.state_dict().items())
    assert not checkpoint.network.training
    assert checkpoint.labels == builtin_label_set('camvid')
    assert checkpoint.preprocessing == Preprocessing()
    assert checkpoint.metadata.training == {'epochs': 3}
    assert checkpoint.metadata.scores == {'val': {'mIoU': 0.5}}


def test_a_file_without_a_temperature_has_one_of_1(ours) -> None:
    rewrite(ours, lambda weights, record: record.pop('temperature'))
    assert load_checkpoint(ours).metadata.temperature == 1


def test_a_file_that_names_no_network_holds_lednet(ours) -> None:
    rewrite(ours, lambda weights, record: record.pop('network'))
    assert isinstance(load_checkpoint(ours).network, LEDNet)


@pytest.mark.parametrize(('name', 'said'), [
    ('os', "network is 'os': choose lednet"), (['lednet'], 'is not usable'),
    ('enet', "'initial.conv.weight' is missing: this is not the ENet with")])
def test_a_network_that_is_not_what_the_file_says_is_refused(ours, name: object, said: str
                                                             ) -> None:
    rewrite(ours, lambda weights, record: record.update(network=name))
    with pytest.raises(CheckpointError, match=re.escape(said)):
        load_checkpoint(ours)


def test_the_record_is_where_the_format_says(ours) -> None:
    with safetensors.safe_open(ours, framework='pt') as file:
        record = json.loads(file.metadata()['lednet_ros'])
    assert set(record) == {'format', 'network', 'labels', 'preprocessing', 'input_height',
                           'input_width', 'temperature', 'training', 'scores'}
    assert record['format'] == 1


def test_the_hash_is_of_the_weights_alone(ours, tmp_path) -> None:
    checkpoint = load_checkpoint(ours)
    other = tmp_path / 'other.safetensors'
    save_checkpoint(other, checkpoint.network, checkpoint.labels, input_height=64, input_width=64)
    assert load_checkpoint(other).sha256 == checkpoint.sha256
    checkpoint.network.apn.mid.conv.bias[0] += 1
    save_checkpoint(other, checkpoint.network, checkpoint.labels, input_height=64, input_width=64)
    assert load_checkpoint(other).sha256 != load_checkpoint(ours).sha256


def test_the_shipped_checkpoint_loads_and_its_card_is_beside_it() -> None:
    checkpoint = load_checkpoint(default_checkpoint())
    assert checkpoint.labels == builtin_label_set('camvid')
    card = default_checkpoint().with_suffix('.md').read_text()
    assert f'| {100 * checkpoint.metadata.scores["val, learnt from"]["miou"]:.1f} |' in card


def test_users_labels_name_the_classes_of_an_authors_file(tmp_path) -> None:
    path = save_authors(tmp_path, LEDNet(3))
    three = LabelSet.from_dict({'name': 'three', 'classes': [
        {'name': n, 'color': [1, 2, 3]} for n in 'abc']})
    assert load_checkpoint(path, labels=three).labels == three
    with pytest.raises(CheckpointError, match='has 3 classes and does not say which'):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="has 3 classes but label set 'camvid' 11"):
        load_checkpoint(path, labels=builtin_label_set('camvid'))


def save_authors(tmp_path: Path, network: LEDNet) -> Path:
    path = tmp_path / 'authors.pth'
    torch.save({rename_ours_key(k): v for k, v in network.state_dict().items()}, path)
    return path


def rewrite(path: Path, change) -> None:
    """Save again with weights and record changed."""
    with safetensors.safe_open(path, framework='pt') as file:
        weights = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        record = json.loads(file.metadata()['lednet_ros'])
    change(weights, record)
    safetensors.torch.save_file(weights, path, {'lednet_ros': json.dumps(record)})


@pytest.mark.parametrize(('change', 'words'), [
    (lambda w, r: w.pop('apn.conv2.bn.weight'), "'apn.conv2.bn.weight' is missing"),
    (lambda w, r: w.update({'apn.extra': torch.zeros(1)}), "'apn.extra' is not part of"),
    (lambda w, r: w.update({'apn.mid.conv.weight': torch.zeros(12, 128, 1, 1)}),
     r"'apn.mid.conv.weight' has shape \(12, 128, 1, 1\), expected \(11, 128, 1, 1\)"),
    (lambda w, r: w['apn.mid.conv.bias'].fill_(torch.nan), "'apn.mid.conv.bias' holds NaN"),
    (lambda w, r: r.update(format=2), 'format 2, this version reads 1: update lednet_ros'),
    (lambda w, r: r.pop('labels'), "record is not usable: lacks 'labels'"),
    (lambda w, r: r.update(input_height=3), 'input_height is 3: give at least 32'),
    (lambda w, r: r.update(preprocessing={'mean': [0, 0, 0], 'std': [1, 0, 1]}), 'above 0'),
    (lambda w, r: r.update(temperature=0), 'temperature is 0: give a number above 0'),
    (lambda w, r: r.update(temperature=1e-320), 'temperature is 1e-320: give 0.001 to 1000'),
    (lambda w, r: r.update(input_width=100_000), 'input_width is 100000: give .* at most 8192'),
    (lambda w, r: w.update({'apn.mid.conv.bias': torch.ones(11, dtype=torch.int8)}),
     "'apn.mid.conv.bias' holds int8: give"),
    (lambda w, r: w.update({'apn.mid.conv.bias': torch.ones(11).to(torch.float8_e4m3fn)}),
     "'apn.mid.conv.bias' holds float8_e4m3fn: give"),
    (lambda w, r: w.update({'apn.mid.conv.bias': torch.full((11,), 1e300, dtype=torch.float64)}),
     "'apn.mid.conv.bias' holds NaN or infinity"),
    (lambda w, r: r.update(temperature='hot'), "temperature is 'hot': give a number above 0"),
    (lambda w, r: r.update(labels={'classes': 7}), "give 'name' and a list 'classes'"),
    (lambda w, r: r.update(labels=builtin_label_set('cityscapes').to_dict()),
     r"'encoder.output_conv.weight' has shape \(11, 128, 1, 1\), expected \(20"),
], ids=['missing', 'foreign', 'shape', 'nan', 'format', 'no labels', 'size', 'std', 'cold',
        'too cold', 'too wide', 'int8', 'fp8', 'fp64', 'hot', 'bad labels', 'other labels'])
def test_our_file_with_something_wrong_is_refused_naming_it(ours, change, words) -> None:
    rewrite(ours, change)
    with pytest.raises(CheckpointError, match=words) as error:
        load_checkpoint(ours)
    assert str(error.value).startswith(f'{ours}: ')
    assert '\n' not in str(error.value)


class Evil:
    """Unpickled by a careless reader, this would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'w')


def raw_safetensors(dtype: str = 'F32', record: str = '{}') -> bytes:
    header = json.dumps({'__metadata__': {'lednet_ros': record}, 'a': {
        'dtype': dtype, 'shape': [4], 'data_offsets': [0, 4]}}).encode()
    return len(header).to_bytes(8, 'little') + header + bytes(4)


@pytest.mark.parametrize(('name', 'write', 'words'), [
    ('none.pth', lambda p: None, 'cannot be read: No such file or directory'),
    ('folder.pth', lambda p: p.mkdir(), 'cannot be read: Is a directory'),
    ('pipe.safetensors', lambda p: os.mkfifo(p), 'is no file'),
    ('empty.safetensors', lambda p: p.write_bytes(b''), 'the file is empty'),
    ('text.safetensors', lambda p: p.write_text('hello, this is no checkpoint'), 'damaged or not'),
    ('text.pth', lambda p: p.write_text('hello, this is no checkpoint'),
     'no checkpoint, or damaged .*: give a .safetensors file of lednet_train'),
    ('list.pth', lambda p: torch.save([1, 2], p), 'holds no state_dict'),
    ('resnet.pth', lambda p: torch.save({'conv1.weight': torch.zeros(2)}, p),
     "not the authors' LEDNet: 'decoder.apn.mid.0.conv.0.weight' is missing"),
    ('foreign.safetensors',
     lambda p: safetensors.torch.save_file({'a': torch.zeros(2)}, p),
     "a safetensors file without a 'lednet_ros' record"),
    ('strange.safetensors', lambda p: p.write_bytes(raw_safetensors('F8_E8M0')),
     'damaged or not a safetensors file'),
    ('deep.safetensors', lambda p: p.write_bytes(raw_safetensors('U8', 100_000 * '[')),
     "its 'lednet_ros' record is not usable"),
    ('evil.pth', lambda p: torch.save({'state_dict': Evil(p.with_name('left'))}, p),
     r'holds _?io\.open, not only tensors, and is not unpickled'),
    ('evil.pkl',
     lambda p: p.write_bytes(pickle.dumps(Evil(p.with_name('left')), 2)),
     r'holds _?io\.open, not only tensors'),
], ids=lambda v: v if isinstance(v, str) and '.' in v and ' ' not in v else '')
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path, name, write, words) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(CheckpointError, match=words) as error:
        load_checkpoint(path)
    assert str(error.value).startswith(f'{path}: ')
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'left').exists()


@pytest.mark.parametrize('share', [0.0001, 0.01, 0.5, 0.999])
@pytest.mark.parametrize('kind', ['ours', 'authors'])
def test_a_truncated_file_is_refused(tmp_path, ours, authors, kind, share) -> None:
    if kind == 'authors':
        torch.save(authors, tmp_path / 'authors.pth')
    path = ours if kind == 'ours' else tmp_path / 'authors.pth'
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * share)])
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    assert '\n' not in str(error.value)


def test_saving_refuses_labels_of_another_count_and_leaves_no_file(tmp_path) -> None:
    with pytest.raises(ConfigError, match="'camvid' has 11 classes but the network 20"):
        save_checkpoint(tmp_path / 'x.safetensors', LEDNet(20), builtin_label_set('camvid'),
                        input_height=64, input_width=64)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named_and_the_old_file_stays(tmp_path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(CheckpointError, match='cannot be written'):
        save_checkpoint(tmp_path / 'file' / 'x.safetensors', LEDNet(11),
                        builtin_label_set('camvid'), input_height=64, input_width=64)


def test_a_path_may_hold_what_is_no_utf_8(tmp_path, ours) -> None:
    path = tmp_path / os.fsdecode(b'caf\xe9.safetensors')
    path.write_bytes(ours.read_bytes())
    assert load_checkpoint(path).labels.names == load_checkpoint(ours).labels.names


def test_a_path_may_begin_at_home(tmp_path, ours, monkeypatch) -> None:
    monkeypatch.setenv('HOME', str(ours.parent))
    assert load_checkpoint(f'~/{ours.name}').sha256 == load_checkpoint(ours).sha256
