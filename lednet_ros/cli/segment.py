# SPDX-License-Identifier: Apache-2.0
"""lednet_segment: label images for recorded images, videos and bags, without ROS."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lednet_ros.cli.source_options import (
    add_reading_arguments,
    add_sources,
    check_reading,
    open_output,
)
from lednet_ros.common.command import command, say
from lednet_ros.common.errors import STOPPED, ConfigError, printable
from lednet_ros.common.paths import expanded

if TYPE_CHECKING:
    from lednet_ros.offline.jobs import Job
    from lednet_ros.offline.output_dir import Output
    from lednet_ros.offline.work import Work

MAX_WORKERS = 1024  # a typing error must not become an allocation


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
    from lednet_ros.cli.segmenter_options import add_segmenter_arguments
    parser = argparse.ArgumentParser(
        prog='lednet_segment', description='Write label images (8 bit, class ids, 255 unlabelled) '
        'for recorded images, videos and bags. A second run goes on where one stopped.')
    add_sources(parser)
    parser.add_argument('--output', type=expanded, required=True, metavar='DIR',
                        help='gets label/ and what else is asked for, NAME_labels for a bag, and '
                        'labels.yaml, the classes')
    parser.add_argument('--overlay', action='store_true',
                        help='write the colours over the pictures too: PNG, MP4 or a topic')
    parser.add_argument('--confidence', action='store_true',
                        help='write 255 x softmax of the chosen class too: PNG or a topic')
    parser.add_argument('--palette', action='store_true',
                        help="give label PNGs the classes' colours as a palette; their values "
                        'stay class ids')
    parser.add_argument('--frames', choices=('png', 'jpg'), default='',
                        help="write the pictures of videos and bags too, and bags' labels as PNG")
    parser.add_argument('--node-name', default='segment', metavar='NAME',
                        help='whose topics the results in bags have (default: %(default)s: '
                        '/segment/label)')
    add_reading_arguments(parser, 'results')
    parser.add_argument('--min-confidence', type=float, default=0.0, metavar='P',
                        help='a less certain pixel becomes 255')
    parser.add_argument('--output-size', default='camera', metavar='SIZE',
                        help="of label images and overlays: camera (the picture's, the default), "
                        'network, or WIDTHxHEIGHT such as 424x240')
    parser.add_argument('--cluster', nargs='?', const='local', default='', metavar='ADDRESS',
                        help='let the workers of this Ray cluster do it (no address: one on this '
                        'machine); every machine has the same paths')
    parser.add_argument('--workers', type=int, default=0, metavar='N',
                        help='of a Ray on this machine (default: one a core)')
    parser.add_argument('--json', type=expanded, metavar='FILE',
                        help='write there too what was segmented, left out and skipped')
    add_segmenter_arguments(parser)
    return parser.parse_args(argv)


def _run(args: argparse.Namespace) -> int:
    from lednet_ros.cli.segmenter_options import segmenter_config
    from lednet_ros.common.atomic_file import require_place, write_json
    from lednet_ros.common.progress_bar import progress_bar
    from lednet_ros.images.sources import quieten_opencv
    from lednet_ros.offline.jobs import do_job, find_jobs
    from lednet_ros.offline.work import Extras, Work
    from lednet_ros.segmentation import Segmenter
    quieten_opencv()
    config = segmenter_config(args)
    if not re.fullmatch(r'[A-Za-z]\w*(/[A-Za-z]\w*)*', args.node_name, re.ASCII):
        raise ConfigError(f'--node-name is {args.node_name!r}: give the name of a ROS node, as '
                          'segment or robot1/segment')
    if not 0 <= args.workers <= MAX_WORKERS:
        raise ConfigError(f'--workers is {args.workers}: give 1 to {MAX_WORKERS}')
    if args.cluster and Path(args.cluster).exists():
        raise ConfigError(f'--cluster is {args.cluster}, which is a file or a directory: give the '
                          'sources before it, or write --cluster=local')
    check_reading(args)
    with Segmenter(args.checkpoint or None, config) as segmenter, \
            open_output(args, config, segmenter, {
                'min_confidence': config.min_confidence, 'output_size': config.output_size,
                'unfamiliar_share': config.unfamiliar_share},
                palette=segmenter.labels.palette if args.palette else None) as output:
        output.write_classes(segmenter.labels)
        require_place(args.json)  # which may be in the output
        extras = Extras(args.overlay, args.confidence, args.frames)
        with progress_bar() as progress:
            work = Work(segmenter, output, progress, args.batch, extras, args.topics,
                        args.node_name)
            names: dict[Path, Path] = {}
            try:
                jobs = (job for source in args.sources
                        for job in find_jobs(source, work, output, names))
                if args.cluster:
                    _run_on_cluster(args, list(jobs), work, output)
                else:
                    for job in jobs:
                        do_job(job, work)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(output.again) from None
    try:
        if args.json:
            write_json(args.json, {
                'output': str(args.output), 'backend': segmenter.backend,
                'segmented': work.segmented, 'kept': work.kept,
                'left_out': work.left_out.to_dict(), 'skipped': work.skipped.to_dict()})
    finally:  # what was done is said all the same
        print(f'{printable(str(args.output))}: {work.segmented} segmented by {segmenter.backend}, '
              f'{work.kept} kept from before, {work.left_out} left out, {work.skipped} skipped')
    return 1 if work.left_out.counts else 0


def _run_on_cluster(
    args: argparse.Namespace, jobs: list[Job], work: Work, output: Output
) -> None:
    import lednet_ros
    from lednet_ros.offline.cluster import Cluster, do_on_cluster
    from lednet_ros.offline.cluster_worker import Setup
    paths = [*args.sources, args.output, *filter(None, [args.checkpoint])]
    place = '' if all(Path(path).is_absolute() for path in paths) else os.getcwd()
    setup = Setup(
        place, args.checkpoint or '', work.segmenter.checkpoint.sha256, lednet_ros.__version__,
        work.segmenter.config, output.directory, output.record, output.again, args.palette,
        output.now_ns(), work.batch, work.extras, work.topics, work.node)
    do_on_cluster(jobs, setup, work, Cluster(args.cluster, args.workers))


if __name__ == '__main__':
    sys.exit(main())
