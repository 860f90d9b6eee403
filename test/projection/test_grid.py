# SPDX-License-Identifier: Apache-2.0
"""The grid's memory, on a lattice written by hand: 4 x 4 cells of 1 m, 9 x 9 nodes."""

from __future__ import annotations

import numpy as np
import pytest

from lednet_ros.common.errors import ConfigError
from lednet_ros.projection.grid import Belief, Grid, Sighting, nodes_per_cell
from lednet_ros.projection.traversability import BLOCKED, FREE, OBSTACLE, OUT, UNKNOWN

NOTHING = np.full((9, 9), OUT, np.uint8)
NOWHERE = np.empty((0, 2))
F, N, O = 0, -1, 100  # noqa: E741 - free, not known, occupied


def lattice(**codes: tuple[slice, slice]) -> np.ndarray:
    """Free nodes, but for those of some rows and columns."""
    nodes = np.full((9, 9), FREE, np.uint8)
    for name, where in codes.items():
        nodes[where] = {'out': OUT, 'unknown': UNKNOWN, 'blocked': BLOCKED}[name]
    return nodes


def add(grid: Grid, nodes: np.ndarray, contacts: np.ndarray, stamp_s: float, **place: float,
        ) -> np.ndarray:
    """Let one view be seen, and where the robot is; give the grid's values."""
    return grid.add_all([Sighting(nodes, contacts, **place)], stamp_s)


def probability(grid: Grid) -> np.ndarray:
    """Return how probably each cell is occupied; 0.5 where nothing is remembered."""
    return 1 / (1 + np.exp(-grid._evidence._planes[0]))


def test_a_cell_is_free_if_all_of_it_is() -> None:
    grid = Grid(1.0, 4, 0.0, 2)
    values = add(grid, lattice(unknown=np.s_[2, 0], out=np.s_[8, :]), NOWHERE, 0.0)
    # The node between the cells of the first two rows belongs to both.
    assert values.tolist() == [[N, F, F, F], [N, F, F, F], [F, F, F, F], [N, N, N, N]]
    assert grid.origin == (-2.0, -2.0)


def test_a_cell_is_occupied_by_a_contact_or_a_bit_of_blocked_ground() -> None:
    grid = Grid(1.0, 4, 0.0, 2)
    contacts = np.array([[-1.5, 0.5], [1.99, -1.99], [7.0, 0.0]])
    values = add(grid, lattice(blocked=np.s_[7, 5]), contacts, 0.0)
    assert values.tolist() == [[F, F, F, O], [F, F, F, F], [O, F, F, F], [F, F, O, F]]


def test_without_decay_each_frame_stands_alone() -> None:
    grid = Grid(1.0, 4, 0.0, 2)
    add(grid, lattice(), NOWHERE, 0.0)
    assert (add(grid, NOTHING, NOWHERE, 0.1) == N).all()


def test_what_is_known_is_kept_until_it_is_too_old() -> None:
    grid = Grid(1.0, 4, 2.0, 2)
    contact = np.array([[0.5, 0.5]])
    for stamp_s in (0.0, 0.005, 0.01):
        add(grid, lattice(), contact, stamp_s)
    for stamp_s in (0.5, 1.0, 1.9):
        values = add(grid, NOTHING, NOWHERE, stamp_s)
        assert values[2, 2] == O
        assert values[0, 0] == F
    assert (add(grid, NOTHING, NOWHERE, 2.02) == N).all()


def test_an_obstacle_shows_at_once_and_goes_after_four_sightings_of_free_ground() -> None:
    grid = Grid(1.0, 4, 100.0, 2)
    for stamp in range(50):
        add(grid, lattice(), NOWHERE, stamp * 0.001)
    assert add(grid, lattice(), np.array([[0.5, 0.5]]), 0.1)[2, 2] == O
    seen = [add(grid, lattice(), NOWHERE, 0.2 + i * 0.01)[2, 2] for i in range(4)]
    assert seen == [O, O, N, F]


def test_one_that_was_seen_for_long_goes_more_slowly_but_goes() -> None:
    grid = Grid(1.0, 4, 100.0, 2)
    for stamp in range(50):
        add(grid, lattice(), np.array([[0.5, 0.5]]), stamp * 0.001)
    seen = [add(grid, lattice(), NOWHERE, 0.2 + i * 0.01)[2, 2] for i in range(6)]
    assert seen == [O, O, O, O, N, F]


