"""The image that a job starts from where the user names none: PyTorch's own, on Docker Hub.

Azure's curated images bring Python 3.10, which our code is too young for. Whatever of our locked
packages an image lacks is installed when the machine starts.
"""

from kwanzaa_compute.market.gpus import GPU

FOR_MOST = "pytorch/pytorch:2.13.0-cuda12.6-cudnn9-runtime"
"""The oldest CUDA that this PyTorch comes with: it runs on the oldest driver of a host."""
FOR_BLACKWELL = "pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime"
"""CUDA 12.6 has no code for these cards."""
BLACKWELL = (10, 0)


def image_for(gpu: GPU) -> str:
    """The image whose PyTorch has code for this GPU."""
    return FOR_BLACKWELL if gpu.compute_capability >= BLACKWELL else FOR_MOST
