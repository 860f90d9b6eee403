# SPDX-License-Identifier: Apache-2.0
"""What docs/security.md says of the code and of the graph."""
import ast
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / 'lednet_ros').rglob('*.py'))
POLICY = ROOT / 'config' / 'sros2_policy.xml'


def test_what_is_loaded_by_libraries_that_can_unpickle_is_data_alone() -> None:
    """ruff holds the rest of what docs/security.md says (pyproject.toml: S and TID251)."""
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Call):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get('allow_pickle', 'False') == 'False', path
                if ast.unparse(node.func) == 'torch.load':
                    found.append(given.get('weights_only'))
    assert found
    assert set(found) == {'True'}


def allowed_to(node: str) -> dict[str, set[str | None]]:
    """What the policy lets a node have: names by what rclpy calls those who have them."""
    [profile] = [p for p in ElementTree.parse(POLICY).iter('profile') if p.get('node') == node]
    words = {'subscribe': 'subscriber', 'publish': 'publisher', 'reply': 'service'}
    return {words[key]: {entry.text for entry in kind} for kind in profile for key in kind.attrib}


# No label_info without vision_msgs, no TF without tf2_ros, no type descriptions in Humble.
AT_WILL = {'/segment/label_info', '/segment/get_type_description', '/ground/get_type_description',
           '/semantic_cloud/get_type_description', '/tf', '/tf_static'}


def wait_for_policy(graph, node: str) -> None:
    allowed = allowed_to(node)

    def is_listed() -> bool:
        return node in graph.node.get_node_names() and all(
            names - AT_WILL <= {name for name, _ in getattr(
                graph.node, f'get_{which}_names_and_types_by_node')(node, '/')} <= names
            for which, names in allowed.items())

    graph.wait_until(is_listed, 300.0, f'the policy and the graph differ for {node}')


def test_the_sros2_policy_lists_what_the_segment_node_has_in_the_graph(graph) -> None:
    from sensor_msgs.msg import CameraInfo
    node = graph.start('lednet_ros.nodes.segment.segment_node', {
        'input_height': 64, 'input_width': 96, 'lazy': False, 'use_sim_time': True})
    graph.wait_for_output(node, 'ready: ')
    graph.subscribe('/segment/camera_info', CameraInfo)
    wait_for_policy(graph, 'segment')


def test_the_sros2_policy_lists_what_the_ground_node_has_in_the_graph(graph) -> None:
    from sensor_msgs.msg import LaserScan
    remaps = {name: f'/segment/{name}' for name in (
        'label', 'confidence', 'camera_info', 'label_info')}
    node = graph.start('lednet_ros.nodes.ground.ground_node', {
        'min_confidence': 0.5, 'camera.height': 1.0, 'use_sim_time': True}, remaps)
    graph.wait_for_output(node, 'ready: ')
    graph.subscribe('/ground/free_space', LaserScan)
    wait_for_policy(graph, 'ground')


def test_the_sros2_policy_lists_what_the_cloud_node_has_in_the_graph(graph) -> None:
    from sensor_msgs.msg import LaserScan
    remaps = {name: f'/segment/{name}' for name in (
        'label', 'confidence', 'camera_info', 'label_info')}
    node = graph.start('lednet_ros.nodes.cloud.cloud_node', {
        'min_confidence': 0.5, 'camera.height': 1.0, 'use_sim_time': True}, remaps)
    graph.wait_for_output(node, 'ready: ')
    graph.subscribe('/semantic_cloud/free_space', LaserScan)
    wait_for_policy(graph, 'semantic_cloud')
