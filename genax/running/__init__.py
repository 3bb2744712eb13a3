"""What one run is: its folder, loop, checkpoints, logs and processes."""
