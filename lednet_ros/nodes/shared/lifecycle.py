# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node whose services answer while what it is configured with is being made."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNodeMixin, TransitionCallbackReturn
from rclpy.node import Node


class Until:
    """An awaitable for rclpy's tasks, which step on whenever the executor wakes."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition = condition

    def __await__(self) -> Generator[None, None, None]:
        """Wait for the condition."""
        while not self._condition():
            yield


def answered(node: LifecycleNodeMixin) -> Callable[..., ChangeState.Response]:
    """
    Return a node's way to change its state, which refuses what is not possible.

    Up to Jazzy rclpy raises over it, and whoever asked waits for an answer for ever.
    """
    change = node._service_change_state.callback

    def change_or_refuse(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return change(request, response)
        except RuntimeError:  # rclpy's own is one; rcl has logged it
            response.success = False
            return response

    return change_or_refuse


def release_participant(node: LifecycleNodeMixin) -> None:
    """Let go of what keeps a destroyed node's participant alive: rclpy's state machine."""
    node.__dict__.pop('_state_machine', None)


class PatientLifecycleNode(LifecycleNodeMixin, Node):
    """
    Awaits `prepare` before it configures itself, be it by itself or for a manager.

    rclpy runs a transition in one go, in which its executor does nothing else.
    """

    def __init__(self, name: str) -> None:
        Node.__init__(self, name)
        # All services of a group that is not reentrant would wait for the one that waits.
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self._change_at_once = answered(self)
        self._service_change_state.callback = self._on_change_state

    async def prepare(self) -> None:
        """Make what configuring needs. It may take long; raise nothing."""

    async def configure_and_activate(self) -> None:
        """Go from unconfigured to active, unless someone else has changed the state meanwhile."""
        await self.prepare()
        if self._is_unconfigured() and (
                self.trigger_configure() == TransitionCallbackReturn.SUCCESS):
            self.trigger_activate()

    def wake(self) -> None:
        """Let what waits look again. From any thread."""
        if self.executor is not None:
            self.executor.wake()

    async def _on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> Any:
        if self._is_unconfigured() and _asks_to_configure(request):
            await self.prepare()
            if not self._is_unconfigured():
                response.success = False
                return response
        return self._change_at_once(request, response)

    def _is_unconfigured(self) -> bool:
        return bool(self._state_machine.current_state[0] == State.PRIMARY_STATE_UNCONFIGURED)


def _asks_to_configure(request: ChangeState.Request) -> bool:
    label = request.transition.label
    return label == 'configure' if label else (
        request.transition.id == Transition.TRANSITION_CONFIGURE)
