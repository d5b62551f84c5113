"""Hugging Face Jobs, Spaces and AutoTrain. The root imports no SDK."""
