"""Runnable studies: distillation runs, training of the package's own weights, benchmarks."""

from fusion_env.siblings import check_sibling

check_sibling("agents", "registry")
