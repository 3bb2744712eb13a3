"""Generative adversarial networks: networks, games and samples."""
