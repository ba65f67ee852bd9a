"""Classes: which labels a job tells apart, in the order of their indices.

Rules: of two, the second is the one that is learnt as 1: `positive`, or the larger number, or the last of `classes`. Of many, the
order is that of `classes`, or else numbers by size and names by code point. What the settings leave open, the labels of the
job's first file decide, once, names or numbers, as most of its rows have it; where they can't, the file is refused with the key that can. With `classes_max` each file may bring new
classes, in the order of their appearance, until there are so many: names to names, numbers to numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from service.core.complaints import shown
from service.core.errors import FileRefused
from service.core.job_settings import Job, Model
from service.core.spelling import spelt

Label = str | float
Classes = tuple[Label, ...]

_SHOWN = 5  # labels in a note
_USUAL: tuple[Classes, ...] = ((0, 1), ("false", "true"))
"""So usual, the latter as booleans, that they need no naming, even if the first file holds one of them."""
_NAME_CLASSES = "set model.classes to the list of all classes"
_NAME_MANY = f"{_NAME_CLASSES}, or model.classes_max to how many later files may bring"
_NAME_POSITIVE = "set model.positive to the class that is learnt as 1"


def known(job: Job) -> Classes | None:
    """The classes that the settings name, by index: () where there are none, None where the first file must tell."""
    model = job.model
    if model.problem not in ("binary", "multiclass"):
        return ()
    if model.classes is None:
        return None
    named = range(model.classes) if isinstance(model.classes, int) else model.classes
    return _in_order(model, tuple(named))


def of_one_kind(found: Mapping[Label, int]) -> tuple[Label, ...]:
    """The names among a file's labels, or the numbers: whichever more rows have, `found` says how many; of as many, those of
    the kind of the first. The others are slips of the pen."""
    rows = {True: 0, False: 0}
    for label, count in found.items():
        rows[isinstance(label, str)] += count
    first = isinstance(next(iter(found), ""), str)
    kind = first if rows[first] >= rows[not first] else not first
    return tuple(label for label in found if isinstance(label, str) is kind)


def odd_one(found: Mapping[Label, int]) -> Label | None:
    """Of more labels than two, or of names and numbers, the one that is most likely a slip of the pen: the rarest, of as rare
    ones the last to appear."""
    usual = of_one_kind(found)
    odd = [label for label in found if label not in usual] or (usual if len(usual) > 2 else ())
    return min(reversed(odd), key=found.__getitem__, default=None)


def learnt(job: Job, found: Mapping[Label, int], most_bad: float = 0.0) -> Classes:
    """The classes by index, from the labels of the job's first file as they are found, where `known` is None; labels of the rarer
    kind are none of them, nor, of two classes, those beside the two most frequent that no more than a share `most_bad` of the
    rows have.

    Raises FileRefused where they are not enough, or too many, or where nothing says which of two names is positive.
    """
    if not found:
        raise _refusal(job, found, "the first file must hold labels", "drop a labelled file first")
    usual = of_one_kind(found)
    try:
        if job.model.problem == "multiclass":
            return _many(job, usual)
        return _in_order(job.model, _pair(job, _two(job, usual, found, most_bad)))
    except FileRefused:
        if len(usual) == len(found):
            raise
    raise _refusal(job, found, "labels must be all names or all numbers", "mend the labels")


def _two(
    job: Job, usual: tuple[Label, ...], found: Mapping[Label, int], most_bad: float
) -> tuple[Label, ...]:
    """The two labels that most rows have, where so few rows have others that these may be bad, and the positive one isn't of
    these; else all."""
    pair = sorted(usual, key=found.__getitem__, reverse=True)[:2]
    others = [label for label in usual if label not in pair]
    are_few = sum(found[label] for label in others) <= most_bad * sum(found.values())
    return tuple(pair) if are_few and job.model.positive not in others else usual


def grown(job: Job, classes: Classes, found: Iterable[str | float]) -> Classes:
    """The classes with those that a file's labels bring, in the order in which they are `found`, as far as there is room."""
    room = (job.model.classes_max or 0) - len(classes)
    if room <= 0:
        return classes
    kind = isinstance(classes[0], str)
    new = [label for label in found if isinstance(label, str) is kind and label not in classes]
    return (*classes, *new[:room])


def _many(job: Job, found: Collection[str | float]) -> Classes:
    if job.model.classes_max is not None:
        return tuple(found)[: job.model.classes_max]
    if len(found) < 2:
        raise _refusal(job, found, "the first file must hold at least 2 classes", _NAME_MANY)
    return tuple(sorted(found))


def _pair(job: Job, found: Collection[str | float]) -> Classes:
    positive = job.model.positive
    pair = set(found) if positive is None else {*found, positive}
    for usual in _USUAL:
        if pair <= set(usual):
            return usual
    if len(found) > 2:
        raise _refusal(job, found, "the first file must hold 2 classes", _many_instead(job))
    if len(pair) > 2 or len({isinstance(label, str) for label in pair}) > 1:
        rule = f"positive, {shown(positive)}, must be one of the labels"
        raise _refusal(job, found, rule, "set model.positive to one of these")
    if len(pair) < 2:
        raise _refusal(job, found, "the first file must hold 2 classes", _NAME_CLASSES)
    if positive is None and any(isinstance(label, str) for label in pair):
        raise _refusal(
            job, found, "of two names, the settings must say which is positive", _NAME_POSITIVE
        )
    return tuple(sorted(pair, key=_by_size))


def _many_instead(job: Job) -> str:
    """What learns more classes than two in place of the job's kernel."""
    without = "" if job.model.positive is None else ", without model.positive"
    instead = 'model.loss = "softmax"' if job.model.kernel == "mlp" else 'model.kernel = "softmax"'
    return f"correct the labels; for more than two classes set {instead}{without}"


def _in_order(model: Model, classes: Classes) -> Classes:
    """The classes by index: as they are, but of two the positive one, or the larger number, last."""
    if model.problem != "binary":
        return classes
    positive = model.positive
    if positive is None:
        numbers = not any(isinstance(label, str) for label in classes)
        positive = max(classes) if numbers else classes[-1]
    first = next(label for label in classes if label != positive)
    return (first, positive)


def _refusal(job: Job, found: Collection[str | float], rule: str, remedy: str) -> FileRefused:
    some = [shown(spelt(label)) for label in sorted(found, key=_by_size)[:_SHOWN]]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    place = f"column {shown(job.roles['label'])}"
    return FileRefused(rule, place=place, value=", ".join(some) + more or "none", remedy=remedy)


def _by_size(label: str | float) -> tuple[bool, str | float]:
    return (isinstance(label, str), label)  # numbers before names
