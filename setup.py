# SPDX-License-Identifier: Apache-2.0
"""The ament_python package; metadata that ROS reads is in package.xml."""

from glob import glob
from importlib.util import find_spec

from setuptools import find_packages, setup


def unless_there(module: str, requirement: str) -> 'list[str]':
    """
    Name a library for pip, unless there is one that pip may not know by this name.

    Such as apt's OpenCV, where colcon builds, which a second one would hide from cv_bridge. pip
    builds in an environment of its own, in which there is none (--no-build-isolation: in yours).
    """
    return [] if find_spec(module) else [requirement]


setup(
    name='lednet_ros',
    version='0.1.0',
    description='Real-time semantic segmentation with LEDNet for ROS 2',
    author='lednet_ros maintainers',
    author_email='lednet_ros@example.org',
    maintainer='lednet_ros maintainers',
    maintainer_email='lednet_ros@example.org',
    license='Apache-2.0',
    packages=find_packages(include=['lednet_ros', 'lednet_ros.*']),
    package_data={'lednet_ros': ['py.typed', 'model/label_sets/*.yaml', 'model/weights/*',
                                 'projection/traversability/*.yaml',
                                 'datasets/descriptors/*.yaml', 'training/recipes/*.yaml']},
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/lednet_ros']),
        ('share/lednet_ros', ['package.xml']),
        ('share/lednet_ros/launch', glob('launch/*.launch.py')),
        ('share/lednet_ros/config', glob('config/*')),
    ],
    python_requires='>=3.10',
    # torch is left out on purpose: which build of it fits is the machine's matter (README).
    install_requires=['numpy>=1.21', 'safetensors>=0.4', 'PyYAML>=5.4', 'rich>=12.3',
                      'rosbags>=0.10.11', 'matplotlib>=3.5', 'pillow>=9', 'onnx>=1.16',
                      *unless_there('onnxruntime', 'onnxruntime>=1.20'),
                      *unless_there('cv2', 'opencv-python-headless>=4.5')],
    extras_require={
        'test': ['pytest', 'pytest-timeout', 'hypothesis'],  # colcon test looks here
        'training': ['tensorboard>=2.10'],
        'cluster': ['ray>=2.9'],
        'films': ['av>=12'],  # H.264; its wheels hold x264, which is GPL: so it is asked for
        'import': ['pycocotools>=2.0.7'],  # lednet_import's polygons and run lengths
    },
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'segment_node = lednet_ros.cli.console_scripts:segment_node',
            'ground_node = lednet_ros.cli.console_scripts:ground_node',
            'semantic_cloud_node = lednet_ros.cli.console_scripts:semantic_cloud_node',
            'image_source_node = lednet_ros.cli.console_scripts:image_source_node',
            'lednet_demo = lednet_ros.cli.console_scripts:lednet_demo',
            'lednet_benchmark = lednet_ros.cli.console_scripts:lednet_benchmark',
            'lednet_segment = lednet_ros.cli.console_scripts:lednet_segment',
            'lednet_top = lednet_ros.cli.console_scripts:lednet_top',
            'lednet_latency_report = lednet_ros.cli.console_scripts:lednet_latency_report',
            'lednet_train = lednet_ros.cli.console_scripts:lednet_train',
            'lednet_evaluate = lednet_ros.cli.console_scripts:lednet_evaluate',
            'lednet_compile = lednet_ros.cli.console_scripts:lednet_compile',
            'lednet_doctor = lednet_ros.cli.console_scripts:lednet_doctor',
            'lednet_import = lednet_ros.cli.console_scripts:lednet_import',
            'lednet_export = lednet_ros.cli.console_scripts:lednet_export',
            'lednet_select = lednet_ros.cli.console_scripts:lednet_select',
        ],
    },
)
