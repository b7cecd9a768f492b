"""Training the offline models on phantoms: what the package ships besides its code."""
