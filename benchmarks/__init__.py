"""What the project's speed is measured by: ``python -m benchmarks`` on the CPU, ``python -m benchmarks.gpu_session`` on a GPU."""
