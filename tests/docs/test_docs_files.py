"""docs/files.md says what is so: its limits and defaults are those of the code."""

from __future__ import annotations

import re

from marked_blocks import CHECKOUT

from kernels.sparse import MOST_BITS
from service.core.job_settings import Missing
from service.core.settings import Intake
from service.formats import npz, unpack
from service.formats.contract import Limits
from service.formats.decoding import MOST_CLASSES
from service.formats.jsonl import DEEPEST

PAGE = (CHECKOUT / "docs" / "files.md").read_text("utf-8")


def test_the_limits_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| (.*?) \| (.*?) \|$", PAGE.partition("## Limits")[2], re.M))
    limits = Limits()
    assert rows["a file, packed and unpacked"].endswith(f"{Intake().max_file_bytes >> 30} GiB")
    assert rows["a row of text"] == f"{limits.max_row_bytes >> 20} MiB"
    assert rows["columns"] == f"{limits.max_columns:,}"
    ratio = (
        f"{limits.max_ratio:g} times its size, judged from {unpack.RATIO_FROM_BYTES >> 20} MiB on"
    )
    assert rows["what a file unpacks to"] == ratio
    assert rows["lists and objects within one another in JSON"] == f"{DEEPEST} deep"
    assert rows["classes that are found in a file"] == f"{MOST_CLASSES:,}"
    assert rows["arrays in an `.npz`"] == f"{npz.MOST_MEMBERS:,}"
    assert rows["slots of sparse rows"] == f"2^{MOST_BITS}"


def test_the_missing_values_that_a_list_replaces_are_the_defaults() -> None:
    (said,) = re.findall(r"the default's (.*?) \|", PAGE)
    assert tuple(re.findall(r"`(.*?)`", said)) == Missing().values
