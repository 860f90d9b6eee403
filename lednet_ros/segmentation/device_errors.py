# SPDX-License-Identifier: Apache-2.0
"""
What CUDA, torch and TensorRT raise, in one line: what it means and what helps.

The node rejects such a frame and goes on (`inference_worker`; docs/running.md, Lifecycle).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import torch

from lednet_ros.common.errors import BackendUnavailable, LednetRosError, OutOfMemory, first_line

# What they say, in lower case and without spaces.
_MEMORY = (
    'outofmemory', 'alloc_failed', 'allocation_failed',
    'cudacachingallocator.cpp')  # Jetson: torch asks NVML, which is not there, how full the GPU is
_MEMORY_OF_COMPUTER = ('defaultcpuallocator', 'couldnotcreateaprimitive')  # all that oneDNN says
# torch_tensorrt passes TensorRT's reason on to stderr alone.
_REFUSED = ('unabletodeserializethetensorrtengine', 'failedtodeserializetensorrtengine',
            'tensorrtexecutioncontext', 'failedtocreateexecutioncontext')
_PLENTY = 1 << 30  # of free memory: no engine of ours needs so much
_MACHINE = (
    (('nokernelimage', 'invaliddevicefunction'),
     'torch {torch} has no code for this GPU: install a torch built for it'),
    (('driverversionisinsufficient', 'systemistooold', 'unsupportedtoolchain', 'ptxversion'),
     "the NVIDIA driver is too old for torch's CUDA {cuda}: update the driver, or install a torch "
     'for an older CUDA'),
    (('notcompiledwithcuda',), 'torch {torch} is a CPU build: install a CUDA build of torch'),
    (('nonvidiadriver', 'nocudagpus', 'nocuda-capable'),
     'the NVIDIA driver does not answer ({said}): check it with nvidia-smi'),
    (('cudaerror', 'cudaunknownerror', 'cudaruntime', 'cudnn_status', 'cublas_status',
      'cudnnerror', 'cudadriver', 'cudacall'),
     'the GPU failed ({said}): look at dmesg, restart the machine'))


@contextmanager
def explained(doing: str, device: torch.device, otherwise: str = '') -> Iterator[None]:
    """
    Turn what CUDA, torch and TensorRT raise into one line: OutOfMemory or BackendUnavailable.

    `otherwise` is the remedy where nothing is known of an error; without it that passes as it is.
    """
    try:
        yield
    except LednetRosError:
        raise
    except Exception as error:
        said = first_line(error)
        free, told = _free(device)
        if _says(error, _REFUSED) and free > _PLENTY:
            raise BackendUnavailable(
                f'{doing}: TensorRT refuses the engine ({said}, see the lines above){told}: if it '
                'is of another GPU or TensorRT, delete it by lednet_compile --prune') from error
        if _is_of_computer(error):
            raise OutOfMemory(
                f'{doing}: the computer is out of memory ({said}): end other programs, or choose '
                'a smaller input_height and input_width') from error
        if is_out_of_memory(error):
            is_sure = _says(error, ['outofmemory'])
            what = 'out of memory' if is_sure else 'most likely out of memory'
            because = '' if is_sure else f' ({said})'
            raise OutOfMemory(
                f'{doing}: {what} on {device}{because}{told}: end other programs on this GPU, or '
                'choose a smaller input_height and input_width') from error
        for says, cause in _MACHINE:
            if _says(error, says):
                raise BackendUnavailable(f'{doing}: ' + cause.format(
                    torch=torch.__version__, cuda=torch.version.cuda, said=said)) from error
        if not otherwise:
            raise
        if not str(error).strip():  # an assert of torch_tensorrt's
            said += f', see the lines above{told}'
        raise BackendUnavailable(f'{doing}: failed ({said}): {otherwise}') from error


def is_out_of_memory(error: BaseException) -> bool:
    """
    Whether memory ran out, the GPU's or the computer's.

    Or TensorRT refused without a word, for which that is the reason.
    """
    return (isinstance(error, torch.cuda.OutOfMemoryError) or _is_of_computer(error)
            or _says(error, (*_MEMORY, *_REFUSED)))


def _is_of_computer(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or _says(error, _MEMORY_OF_COMPUTER)


def _says(error: BaseException, some: Iterable[str]) -> bool:
    text = str(error).lower().replace(' ', '')
    return any(words in text for words in some)


def _free(device: torch.device) -> tuple[int, str]:
    """Return the GPU's free memory in bytes, and the same in words."""
    with suppress(Exception):  # so full, or so broken, that even asking fails
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(device)
        return free, f', {free >> 20} of {total >> 20} MiB are free'
    return 0, ''
