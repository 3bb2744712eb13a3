"""Variational autoencoders: networks, objectives and samples."""
