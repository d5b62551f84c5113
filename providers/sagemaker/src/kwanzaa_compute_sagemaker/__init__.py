"""SageMaker training jobs, managed spot included. The root imports no SDK."""
