"""A simulated Azure: blob storage that is real, prices and Azure ML's API that are played."""
