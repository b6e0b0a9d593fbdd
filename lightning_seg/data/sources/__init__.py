"""Data sets: one file each, over the base that they share."""
