# SPDX-License-Identifier: Apache-2.0
import threading
import time

from lednet_ros.node.latest_frame import LatestFrames


def test_the_newest_frame_of_each_camera_is_taken_once() -> None:
    frames: LatestFrames[int] = LatestFrames()
    assert not frames.put('front', 1)
    assert frames.put('front', 2)
    assert not frames.put('left', 3)
    assert frames.take(0) == {'front': 2, 'left': 3}
    assert frames.take(0) == {}


def test_taking_waits_for_a_frame() -> None:
    frames: LatestFrames[int] = LatestFrames()
    thread = threading.Timer(0.05, lambda: frames.put('front', 1))
    thread.start()
    assert frames.take(10) == {'front': 1}
    thread.join()


def test_closing_ends_the_waiting_and_gives_what_was_never_taken() -> None:
    frames: LatestFrames[int] = LatestFrames()
    taken: list[dict[str, int]] = []
    thread = threading.Thread(target=lambda: taken.append(frames.take()))
    thread.start()
    assert frames.close() == {}
    thread.join(10)
    assert not thread.is_alive()
    assert taken == [{}]
    frames.put('front', 1)
    assert frames.close() == {'front': 1}


def test_every_frame_has_one_fate_under_bursts_and_gaps() -> None:
    """put() says 'replaced' exactly for the frames that take() and close() never give."""
    frames: LatestFrames[int] = LatestFrames()
    taken: list[int] = []
    replaced = 0

    def work() -> None:
        while not frames.closed:
            taken.extend(frames.take().values())

    thread = threading.Thread(target=work)
    thread.start()
    for i in range(2000):
        replaced += frames.put('front' if i % 3 else 'left', i)
        if i % 100 == 0:
            time.sleep(0.001)
    left = list(frames.close().values())
    thread.join(10)
    assert replaced + len(taken) + len(left) == 2000
    assert len(set(taken + left)) == len(taken) + len(left)
