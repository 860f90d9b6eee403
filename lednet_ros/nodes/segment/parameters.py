# SPDX-License-Identifier: Apache-2.0
"""
The parameters of segment_node.

The only source: tools/write_docs.py makes config/segment.yaml and docs/parameters.md of it.
"""

from __future__ import annotations

from lednet_ros.model.input_size import MAX_INPUT_SIZE
from lednet_ros.nodes.shared.parameters import Param
from lednet_ros.segmentation.backends.registry import CHOICES
from lednet_ros.segmentation.config import (
    FITS,
    MAX_UNFAMILIAR_SHARE,
    PRECISIONS,
    output_size_fault,
)

TRANSPORTS = ('raw', 'compressed')

PARAMETERS = (
    Param('checkpoint', '',
          'Path of the checkpoint file. If it is empty, the checkpoint of the package is used.'),
    Param('backend', 'auto',
          'Library that runs the network. auto takes TensorRT or torch on a CUDA GPU, and ONNX '
          'Runtime on a CPU.', choices=CHOICES),
    Param('device', 'auto',
          'Device that runs the network: auto, cpu, or cuda:N for the GPU of number N.'),
    Param('precision', 'auto',
          'Number format of the network. auto is fp16 on a CUDA GPU and fp32 on a CPU.',
          choices=PRECISIONS),
    Param('input_height', 0,
          "Height of the network's input in pixels. 0 takes the checkpoint's, 360 for the "
          "package's.",
          between=(0, MAX_INPUT_SIZE)),
    Param('input_width', 0,
          "Width of the network's input in pixels. 0 takes the checkpoint's, 480 for the "
          "package's.",
          between=(0, MAX_INPUT_SIZE)),
    Param('fit', 'letterbox',
          "How an image is resized to the network's input. letterbox keeps its aspect ratio and "
          'pads the rest, stretch fills the input.', choices=FITS),
    Param('cameras', [''],
          "Names of the cameras, each with an image topic <camera>/image. An empty list, or [''], "
          'means one camera without a name, on the topic image.'),
    Param('image_transport', 'raw',
          'Transport of the images. compressed subscribes to JPEG or PNG on <image '
          'topic>/compressed.', choices=TRANSPORTS),
    Param('output_size', 'camera',
          'Size of all outputs: camera (that of the camera image), network (that of the network '
          'input), or WIDTHxHEIGHT such as 424x240.', judge=output_size_fault, live=True),
    Param('min_confidence', 0.0,
          'A pixel whose class is less probable than this is published as 255, unlabelled.',
          between=(0.0, 1.0), live=True),
    Param('unfamiliar_share', 0.0,
          "Publish as 255 each pixel whose score is below this quantile of its class's scores at "
          'calibration, because it probably shows something that the network was not trained on. '
          '0.01 also discards about 1 % of ordinary pixels; less than 0.005 acts as 0.005. It '
          'needs a calibrated checkpoint. 0 turns it off.',
          between=(0.0, MAX_UNFAMILIAR_SHARE)),
    Param('overlay_alpha', 0.5,
          "Opacity of the classes' colours in the overlay.", between=(0.0, 1.0), live=True),
    Param('max_rate_hz', 0.0,
          'Largest number of images that are segmented in a second, for each camera. 0 sets no '
          'limit.', between=(0.0, 1000.0), live=True),
    Param('lazy', True,
          'Subscribe to a camera only while one of its outputs has a subscriber.', live=True),
    Param('engine_cache_dir', '',
          'Directory of the compiled engines. If it is empty, lednet_ros in $XDG_CACHE_HOME or '
          '~/.cache is used.'),
    Param('autostart', True,
          'Configure and activate the node when it starts. Set it to false for a lifecycle '
          'manager.'),
    Param('diagnostics.period_s', 1.0,
          'Time between two reports on /diagnostics in seconds.', between=(0.1, 60.0)),
    Param('diagnostics.max_latency_ms', 0.0,
          'Diagnostics warn if the 95th percentile of the latency from the image stamp to the '
          'published label is above this, in milliseconds. 0 never warns.',
          between=(0.0, 1e6), live=True),
    Param('diagnostics.stale_after_s', 5.0,
          'A camera without an image for so many seconds is reported as stale.',
          between=(0.1, 3600.0), live=True),
)
