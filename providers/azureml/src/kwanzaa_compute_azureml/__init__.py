"""Azure ML command jobs, low-priority tier included. The root imports no SDK."""
