"""What every row of a manifest says, and words that mean something there."""

import pyarrow as pa

SCHEMA_VERSION = 4

ROW = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("class_index", pa.int32(), nullable=False),
        pa.field("class_name", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("patient", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
    ]
)
"""What a scan says of every row; see `COLUMNS`."""

COLUMNS = pa.schema(
    [
        *ROW,
        pa.field("gate_score", pa.float64()),
        pa.field("looks_like", pa.string(), nullable=False),
    ]
)
"""What every row says.

``image_id`` is the SHA-256 of the file's bytes in hex, empty where the file could not be
opened. ``path`` is relative to the data folder, with forward slashes. ``split`` is ``train`` or
``test``, empty without an official split; `SYNTHETIC` of images that train whatever the split,
`VALIDATION` of those that choose a gate's threshold and do neither.
``class_index`` is -1 and ``class_name`` empty where no class is known. ``group`` is the patient, or
empty; ``domain`` the hospital or machine by the CSV's column of that name, or empty; ``patient`` a
digest of what the file's own header says of it (DICOM's PatientID, else StudyInstanceUID).
``width`` and ``height`` are those of the upright picture, 0 if it cannot be read. ``problem`` is
why the row is not usable, else empty. ``gate_score`` is how much the gate takes the picture for a
medical image, below 0 for none, null where it did not look; ``looks_like`` is the modality that it
most looks like, empty where no gate says so.
"""

NOT_MEDICAL = "looks like no medical image"
"""How the problem begins that the gate gives a row."""

SYNTHETIC = "synthetic"
"""The split of images that somebody made: they train and never test."""

VALIDATION = "validation"
"""The split of images that neither train nor test, where the card keeps it."""
