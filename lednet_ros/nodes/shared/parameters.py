# SPDX-License-Identifier: Apache-2.0
"""
Parameters of a node, each declared by one row: name, default, text, allowed values.

What must hold of several of them is a Rule.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from lednet_ros.common.errors import ConfigError
from lednet_ros.nodes.shared.qos import is_override, overrides_of, unread_overrides

_NEAR = 0.85  # as difflib has it: max_rnage to max_range


def frame_fault(frame: str) -> str:
    """Say what is wrong with a frame that may be left out; '' if nothing is."""
    return f'is {frame!r}: a frame begins with no slash' if frame.startswith('/') else ''


def own_frame_fault(frame: str) -> str:
    """Say what is wrong with a frame that messages are published in; '' if nothing is."""
    return frame_fault(frame) if frame else 'is empty: give a frame'


@dataclass(frozen=True)
class Param:
    """One parameter. Not live means read-only: set when the node starts."""

    name: str
    # An empty list would be taken for one of bytes, and without a value `ros2 param dump` would
    # write nothing of the node: a list of names begins with one that is empty.
    default: bool | int | float | str | list[str]
    description: str
    choices: tuple[str, ...] = ()
    between: tuple[float, float] | None = None  # both included
    live: bool = False                          # a change takes effect on the next frame
    judge: Callable[[Any], str] | None = None   # what is wrong with a value, after its name

    def descriptor(self) -> ParameterDescriptor:
        """Return what `ros2 param describe` shows, and what rcl enforces."""
        descriptor = ParameterDescriptor(
            description=self.description, read_only=not self.live,
            additional_constraints=f'one of: {", ".join(self.choices)}' if self.choices else '',
            # '-p min_confidence:=1' is an integer to ROS, which would be refused for a float.
            dynamic_typing=isinstance(self.default, float))
        if self.between:
            low, high = self.between
            if isinstance(self.default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(low), to_value=float(high))]
            else:
                descriptor.integer_range = [
                    IntegerRange(from_value=int(low), to_value=int(high))]
        return descriptor

    def refusal(self, value: Any) -> str:
        """Why a value is not allowed; empty if it is. rcl judges other types than float."""
        if value is None:  # what `ros2 param delete` asks for
            return f'{self.name} is without a value: give one'
        if self.choices and value not in self.choices:
            return f'{self.name} is {value!r}: choose {", ".join(self.choices)}'
        if self.judge and (fault := self.judge(value)):
            return f'{self.name} {fault}'
        if isinstance(self.default, float) and type(value) not in (int, float):
            return f'{self.name} is {value!r}: give a number'
        if self.between and not self.between[0] <= value <= self.between[1]:
            return f'{self.name} is {value!r}: give {self.between[0]:g} to {self.between[1]:g}'
        return ''


@dataclass(frozen=True)
class Rule:
    """
    Parameters that have to fit together: a change that breaks it, while the node runs, is refused.

    `check` takes their values, in this order, and raises a ConfigError that names them. The node
    judges what it was started with: it may be mended until it is configured.
    """

    names: tuple[str, ...]
    check: Callable[..., object]

    def refusal(self, node: Node, changes: Mapping[str, Any]) -> str:
        """Why changes to a node's parameters do not fit the others; empty if they do."""
        # While one of them is being declared the node does not have it.
        if not changes.keys() & set(self.names) or not all(map(node.has_parameter, self.names)):
            return ''
        try:
            self.check(*(changes[name] if name in changes else node.get_parameter(name).value
                         for name in self.names))
        except ConfigError as error:
            return str(error)
        return ''


def tell_unread(node: Node) -> None:
    """Log which parameters a node was given and does not have: ROS takes any without a word."""
    logger = node.get_logger()
    names = [name for name in overrides_of(node)
             if not (node.has_parameter(name) or is_override(name))]
    known = [name for name in node.get_parameters_by_prefix('') if not is_override(name)]
    near = {name: found[0] for name in names
            if (found := difflib.get_close_matches(name, known, 1, _NEAR))}
    for name, meant in near.items():
        logger.warning(f'{name} is no parameter of this node: did you mean {meant}?')
    if others := [name for name in names if name not in near]:  # a file may be of several nodes
        logger.info(f'{", ".join(others)}: no parameter of this node: left alone')
    if unread := unread_overrides(node):
        logger.info(unread)


def _is_unset(node: Node, name: str) -> bool:
    given = overrides_of(node).get(name)
    return given is not None and given.type_ == Parameter.Type.NOT_SET


def value_of(node: Node, row: Param) -> Any:
    """Return a parameter's value now."""
    value = node.get_parameter(row.name).value
    return float(value) if isinstance(row.default, float) else value


class Parameters:
    """
    A node's parameters, declared by their rows; a call with a name returns its value now.

    Wrong values are refused with the reason: later, and as they are declared (ConfigError).
    """

    def __init__(self, node: Node, rows: Sequence[Param], rules: Sequence[Rule] = ()) -> None:
        self._node = node
        self._rows: dict[str, Param] = {}
        self._rules: list[Rule] = []
        node.add_on_set_parameters_callback(self._judge)
        self.add(rows, rules)

    def add(self, rows: Sequence[Param], rules: Sequence[Rule] = ()) -> None:
        """Declare more. Raise ConfigError."""
        self._rows.update({row.name: row for row in rows})
        self._rules += rules
        for row in rows:
            try:
                # To ROS an empty list is of no type, and no value.
                is_empty = isinstance(row.default, list) and _is_unset(self._node, row.name)
                self._node.declare_parameter(row.name, row.default, row.descriptor(), is_empty)
            except (InvalidParameterTypeException, InvalidParameterValueException) as error:
                reason = str(error.args[0]).rpartition('Reason: ')[2]
                raise ConfigError(reason.removesuffix(f': {row.name}')) from error

    def __call__(self, name: str) -> Any:
        """Return a parameter's value now."""
        return value_of(self._node, self._rows[name])

    def _judge(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            row = self._rows.get(parameter.name)
            if row and isinstance(row.default, float) and self._node.has_parameter(row.name):
                # rclpy takes the type of whatever is tried, though it be refused.
                self._node.describe_parameter(row.name).type = ParameterType.PARAMETER_DOUBLE
            reason = row.refusal(parameter.value) if row else ''
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        changes = {parameter.name: parameter.value for parameter in parameters}
        reason = next(filter(None, (
            rule.refusal(self._node, changes) for rule in self._rules)), '')
        return SetParametersResult(successful=not reason, reason=reason)
