"""Augmentation: the pipeline, its kernels, its form on the device, presets."""
