"""The image that a machine starts from where the run names none."""

IMAGE = "python:3.12"
"""Has Python, pip and a C compiler (Triton wants one). What the trainer needs is put beside it, at
the locked versions, when the machine starts; an image with another torch would be fetched twice."""
