"""Lambda Cloud machines over its REST API. The root imports no SDK."""
