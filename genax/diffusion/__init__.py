"""Diffusion models: processes, predictions, losses, solvers, guidance and denoisers."""
