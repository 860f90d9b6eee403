# SPDX-License-Identifier: Apache-2.0
"""What the README and docs/ promise: run where it can be, looked up where it cannot."""

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from lednet_ros.cli import console_scripts
from lednet_ros.segmentation.backends.tensorrt_versions import table

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding='utf-8') for page in PAGES}


def outside_code(text: str) -> str:
    """The text without its blocks of code and `code`."""
    return re.sub(r'`[^`\n]*`', '', re.sub(r'^```.*?^```$', '', text, flags=re.S | re.M))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and Sphinx make them."""
    headings = re.findall(r'^#+ (.*)$', text, re.M)
    return {re.sub(r'[^\w -]', '', h).lower().replace(' ', '-') for h in headings}


def links() -> Iterator[tuple[str, str]]:
    for page, text in TEXTS.items():
        for link in sorted(set(re.findall(r'\]\((?!https?:)([^)\s]+)\)', outside_code(text)))):
            yield page, link


@pytest.mark.parametrize(('page', 'link'), list(links()))
def test_what_a_page_links_to_is_there(page: str, link: str) -> None:
    path, _, anchor = link.partition('#')
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    if anchor:
        assert anchor in anchors(target.read_text(encoding='utf-8'))


def test_every_page_is_in_the_index() -> None:
    index = TEXTS['docs/index.md']
    listed = {f'docs/{name}.md' for name in index.split(':hidden:')[1].split('```')[0].split()}
    assert listed == {page for page in TEXTS if page.startswith('docs/')} - {'docs/index.md'}
    assert all(f'({page.removeprefix("docs/")})' in index for page in listed)


def test_the_readme_can_be_read_in_minutes() -> None:
    assert len(TEXTS['README.md'].splitlines()) <= 160


def test_the_python_and_yaml_blocks_of_the_api_run_one_after_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    street = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    cv2.imwrite('street.png', street)
    blocks = re.findall(r'```(python|yaml)\n(.*?)```', TEXTS['docs/api.md'], re.S)
    assert len(blocks) >= 3
    Path('orchard.yaml').write_text(next(text for kind, text in blocks if kind == 'yaml'))
    for kind, text in blocks:
        if kind == 'python':
            exec(compile(text, 'docs/api.md', 'exec'), {})
    labels = cv2.imread('labels.png', cv2.IMREAD_GRAYSCALE)
    assert labels.shape == street.shape[:2]
    assert labels.max() < 11
    assert Path('orchard.safetensors').stat().st_size > 3e6


def test_the_table_of_versions_is_the_code_s() -> None:
    assert table() in TEXTS['docs/gpu.md']


def commands() -> dict[str, set[str]]:
    """Our commands that the pages show, each with the options given to it."""
    found: dict[str, set[str]] = {}
    for text in TEXTS.values():
        for line in re.findall(r'(?:^\$ |`)((?:\S*/)?lednet_[a-z_]+ .*?)(?:`|  +#|$)', text, re.M):
            for part in re.split(r' (?:&&|\|) ', line):
                match = re.match(r'(?:\S*/)?(lednet_[a-z_]+)(?: |$)', part)
                if match and match[1] != 'lednet_ros':
                    found.setdefault(match[1], set()).update(re.findall(r' (--[a-z-]+)', part))
    return found


@pytest.mark.parametrize('name', sorted(commands()))
def test_a_command_has_the_options_that_the_pages_show(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: starting one for each takes longer than all other tests of pages."""
    with pytest.raises(SystemExit) as end:
        getattr(console_scripts, name)(['--help'])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for option in commands()[name]:
        assert re.search(rf'{option}\b', shown), option


def test_the_make_targets_that_the_pages_show_exist() -> None:
    targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.M))
    shown = {name for text in TEXTS.values()
             for name in re.findall(r'(?:^\$ |`)make ([a-z-]+)', text, re.M)}
    assert shown
    assert shown <= targets


def test_the_launch_arguments_that_the_pages_show_exist() -> None:
    source = ''.join(path.read_text() for path in (ROOT / 'launch').glob('*.launch.py'))
    declared = set(re.findall(r"DeclareLaunchArgument\(\s*'([a-z_]+)'", source))
    declared |= set(re.findall(r"\('([a-z_]+)', '", source))
    shown = {name for text in TEXTS.values() for line in re.findall(
        r'ros2 launch lednet_ros [^\n`]*', text) for name in re.findall(r'([a-z_]+):=', line)}
    assert 'image' in shown
    assert shown <= declared
