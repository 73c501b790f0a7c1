"""Training of the package's own weights."""
