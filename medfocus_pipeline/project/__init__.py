"""A data set with its settings and stores: what commands and scripts work with."""
