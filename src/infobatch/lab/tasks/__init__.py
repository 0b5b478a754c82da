"""What is trained: per-sample losses and the metric of each task."""
