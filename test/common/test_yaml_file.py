# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import yaml

from lednet_ros.common.yaml_file import load_yaml


@pytest.mark.parametrize('text', [
    'road: blocked\nroad: free', 'classes: {road: free, tree: obstacle, road: blocked}',
    'base: &base {tree: free}\nown: {<<: *base, road: free, road: blocked}'])
def test_a_key_that_is_given_twice_is_refused(text) -> None:
    """Else the last one holds, and what stands above it is not heeded."""
    with pytest.raises(yaml.YAMLError, match="'road' is given twice"):
        load_yaml(text)


def test_a_mapping_may_change_what_it_takes_from_another() -> None:
    text = 'a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\nd: *b\n2: 5\n"2": 6'
    assert load_yaml(text) == yaml.safe_load(text)
    assert load_yaml(text)['c'] == {'x': 3, 'y': 4}


def test_it_is_the_safe_kind() -> None:
    with pytest.raises(yaml.YAMLError, match='could not determine a constructor'):
        load_yaml('!!python/object/apply:os.getcwd []')
