# SPDX-License-Identifier: Apache-2.0
"""lednet_segment: label images for recorded images, videos and bags, without ROS."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lednet_ros.cli import command, say
from lednet_ros.errors import STOPPED, ConfigError, LednetRosError, first_line

if TYPE_CHECKING:
    from lednet_ros.offline.work import Work


@command('lednet_segment')
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0, 1 where something could not be read or written, 130 when stopped."""
    args = _parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(args)
    except KeyboardInterrupt as stop:
        again = str(stop) or 'the same command'
        say('lednet_segment', f'stopped: {again} goes on from here')
        return STOPPED


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    from lednet_ros.segmentation.command_line import add_segmenter_arguments
    parser = argparse.ArgumentParser(
        prog='lednet_segment', description='Write label images (8 bit, class ids, 255 unlabelled) '
        'for recorded images, videos and rosbag2 bags. A second run goes on where one stopped.')
    parser.add_argument('sources', nargs='+', type=Path, metavar='SOURCE',
                        help="an image, a directory of images, a video or a bag's directory")
    parser.add_argument('--output', type=Path, required=True, metavar='DIR',
                        help='gets label/ and overlay/, and NAME_labels for a bag')
    parser.add_argument('--overlay', action='store_true',
                        help='write the colours over the pictures too: PNG, MP4 or a topic')
    parser.add_argument('--topics', nargs='+', default=[], metavar='TOPIC',
                        help='of bags (default: each that shows pictures)')
    parser.add_argument('--overwrite', action='store_true', help='replace results of before')
    parser.add_argument('--batch', dest='max_batch', type=int, default=1, metavar='N',
                        help='frames segmented at once (default: %(default)s)')
    parser.add_argument('--min-confidence', type=float, default=0.0, metavar='P',
                        help='a less certain pixel becomes 255')
    add_segmenter_arguments(parser)
    return parser.parse_args(argv)


def _run(args: argparse.Namespace) -> int:
    from lednet_ros.frame_sources import quieten_opencv
    from lednet_ros.offline.output import Output
    from lednet_ros.offline.work import Work
    from lednet_ros.progress_bar import progress_bar
    from lednet_ros.segmentation import Segmenter
    from lednet_ros.segmentation.command_line import segmenter_config
    quieten_opencv()
    config = segmenter_config(args)
    for source in args.sources:
        if not source.exists():
            raise ConfigError(f'{source}: does not exist: give an image, a directory, a video or '
                              'a bag')
    with Segmenter(args.checkpoint or None, config) as segmenter:
        height, width = segmenter.input_size
        output = Output(args.output, {
            'checkpoint': segmenter.checkpoint.sha256, 'input': f'{width}x{height}',
            'fit': config.fit, 'min_confidence': config.min_confidence}, args.sources,
            args.overwrite)
        with progress_bar() as progress:
            work = Work(segmenter, output, progress, args.max_batch, args.overlay, args.topics)
            names: dict[Path, Path] = {}
            try:
                for source in args.sources:
                    _segment(source, work, names)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(output.again) from None
    print(f'{args.output}: {work.segmented} segmented by {segmenter.backend}, {work.kept} kept '
          f'from before, {len(work.problems)} left out')
    return 1 if work.problems else 0


def _segment(source: Path, work: Work, names: dict[Path, Path]) -> None:
    """Handle one source by its kind; what is wrong with it is no reason to leave out the rest."""
    from lednet_ros.frame_sources import IMAGE_SUFFIXES
    from lednet_ros.offline.pictures import find_pictures, segment_pictures, segment_video
    try:
        if _is_bag(source):
            try:
                from lednet_ros.offline.bags import segment_bag
            except ImportError as error:
                raise ConfigError(f'{source}: bags need rosbags 0.10.11 or later '
                                  f"({first_line(error)}): pip install 'rosbags>=0.10.11'"
                                  ) from error
            work.output.begin(source, {Path(f'{source.name}_labels'): source})
            segment_bag(source, work)
        elif source.is_dir() or source.suffix.lower() in IMAGE_SUFFIXES:
            pictures = find_pictures(source, work.output)
            for picture in pictures:
                _claim(picture.label, picture.path, names)
            work.output.begin(source, {p.label.parent: p.path.parent for p in pictures})
            segment_pictures(pictures, work)
        else:
            work.output.begin(source, {Path('label', source.stem): source})
            segment_video(source, work)
    except LednetRosError as error:
        work.complain(str(error))


def _is_bag(source: Path) -> bool:
    return (source / 'metadata.yaml').is_file()


def _claim(name: Path, source: Path, names: dict[Path, Path]) -> None:
    """Refuse what would write over another picture's results."""
    other = names.setdefault(name, source)
    if other != source:
        raise ConfigError(f'{source} and {other}: would share {name}: give each its own --output')


if __name__ == '__main__':
    sys.exit(main())
