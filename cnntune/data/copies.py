"""Copies to a device that do not wait for it."""

import torch
from torch import Tensor

PINNED = {"cuda"}  # devices that copy by themselves, from pinned memory


def is_pinned(device: torch.device) -> bool:
    """Whether what is sent to the device is put into pinned memory first."""
    return device.type in PINNED


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor`, on the CPU, on `device`; where the device can, without waiting for its queue.

    A blocking copy waits until all queued kernels are done, and nothing can be queued ahead.
    """
    if not is_pinned(device):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
