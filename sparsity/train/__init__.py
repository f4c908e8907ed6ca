"""Training: the only package that knows optimisers, steps and devices."""
