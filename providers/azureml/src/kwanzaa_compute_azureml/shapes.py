"""Temporary."""
SHAPES = {"Standard_NC4as_T4_v3": ("T4", 1, "0.526", "0.204246"), "Standard_NC24ads_A100_v4": ("A100-80GB", 1, "3.673", "0.75")}
