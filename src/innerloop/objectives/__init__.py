"""What a task's data means: its losses and metrics."""
