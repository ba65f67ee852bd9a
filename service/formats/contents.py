"""What a file holds that is not what its name says, by its first bytes or by its suffix, and what to do then.

Rules: a remedy leads out, never from one name to the next: whoever follows it drops a file that can be read.
"""

from __future__ import annotations

SHEET = "export the sheet as CSV, and drop that"
UNPACK = "unpack it, and drop what is in it"
TABLE = "export the table as CSV or Parquet, and drop that"
ZIP = f"if it is a workbook (xlsx, ods), {SHEET}; arrays of numpy call .npz; else {UNPACK}"

_MAGICS = {
    b"PAR1": ("parquet", "call it .parquet"),
    b"\x93NUM": ("npy", "call it .npy"),
    b"PK\x03\x04": ("zip", ZIP),
    b"\xd0\xcf\x11\xe0": ("an old workbook (xls)", SHEET),
    b"\x1f\x8b": ("gzip", "let its name end with .gz, behind what it holds (.csv.gz)"),
    b"\x28\xb5\x2f\xfd": ("zstd", "let its name end with .zst, behind what it holds (.csv.zst)"),
    b"BZh": ("bzip2", f"{UNPACK}; or pack it with gzip or zstd"),
    b"\xfd7zX": ("xz", f"{UNPACK}; or pack it with gzip or zstd"),
    b"7z\xbc\xaf": ("7z", UNPACK),
    b"Rar!": ("rar", UNPACK),
    b"ARRO": ("arrow", TABLE),
    b"SQLi": ("sqlite", TABLE),
}
_SUFFIXES = {
    SHEET: ".xlsx .xlsm .xlsb .xls .ods .numbers",
    UNPACK: ".zip .7z .rar .tar .tgz .tbz2 .txz",
    f"{UNPACK}; or pack it with gzip or zstd": ".bz2 .xz .lz4 .br .z",
    TABLE: ".feather .arrow .ipc .orc .avro .sav .dta .sas7bdat .rds .rdata .pkl .pickle .db .sqlite .h5 .hdf5 .mat",
    "write each object on a line of its own (jq -c '.[]'), and call it .jsonl": ".json",
}
_REMEDIES = {suffix: remedy for remedy, listed in _SUFFIXES.items() for suffix in listed.split()}


def found(head: bytes) -> tuple[str, str] | None:
    """What a content is that begins with `head`, and what to do with it; None where that is no text's affair."""
    return next((told for magic, told in _MAGICS.items() if head.startswith(magic)), None)


def mend(suffix: str, *, packs_itself: bool) -> str:
    """What to do with a file of a suffix that isn't taken; `packs_itself` where it is one that is, but packed again."""
    if not suffix:
        return "give its name the suffix of what it holds, .csv say"
    if suffix in _REMEDIES:
        return _REMEDIES[suffix]
    if packs_itself:
        return f"{UNPACK}: {suffix} packs by itself"
    return "rename the file by what it holds; a format that isn't listed, export as CSV"
