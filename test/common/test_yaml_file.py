# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest
import yaml

from lednet_ros.common.yaml_file import load_yaml, read_text


def test_a_pipe_keeps_nobody_waiting(tmp_path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(OSError, match='is a pipe'):
        read_text(tmp_path / 'pipe')


def test_what_some_editors_put_before_a_text_is_no_part_of_it(tmp_path) -> None:
    (tmp_path / 'a.yaml').write_bytes(b'\xef\xbb\xbfroad: free')
    assert read_text(tmp_path / 'a.yaml') == 'road: free'


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
