"""Runnable studies: distillation runs, training of the package's own weights, benchmarks."""
