"""What Transformers are trained for and scored by."""
