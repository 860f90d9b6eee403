# SPDX-License-Identifier: Apache-2.0
"""Reads from torch_tensorrt's wheels what our calls depend on; not one of them is installed.

For each version of tensorrt_versions.ROUTES, its first release:
    pip download --no-deps --only-binary=:all: -d wheels torch-tensorrt==2.8.0
and then
    python test/segmentation/torch_tensorrt_facts.py wheels > test/data/torch_tensorrt_facts.json
"""

import ast
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEFAULTS = ('USE_EXPLICIT_TYPING', 'ENABLED_PRECISIONS', 'LAZY_ENGINE_INIT', 'IMMUTABLE_WEIGHTS',
            'HARDWARE_COMPATIBLE', 'VERSION_COMPATIBLE', 'USE_PYTHON_RUNTIME', 'WORKSPACE_SIZE')
CONVERT = 'convert_exported_program_to_serialized_trt_engine'


def find(tree: ast.AST, name: str) -> Any:
    return next(node for node in ast.walk(tree)
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name)


def parameters(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            if a.arg != 'self']


def looked_up(cls: ast.ClassDef) -> list[str]:
    """What a constructor takes by `**kwargs`: the names that it looks for in there."""
    return sorted({node.left.value for node in ast.walk(find(cls, '__init__'))
                   if isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant)
                   and isinstance(node.comparators[0], ast.Name)
                   and node.comparators[0].id == 'kwargs'})


def imported(tree: ast.AST) -> list[str]:
    return sorted({alias.asname or alias.name for node in ast.walk(tree)
                   if isinstance(node, ast.ImportFrom) for alias in node.names})


def assigned(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, ast.unparse(node.value)


def facts(wheel: zipfile.ZipFile) -> dict[str, Any]:
    def tree(name: str) -> ast.Module:
        return ast.parse(wheel.read(f'torch_tensorrt/{name}'))

    metadata = wheel.read(next(n for n in wheel.namelist() if n.endswith('/METADATA'))).decode()
    version = dict(assigned(tree('_version.py')))
    compiler = tree('dynamo/_compiler.py')
    convert = find(compiler, CONVERT)
    handlers = [node for node in ast.walk(convert) if isinstance(node, ast.ExceptHandler)]
    settings = find(tree('dynamo/_settings.py'), 'CompilationSettings')
    module = find(tree('dynamo/runtime/_TorchTensorRTModule.py'), 'TorchTensorRTModule')
    return {
        'cuda': ast.literal_eval(version['__cuda_version__']),
        'needs': sorted(set(re.findall(
            r'^Requires-Dist: ((?:torch|tensorrt(?:-cu\d+)?)[ <>=.,\d]+?) ?(?:;|$)',
            metadata, re.M))),
        'dynamo': imported(tree('dynamo/__init__.py')),
        'dynamo.runtime': imported(tree('dynamo/runtime/__init__.py')),
        'compile': parameters(find(compiler, 'compile')),
        CONVERT: parameters(convert),
        'raises what goes wrong inside': all(
            any(isinstance(node, ast.Raise) for node in ast.walk(handler))
            for handler in handlers),
        'logger of that': dict(assigned(compiler))['logger'],
        'CompilationSettings': [node.target.id for node in settings.body
                                if isinstance(node, ast.AnnAssign)],
        'TorchTensorRTModule': parameters(find(module, '__init__')),
        'Device': looked_up(find(tree('_Device.py'), 'Device')),
        'Input': looked_up(find(tree('_Input.py'), 'Input')),
        'defaults': {name: value for name, value in assigned(tree('dynamo/_defaults.py'))
                     if name in DEFAULTS},
    }


def main() -> None:
    found = {}
    for path in Path(sys.argv[1]).glob('**/torch_tensorrt-*.whl'):
        with zipfile.ZipFile(path) as wheel:
            found[path.name.split('-')[1]] = facts(wheel)
    by_version = sorted(found.items(), key=lambda item: [int(n) for n in item[0].split('.')])
    lines = [f'  {json.dumps(version)}: {{\n' + ',\n'.join(
        f'    {json.dumps(name)}: {json.dumps(value)}' for name, value in known.items()) + '\n  }'
        for version, known in by_version]
    print('{\n' + ',\n'.join(lines) + '\n}')


if __name__ == '__main__':
    main()
