"""A run on disk: its checkpoints and environment."""
