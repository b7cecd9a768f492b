"""The stages: thin shells that read, call the library, show progress and write."""
