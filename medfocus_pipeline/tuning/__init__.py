"""Fine-tuning: a network trained on a subset, with a classification layer on its embedding."""
