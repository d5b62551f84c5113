"""A self-contained Colab notebook for a run. The root imports no SDK."""
