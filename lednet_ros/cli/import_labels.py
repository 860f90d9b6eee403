# SPDX-License-Identifier: Apache-2.0
"""lednet_import: what a labelling tool exported to a data set that lednet_train reads."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lednet_ros.common.command import command, say
from lednet_ros.common.paths import expanded

if TYPE_CHECKING:
    from lednet_ros.datasets.importing import Imported


@command('lednet_import')
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    return _run(_parse(argv))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='lednet_import', description='Draw the polygons, run lengths and brush masks that '
        'COCO, CVAT (XML), labelme, Label Studio, Supervisely or Ultralytics export as label '
        'images, with a data.yaml that lednet_train reads. Masks that a tool has drawn itself '
        'need no import: docs/datasets.md.')
    parser.add_argument('source', type=expanded, metavar='SOURCE',
                        help='the exported file, or the unpacked folder')
    parser.add_argument('out', type=expanded, metavar='OUT',
                        help='a new directory: images/ (links), labels/ and data.yaml')
    parser.add_argument('--format', default='auto', choices=[
        'auto', 'coco', 'cvat', 'labelme', 'label_studio', 'supervisely', 'ultralytics'])
    parser.add_argument('--images', type=expanded, metavar='DIR',
                        help='where the images are, if the export has none')
    parser.add_argument('--background', default='', metavar='NAME',
                        help='the class of what nobody drew; without it that is not labelled, and '
                        'not trained on')
    parser.add_argument('--val', type=float, default=0.2, metavar='SHARE',
                        help='of the images, as blocks in time, where the export has no val split '
                        '(default: %(default)s)')
    parser.add_argument('--keep-empty', action='store_true',
                        help='take images with nothing drawn too')
    parser.add_argument('--copy', action='store_true', help='copy the images, do not link to them')
    return parser.parse_args(argv)


def _run(args: argparse.Namespace) -> int:
    from lednet_ros.common.progress_bar import progress_bar
    from lednet_ros.datasets.importers.opening import open_export
    from lednet_ros.datasets.importing import ImportConfig, import_export
    config = ImportConfig(args.background, args.images, args.val, args.copy, args.keep_empty)
    format_, export = open_export(args.source, args.format)
    with progress_bar() as progress:
        task = progress.add_task(f'drawing {format_}', total=None)
        result = import_export(export, args.source, args.out, config,
                               lambda: progress.advance(task))
    for line in _lines(result, args):
        say('lednet_import', line)
    print(f'{args.out}: {sum(result.splits.values())} images, {result.shapes} shapes of '
          f'{format_}: lednet_train --data {args.out} --check-data')
    return 0


def _lines(result: Imported, args: argparse.Namespace) -> Iterator[str]:
    for kind, count in result.left_out.items():
        if count:
            yield f'left out: {count} {kind}'
    if '' in result.splits and len(result.splits) > 1:
        yield (f'{result.splits[""]} images are of no split, so val is a share of all, not what '
               'the export calls so')
    elif '' not in result.splits and 'train' not in result.splits:
        yield ('no image is of a train split, so val is a share of all, not what the export calls '
               'so')
    for one, other in result.alike:
        yield (f'classes {one!r} and {other!r} differ in upper and lower case or spaces only: '
               f'where they are the same, join their ids in {args.out / "data.yaml"}')
    share = result.unlabelled / max(result.pixels, 1)
    if share > 0 and not args.background:
        yield (f'{100 * share:.1f} % of the pixels were not drawn and are not trained on: where '
               'they are all the same to you, --background NAME makes them a class')


if __name__ == '__main__':
    sys.exit(main())
