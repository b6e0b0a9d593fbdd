"""What trained networks are like: cost, likeness of layers, attention maps."""
