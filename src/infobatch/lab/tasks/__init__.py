"""What the lab trains: each task's model, per-sample losses and metric."""
