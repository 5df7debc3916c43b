"""Exchange with the public repositories of the field: their configs, weights and training scripts."""
