"""Models that join chapters: state-space models, priors over codes, VAE-GAN."""
