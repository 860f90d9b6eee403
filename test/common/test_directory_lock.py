# SPDX-License-Identifier: Apache-2.0
"""One command at a time in an output directory."""

import os
import subprocess
import sys

import pytest

from lednet_ros.cli import segment, select, train
from lednet_ros.common.directory_lock import alone_in
from lednet_ros.common.errors import ConfigError


def test_a_second_one_is_refused_until_the_first_has_ended(tmp_path):
    with alone_in(tmp_path):
        with pytest.raises(ConfigError, match='another command is writing to it: wait'), \
                alone_in(tmp_path):
            pass
        (tmp_path / 'file').touch()  # the directory itself may be used
    with alone_in(tmp_path):
        assert os.listdir(tmp_path) == ['file']  # and nothing is left of the lock


def test_a_process_that_is_killed_holds_nothing(tmp_path):
    code = ('import sys, time; from pathlib import Path\n'
            'from lednet_ros.common.directory_lock import alone_in\n'
            'with alone_in(Path(sys.argv[1])): print(flush=True); time.sleep(3600)')
    with subprocess.Popen([sys.executable, '-c', code, tmp_path], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        with pytest.raises(ConfigError), alone_in(tmp_path):
            pass
        child.kill()
    with alone_in(tmp_path):
        pass


@pytest.mark.parametrize(('main', 'more'), [(segment.main, []), (select.main, ['--count', '1'])])
def test_what_writes_labels_refuses_a_directory_in_use(tmp_path, capsys, main, more):
    output = tmp_path / 'out'
    output.mkdir()
    with alone_in(output):
        assert main([str(tmp_path), '--output', str(output), '--overwrite',
                     '--backend', 'torch', *more]) == 1
    assert f'{output}: another command is writing to it' in capsys.readouterr().err
    assert not list(output.iterdir())


def test_a_training_refuses_a_directory_in_use(tmp_path, capsys, orchard):
    output = tmp_path / 'out'
    output.mkdir()
    with alone_in(output):
        assert train.main(['--data', str(orchard), '--output', str(output)]) == 1
    assert f'{output}: another command is writing to it' in capsys.readouterr().err
    assert not list(output.iterdir())
