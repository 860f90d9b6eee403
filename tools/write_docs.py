# SPDX-License-Identifier: Apache-2.0
"""
Write what is made of the nodes' parameter tables: config/*.yaml and docs/parameters.md.

.venv/bin/python tools/write_docs.py            # after a change of a table
.venv/bin/python tools/write_docs.py --check    # exit code 1 where a file is not up to date
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lednet_ros.nodes import image_source_node  # noqa: E402
from lednet_ros.nodes.cloud import parameters as cloud  # noqa: E402
from lednet_ros.nodes.ground import parameters as ground  # noqa: E402
from lednet_ros.nodes.segment import parameters as segment  # noqa: E402
from lednet_ros.nodes.shared.parameters import Param  # noqa: E402

LIVE = ('Those marked live can be changed while the node runs, with `ros2 param set /{node} NAME '
        'VALUE`; a change takes effect on the next frame, or is refused with the reason. The '
        'others are read when the node starts. Values that have to fit together are judged one '
        'by one as they come, and `ros2 param load` sets one after the other: where it is refused '
        'one of them, load the file once more.')


class Table(NamedTuple):
    """A node's parameters and where they are written."""

    node: str
    rows: tuple[Param, ...]
    file: str = ''       # in config/; empty: none
    namespace: str = ''  # the key above ros__parameters
    header: str = ''     # what the YAML file says first


TABLES = (
    Table('segment', segment.PARAMETERS, 'segment.yaml', '/**',
          'All parameters of segment_node with their defaults. Copy this file, change what you '
          'need, and give it to segment.launch.py by params_file:=, or to the node by '
          '--params-file.'),
    Table('ground', ground.PARAMETERS, 'ground.yaml', '/**/ground',
          'All parameters of ground_node with their defaults. Copy this file, change what you '
          'need, and give it to segment.launch.py by params_file:=, or to the node by '
          '--params-file. In one file with those of segment.yaml, put this below them: what '
          'stands under /** holds for both nodes. The node needs the pose of the camera: from TF, '
          'or from pose_source: parameters and camera.height. A camera of a name has its own: '
          'camera: {front: {height: 1.2, pitch: 0.3}} beside cameras: [front].'),
    Table('semantic_cloud', cloud.PARAMETERS, 'cloud.yaml', '/**/semantic_cloud',
          'All parameters of semantic_cloud_node with their defaults. Copy this file, change what '
          'you need, and give it to segment.launch.py by params_file:=, or to the node by '
          '--params-file. In one file with those of segment.yaml, put this below them: what '
          'stands under /** holds for both nodes. The node needs the pose of the camera: from TF, '
          'or from pose_source: parameters and camera.height. A camera of a name has its own: '
          'camera: {front: {height: 1.2, pitch: 0.3}} beside cameras: [front].'),
    Table('image_source', image_source_node.PARAMETERS),
)


def limits(row: Param) -> str:
    """Return a parameter's choices and range in words, and whether it is live."""
    words = [f'one of {", ".join(row.choices)}'] if row.choices else []
    words += [f'{row.between[0]:.10g} to {row.between[1]:.10g}'] if row.between else []
    return '; '.join(words + (['live'] if row.live else []))


def config_yaml(table: Table) -> str:
    """Return the template of a parameter file."""
    lines = textwrap.wrap(f'{table.header} {LIVE.format(node=table.node)}', 97,
                          initial_indent='# ', subsequent_indent='# ', break_on_hyphens=False)
    lines += [f'{table.namespace}:', '  ros__parameters:']
    group = ''
    for row in table.rows:
        parent, _, name = row.name.rpartition('.')
        if parent != group and parent:
            lines.append(f'    {parent}:')
        group = parent
        indent = ' ' * (6 if parent else 4)
        said = limits(row)
        lines += textwrap.wrap(row.description + (f' ({said})' if said else ''), 97,
                               initial_indent=f'{indent}# ', subsequent_indent=f'{indent}# ',
                               break_on_hyphens=False)
        value = yaml.safe_dump(row.default, default_flow_style=True, width=1000)
        lines.append(f'{indent}{name}: {value.removesuffix(chr(10)).removesuffix("...").strip()}')
    return '\n'.join(lines) + '\n'


def parameters_md() -> str:
    """Return docs/parameters.md."""
    parts = ['# Parameters', '', 'Made by `tools/write_docs.py` of the tables in the code; '
             '`ros2 param describe` says the same.', '']
    for table in TABLES:
        parts += [f'## {table.node}_node', '']
        if table.file:
            parts += [f'A file with all of them is [`config/{table.file}`](../config/{table.file}'
                      f'). {LIVE.format(node=table.node)}', '']
        parts += ['| parameter | default | | limits |', '|---|---|---|---|']
        for row in table.rows:
            default = yaml.safe_dump(row.default, default_flow_style=True).split('\n')[0]
            text = row.description.replace('<', '&lt;')
            parts.append(f'| `{row.name}` | `{default}` | {text} | {limits(row)} |')
        parts.append('')
    return '\n'.join(parts).rstrip('\n') + '\n'


def files() -> dict[Path, str]:
    """Return the files and what they should hold."""
    made = {ROOT / 'config' / table.file: config_yaml(table) for table in TABLES if table.file}
    return {**made, ROOT / 'docs' / 'parameters.md': parameters_md()}


def main(argv: list[str] | None = None) -> int:
    """Write the files, or name those that are not up to date."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('--check', action='store_true')
    arguments = parser.parse_args(argv)
    stale = [path for path, text in files().items()
             if not path.is_file() or path.read_text(encoding='utf-8') != text]
    for path in stale:
        print(f'{path.relative_to(ROOT)}: ' + ('is not up to date: run tools/write_docs.py'
                                               if arguments.check else 'written'))
        if not arguments.check:
            path.write_text(files()[path], encoding='utf-8')
    return 1 if stale and arguments.check else 0


if __name__ == '__main__':
    sys.exit(main())
