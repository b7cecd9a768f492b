"""Everything MedFocus raises on purpose.

A message says what was wrong, what was got, what was expected and what to type next.
"""


class MedFocusError(Exception):
    """Base of every error that a user can mend."""


class ConfigError(MedFocusError):
    """An option, card, profile or name is not usable."""


class DataError(MedFocusError):
    """A data set, or one image of it, cannot be used."""


class ImageError(DataError):
    """One image file cannot be read; the run goes on without it."""


class WeightsError(MedFocusError):
    """Model weights are missing, unreachable, corrupt or of another model."""


class StoreError(MedFocusError):
    """A cached store is missing, locked, of another schema, corrupt or out of step."""


class DamagedError(StoreError):
    """A file of the cache was read, and is not what was written."""


class AccessError(StoreError):
    """A file of the cache cannot be read now; what is in it may be whole."""