def test_a_grid_that_remembers_takes_two_sightings_to_call_ground_free() -> None:
    grid = Grid(1.0, 4, 100.0, 2)
    assert [add(grid, lattice(), NOWHERE, 0.1 * i)[0, 0] for i in range(3)] == [N, F, F]
    assert probability(grid)[0, 0] == pytest.approx(0.3 ** 3 / (0.3 ** 3 + 0.7 ** 3), rel=1e-5)


def test_frames_that_are_too_far_apart_to_be_remembered_are_noticed() -> None:
    grid = Grid(1.0, 4, 2.0, 2)
    apart = [(add(grid, lattice(), NOWHERE, stamp_s)[0, 0], grid.apart_s)
             for stamp_s in (0.0, 1.0, 3.5)]
    assert apart == [(N, 0.0), (F, 0.0), (N, 2.5)]


def weighed(codes: np.ndarray, certainty: int, contact: int | None = None) -> list[Sighting]:
    """Make a sighting of one certainty all over, with an obstacle at (0.5, 0.5) if told."""
    contacts = NOWHERE if contact is None else np.array([[0.5, 0.5]])
    return [Sighting(codes, contacts, certainty=np.full((9, 9), certainty, np.uint8),
                     contact_certainty=np.full(len(contacts), contact or 0, np.uint8))]


def test_a_sighting_counts_by_its_certainty() -> None:
    grid = Grid(1.0, 4, 100.0, 2)
    frames = iter(np.arange(0, 10, 0.1))

    def see(certainty: int, contact: int | None = None, codes: np.ndarray | None = None) -> int:
        return int(grid.add_all(weighed(lattice() if codes is None else codes, certainty, contact),
                                next(frames))[2, 2])

    assert [see(127) for _ in range(4)] == [N, N, F, F]  # half as certain: takes longer
    assert [see(255, 64) for _ in range(2)] == [N, O]    # a faint obstacle is not free at least
    assert see(255, 255) == O
    assert [see(127) for _ in range(8)] == [O] * 7 + [N]
    assert see(255, codes=lattice(blocked=np.s_[5, 5])) == O  # of blocked ground: its own nodes'


def test_the_least_certain_node_of_a_cell_tells_how_certainly_it_is_free() -> None:
    grid = Grid(1.0, 4, 100.0, 2)
    [sighting] = weighed(lattice(), 255)
    sighting.certainty[0, 0] = 0
    for i in range(5):
        values = grid.add_all([sighting], 0.1 * i)
    assert values[0, 0] == N
    assert (values.ravel()[1:] == F).all()


def test_of_two_views_the_one_that_sees_more_holds() -> None:
    left, right = lattice(out=np.s_[:, 5:]), lattice(out=np.s_[:, :2])
    right[:3, 2:5] = OBSTACLE    # hides there what the left one sees
    right[6:, 3:5] = BLOCKED     # and blocked is what one of them says is
    values = Grid(1.0, 4, 0.0, 2).add_all([Sighting(left, NOWHERE), Sighting(right, NOWHERE)], 0.0)
    assert values.tolist() == [[F, F, F, F], [F, F, F, F], [F, O, O, F], [F, O, O, F]]
    contact = Sighting(right, np.array([[-0.5, -1.5]]))
    values = Grid(1.0, 4, 0.0, 2).add_all([Sighting(left, NOWHERE), contact], 0.0)
    assert values[0, 1] == O


def test_views_of_other_moments_lie_where_the_robot_was_then() -> None:
    nodes = np.full((9, 9), OUT, np.uint8)
    nodes[4:7, 6:9] = FREE  # the cell a metre ahead and a bit to the left
    grid = Grid(1.0, 4, 100.0, 2)
    for stamp_s in (0.0, 0.1):
        values = grid.add_all([Sighting(nodes, NOWHERE, x=-2.0), Sighting(nodes, NOWHERE)],
                              stamp_s)
    assert np.argwhere(values == F).tolist() == [[2, 1], [2, 3]]


@pytest.mark.parametrize(('change', 'words'), [
    ({'hit': 0.6}, 'hit is 0.6 and occupied_above 0.7'), ({'hit': 0.99}, 'hit <= 0.97'),
    ({'miss': 0.5}, 'give a miss between 0 and 0.5'),
    ({'free_below': 0.6}, 'free_below < 0.5')])
def test_a_belief_that_makes_no_sense_is_refused(change, words) -> None:
    with pytest.raises(ConfigError, match=words):
        Belief(**change)


