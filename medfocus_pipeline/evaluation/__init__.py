"""Few-shot protocol, scores and results of stage two."""
