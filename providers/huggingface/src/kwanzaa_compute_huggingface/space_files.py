"""What is put into a Space: three small files, none of which holds a secret."""

from collections.abc import Mapping
from importlib.resources import files

README = """\
---
title: {name}
emoji: 🌱
colorFrom: green
colorTo: gray
sdk: docker
app_port: 7860
startup_duration_timeout: 1h
---
A run of kwanzaa-compute trains here. It pauses itself; `kwanzaa terminate` removes it.
"""
DOCKERFILE = """\
FROM {image}
WORKDIR /app
COPY page.py ./
EXPOSE 7860
CMD ["python3", "page.py"]
"""


def space_files(name: str, image: str) -> Mapping[str, bytes]:
    """The files of the Space of that name, started from that image."""
    page = files("kwanzaa_compute_huggingface").joinpath("page.py").read_bytes()
    return {
        "README.md": README.format(name=name).encode(),
        "Dockerfile": DOCKERFILE.format(image=image).encode(),
        "page.py": page,
    }
