"""SAM, MedSAM and SAM 2: their files, loading, and pixels, for segmenters and encoders alike."""
