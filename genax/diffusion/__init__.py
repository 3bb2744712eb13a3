"""Diffusion models: processes, predictions, losses, samplers and denoisers."""
