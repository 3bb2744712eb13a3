"""Lossless compression of images by an autoencoder: bits-back coding (Townsend et al. 2019)."""
