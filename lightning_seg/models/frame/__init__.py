"""What networks share: blocks, skeleton, encoders, skips, the registry."""
