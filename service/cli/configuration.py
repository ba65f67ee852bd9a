"""Configuration: the file that settings are read from.

Rules: reading happens here, deciding in `service.core.settings`. Whatever is wrong with the file itself is a
`ConfigurationError` of one line, as whatever is wrong in it.
"""

from __future__ import annotations

from pathlib import Path

from service.core.complaints import printable
from service.core.errors import ConfigurationError
from service.core.settings import Settings, parse

LONGEST_BYTES = 16 << 20  # a configuration is written by people: what is longer is another file


def load(path: Path, root: Path | None = None) -> Settings:
    """The settings in a file; with `root`, below that root. Relative roots are below the working directory."""
    where = printable(str(path))
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"{where}: can't be read: {reason.lower()}") from None
    if len(text) > LONGEST_BYTES:
        raise ConfigurationError(f"{where}: must be at most {LONGEST_BYTES} bytes long")
    try:
        return parse(text.decode("utf-8-sig"), where).at(root)
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{where}: must be UTF-8, got byte 0x{text[error.start]:02x} at {error.start}"
        ) from None
