# SPDX-License-Identifier: Apache-2.0
"""Runs of the tests beside each other do not hear each other."""

from __future__ import annotations

import os

from ros_domain import take_domain


def test_a_domain_is_given_once_until_it_is_given_back() -> None:
    first, holder = take_domain()
    second, other = take_domain()
    with other:
        assert len({first, second, int(os.environ['ROS_DOMAIN_ID'])}) == 3
        holder.close()
        again, holder = take_domain()
        holder.close()
    assert again == first
