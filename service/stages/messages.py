"""What travels through the channels between the stages of one job's line.

    intake ─▶ Sample ─▶ decode ─▶ Opened, Block…, Complete | Broken     ─▶ train ─▶ Begun, Learnt…, Mark…, Finished | Abandoned ─▶ record
                              └─▶ Bundle (small files, several at once) ─▶       ─▶ LearntBundle | Apart                        ─▶

Rules: a message passes on the holds of the regions that it names. A file's messages are never mixed
with another's, and each file that was opened ends with exactly one of its two endings, unless the
line stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from service.core.errors import Refusal
from service.core.job_settings import Job
from service.core.records import RejectedRow, Subject
from service.core.terms import Terms
from service.formats.contract import Label
from service.runtime.held import Held
from service.runtime.region import Region
from service.storage.tables import FileRow
from service.subtasks.blocks import Part, StoredBlock
from service.subtasks.bundles import Account, Clean
from service.subtasks.judging import RoundResults
from service.subtasks.learn import Shape
from service.subtasks.report import Ending, Segment


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample file that was taken: its row in the journal, where it lies, and its terms.

    `is_inherited`: it was taken in an earlier life of the daemon, or before the line began anew.
    `ctime_ns`: when its inode last changed before it was read; decode finds out.
    """

    row: FileRow
    path: Path
    terms: Terms
    shown: str
    is_inherited: bool = False
    ctime_ns: int = 0

    @property
    def is_suspect(self) -> bool:
        """Whether lives ended with it: see `suspects`."""
        return self.row.deaths >= 1


@dataclass(frozen=True, slots=True)
class Schema:
    """What a job's first file taught it: the features in their order, the classes, and which columns are names."""

    features: tuple[str, ...]
    classes: tuple[Label, ...] | None
    categorical: tuple[str, ...] = ()
    """The columns of names, where the job hashes such; they are not among the features."""

    def width(self, job: Job) -> int:
        """How many numbers the model gets of a row: the features, and the indicators of what is missing."""
        return len(self.features) + len(job.missing.indicators or ())


# --- decode ─▶ train


@dataclass(frozen=True, slots=True)
class Opened:
    """A file's rows follow."""

    sample: Sample
    schema: Schema


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A decoded chunk; `first_row` is the file's number of its first data row, `share` how much of
    the file lies up to its end."""

    stored: StoredBlock
    held: Held
    first_row: int
    share: float

    def part(self, start: int, stop: int) -> Part:
        return Part(self.stored.region, self.stored.layout, start, stop, self.first_row)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file's bad rows: how many, and the first of them."""

    count: int = 0
    listed: tuple[RejectedRow, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Complete:
    """All of the file's blocks were sent, and the file is as it was when it was admitted."""

    sha256: str
    rows_unlabelled: int
    missing: Mapping[str, int]
    """Rows without a value, by feature, in the features' order."""
    rejected: Rejected
    columns_extra: int
    """Columns that the job's first file didn't have; none where the settings name the features."""


class Cause(Enum):
    """Why a file leaves the line without being learnt."""

    REFUSED = "refused"
    CHANGED = "changed while it was read"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Broken:
    """The file is not to be learnt from; of a duplicate `same` is the admission that it repeats."""

    sample: Sample
    cause: Cause
    refusal: Refusal | None = None
    rejected: Rejected = Rejected()
    sha256: str | None = None
    same: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """Small files in a row, all of whose rows are good, in the blocks that `held` holds; learnt with a learner of `shape`."""

    samples: tuple[Sample, ...]
    clean: tuple[Clean, ...]
    schema: Schema
    shape: Shape
    held: Held


Decoded = Opened | Block | Complete | Broken | Bundle


# --- train ─▶ record


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a file goes on that a private commit cut: rows already learnt, and what record had."""

    row: int
    version: int
    spools: dict[str, int]
    segment: Segment
    digest: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A file's results follow; `before` is the model before it, `scores` the metric states to go on from."""

    sample: Sample
    subject: Subject
    shape: Shape
    schema: Schema
    before: Held
    scores: Held | None
    resumption: Resumption | None


@dataclass(frozen=True, slots=True)
class Learnt:
    """A round's results, and the holds to drop once they are reported; `share` of the file is learnt."""

    round_results: RoundResults
    share: float
    holds: tuple[Held, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mark:
    """A point inside the file to commit privately: the model after `row` accepted rows."""

    row: int
    version: int
    state: Held


@dataclass(frozen=True, slots=True)
class Finished:
    """The file is whole: the model after it, and what its own record says."""

    ending: Ending
    state: Held
    rejected: Rejected


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The file leaves no trace; `begun` says whether record has results of it to forget."""

    broken: Broken
    begun: bool


@dataclass(frozen=True, slots=True)
class LearntBundle:
    """A bundle that was learnt: what to record of each file, the model after each, and the holds to drop then."""

    bundle: Bundle
    accounts: tuple[Account, ...]
    states: tuple[Region, ...]
    holds: tuple[Held, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Apart:
    """A bundle that can't be learnt as one: its files, and those after it, are to be learnt one by one."""

    why: str


Learning = Begun | Learnt | Mark | Finished | Abandoned | LearntBundle | Apart
