#!/bin/bash
# Runs a command in the workspace's environment.
set -e
. "/opt/ros/$ROS_DISTRO/setup.bash"
. /ws/venv/bin/activate
. /ws/install/setup.bash
exec "$@"
