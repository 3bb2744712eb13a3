"""Tasks of Transformers: what they are trained for and scored by."""
