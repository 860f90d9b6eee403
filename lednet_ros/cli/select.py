# SPDX-License-Identifier: Apache-2.0
"""lednet_select: which frames of recordings to label next, as a package for labelling tools."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lednet_ros.cli.segmenter_options import add_segmenter_arguments, segmenter_config
from lednet_ros.cli.source_options import (
    add_reading_arguments,
    add_sources,
    check_reading,
    open_output,
)
from lednet_ros.common.command import command, say
from lednet_ros.common.errors import STOPPED, ConfigError, LednetRosError, printable
from lednet_ros.common.paths import expanded

if TYPE_CHECKING:
    from lednet_ros.offline.output_dir import Output
    from lednet_ros.offline.recordings import Recording, Shot
    from lednet_ros.offline.select import Scores
    from lednet_ros.offline.work import Work


@command('lednet_select')
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0, 1 where something could not be read or written, 130 when stopped."""
    args = _parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(args)
    except KeyboardInterrupt as stop:
        say('lednet_select', f'stopped: {str(stop) or "the same command"} goes on from here')
        return STOPPED


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='lednet_select', description='Choose the frames to label next: few that '
        'stand for all others. They are written with pre-labels for CVAT and labelme. A second '
        'run goes on where one stopped.')
    add_sources(parser)
    parser.add_argument('--count', type=int, required=True, metavar='N', help='frames to choose')
    parser.add_argument('--output', type=expanded, required=True, metavar='DIR',
                        help='gets images/, label/, cvat.zip and selection.json')
    parser.add_argument('--every', type=int, default=1, metavar='K',
                        help='look at each K-th frame of a recording only (default: every one)')
    parser.add_argument('--by', choices=('variety', 'uncertainty'), default='variety',
                        help='variety: frames that the others look like, by classes, places and '
                        'colours; uncertainty: those that the network is least certain about, '
                        'none near another (default: %(default)s)')
    parser.add_argument('--format', choices=('png', 'jpg'), default='png',
                        help='of the images (default: %(default)s)')
    add_reading_arguments(parser, 'a choice')
    parser.add_argument('--json', type=expanded, metavar='FILE',
                        help='write there too what was chosen, scored, left out and skipped')
    add_segmenter_arguments(parser)
    return parser.parse_args(argv)


def _check(args: argparse.Namespace) -> None:
    """Raise ConfigError for what cannot be meant."""
    for name in ('count', 'every'):
        if getattr(args, name) < 1:
            raise ConfigError(f'--{name} is {getattr(args, name)}: give 1 or more')
    check_reading(args)


def _run(args: argparse.Namespace) -> int:
    from lednet_ros.common.atomic_file import require_place, write_json
    from lednet_ros.common.progress_bar import progress_bar
    from lednet_ros.images.sources import quieten_opencv
    from lednet_ros.offline.select import choose_frames, write_package
    from lednet_ros.offline.work import Extras, Work
    from lednet_ros.segmentation import Segmenter
    quieten_opencv()
    config = segmenter_config(args)
    _check(args)
    with Segmenter(args.checkpoint or None, config) as segmenter, \
            open_output(args, config, segmenter, {'every': args.every},
                        command='lednet_select') as output:
        output.write_classes(segmenter.labels)
        require_place(args.json)  # which may be in the output
        with progress_bar() as progress:
            work = Work(segmenter, output, progress, args.batch, Extras(confidence=True),
                        args.topics, command='lednet_select')
            try:
                scored = _score(args, work, output)
                chosen = choose_frames(scored, args.count, args.by)
                if not chosen:
                    raise ConfigError(f'{args.output}: there is no frame to choose from: give '
                                      'other sources')
                write_package(chosen, args.format, segmenter.labels, work)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(output.again) from None
    count = sum(len(scores.frames) for _, scores in scored)
    try:
        if args.json:
            write_json(args.json, {
                'output': str(args.output), 'backend': segmenter.backend, 'frames': count,
                'chosen': [one.shot.name for one in chosen], 'scored': work.segmented,
                'kept': work.kept, 'left_out': work.left_out.to_dict(),
                'skipped': work.skipped.to_dict()})
    finally:  # what was done is said all the same
        print(f'{printable(str(args.output))}: {len(chosen)} of {count} frames chosen; '
              f'{work.segmented} scored by {segmenter.backend}, {work.kept} kept from before, '
              f'{work.left_out} left out, {work.skipped} skipped')
    return 1 if work.left_out.counts else 0


def _score(
    args: argparse.Namespace, work: Work, output: Output
) -> list[tuple[Recording, Scores]]:
    """Score all sources; what is wrong with one is no reason to leave out the others."""
    from lednet_ros.offline.recordings import recordings
    from lednet_ros.offline.select import score, score_file
    from lednet_ros.offline.sources import find
    scored = []
    names: dict[str, Shot] = {}
    for source in args.sources:
        try:
            found = find(source, output)
            for kind, path in found.skipped:
                work.skip(kind, str(path))
            for problem in found.unreadable:
                work.complain(problem, 'unreadable files')
            for recording in recordings(source, found):
                try:
                    output.begin(source, {score_file(recording): recording.origin}, work.tell)
                    scores = score(recording, args.every, work)
                    _claim(scores, names)
                except LednetRosError as error:
                    work.complain(str(error), 'recordings')
                else:
                    scored.append((recording, scores))
        except LednetRosError as error:
            work.complain(str(error), 'sources')
    return scored


def _claim(scores: Scores, names: dict[str, Shot]) -> None:
    """Refuse frames whose files would be another's."""
    for shot in scores.frames:
        if (other := names.setdefault(shot.name, shot)) != shot:
            raise ConfigError(f'{shot.track} and {other.track}: would share the frame '
                              f'{shot.name}: rename one, or give each its own --output')


if __name__ == '__main__':
    sys.exit(main())
