"""Pictures of what the pipeline did, for people to look at."""