@pytest.mark.parametrize('stamp_s', [10.0, 50.0], ids=['back', 'not at all'])
def test_time_that_jumps_back_or_stands_still_forgets_all(stamp_s) -> None:
    grid = Grid(1.0, 4, 100.0, 2)
    add(grid, lattice(), NOWHERE, 50.0)
    assert (add(grid, NOTHING, NOWHERE, stamp_s) == N).all()


def test_what_was_free_is_unknown_once_it_is_seen_to_be_unknown_or_hidden() -> None:
    grid = Grid(1.0, 4, 100.0, 2)
    for stamp in range(5):
        add(grid, lattice(), NOWHERE, stamp * 0.01)
    nodes = lattice(unknown=np.s_[1, 1], out=np.s_[:, 8])
    nodes[5:, 4:7] = OBSTACLE  # hidden behind what stands at the contact
    values = add(grid, nodes, np.array([[0.5, 0.5]]), 0.1)
    # What is only out of view is remembered.
    assert values.tolist() == [[N, F, F, F], [F, F, F, F], [F, N, O, N], [F, N, N, N]]


def test_a_large_cell_is_looked_at_closely() -> None:
    assert [nodes_per_cell(r) for r in (0.05, 0.1, 0.11, 0.2, 1.0)] == [2, 2, 4, 4, 20]
    grid = Grid(1.0, 4, 0.0)
    nodes = np.full((81, 81), FREE, np.uint8)
    nodes[3] = BLOCKED
    nodes[33, 33] = UNKNOWN
    values = add(grid, nodes, NOWHERE, 0.0)
    assert values.tolist() == [[O, O, O, O], [F, N, F, F], [F, F, F, F], [F, F, F, F]]


def test_a_stamp_may_come_again_where_several_cameras_take_turns() -> None:
    grid = Grid(1.0, 4, 100.0, 2)
    for _ in range(2):
        values = grid.add_all([Sighting(lattice(), NOWHERE)], 5.0, may_repeat=True)
    assert (values == F).all()
    assert (grid.add_all([Sighting(NOTHING, NOWHERE)], 4.0, may_repeat=True) == N).all()


def test_the_grid_rolls_along_and_keeps_what_stays_in_it() -> None:
    grid = Grid(1.0, 4, 100.0, 2)
    add(grid, NOTHING, np.array([[0.5, 0.5], [-1.5, 0.5]]), 0.0)
    values = add(grid, NOTHING, NOWHERE, 0.1, x=1.2, y=-0.9)
    assert grid.origin == (-1.0, -3.0)
    assert np.argwhere(values == O).tolist() == [[3, 1]]
    values = add(grid, NOTHING, NOWHERE, 0.2)  # and back: what has left is forgotten
    assert np.argwhere(values == O).tolist() == [[2, 2]]
    assert (add(grid, NOTHING, NOWHERE, 0.3, x=50.0) == N).all()


@pytest.mark.parametrize(('yaw', 'cell'), [(0.0, (2, 3)), (np.pi / 2, (3, 1)), (np.pi, (1, 0)),
                                           (-np.pi / 2, (0, 2))])
def test_what_the_robot_sees_is_turned_into_the_grid_s_frame(yaw, cell) -> None:
    grid = Grid(1.0, 4, 100.0, 2)
    nodes = np.full((9, 9), OUT, np.uint8)
    nodes[4:7, 6:9] = FREE  # the cell a metre ahead and a bit to the left
    values = add(grid, nodes, np.array([[1.5, 0.5]]), 0.0, x=20.0, y=-30.0, yaw=yaw)
    assert np.argwhere(values == O).tolist() == [list(cell)]
    values = add(Grid(1.0, 4, 0.0, 2), nodes, NOWHERE, 0.0, x=20.0, y=-30.0, yaw=yaw)
    assert np.argwhere(values == F).tolist() == [list(cell)]


def test_cells_that_are_judged_already_are_remembered_alike() -> None:
    grid = Grid(1.0, 4, 100.0, 2)
    cells = np.full((4, 4), FREE, np.uint8)
    cells[1, 1], cells[2, 2], cells[3] = BLOCKED, UNKNOWN, OUT
    for stamp_s in (0.0, 0.1):
        values = grid.add_cells(cells, stamp_s)
    assert values.tolist() == [[F, F, F, F], [F, O, F, F], [F, F, N, F], [N, N, N, N]]
    seen = np.zeros((4, 4), bool)
    seen[0, 0] = True  # in view, and nothing of it comes back
    values = grid.add_cells(np.full((4, 4), OUT, np.uint8), 0.2, in_view=seen)
    assert values[0].tolist() == [N, F, F, F]
