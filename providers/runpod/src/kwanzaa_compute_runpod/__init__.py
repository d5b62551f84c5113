"""RunPod machines over REST v2. The root imports no SDK."""
