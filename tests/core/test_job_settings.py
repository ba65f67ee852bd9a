"""A job's settings fit each other and its kernel, or are refused with the key that doesn't."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from kernels.losses import LOSSES, LossOptions
from kernels.registry import RULES
from kernels.schedules import SCHEDULES
from service.core.errors import ConfigurationError
from service.core.job_settings import Job
from service.core.settings import parse

BENT = [name for name, formula in LOSSES.items() if formula.curvature is not None]
NUMBERS = [field.name for field in dataclasses.fields(LossOptions) if field.name != "loss"]


def _having(option: str) -> str:
    """The optimizers that have this option."""
    names = [
        name
        for name, entry in RULES.items()
        if option in {field.name for field in dataclasses.fields(entry.Options)}
    ]
    return ", ".join(names)


def job(keys: str = "", kernel: str = "logistic", model: str = "", tables: str = "") -> Job:
    text = f"""
[[jobs]]
name = "a"
label = "y"
{keys}
[jobs.model]
kernel = "{kernel}"
{model}
{tables}
"""
    return parse(text, "c").jobs[0]


def complaint(**parts: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        job(**parts)
    return str(caught.value).removeprefix("c: job a: ")


@pytest.mark.parametrize(
    ("kernel", "model", "allowed"),
    [
        ("linear", "", "intercept, kernel, l1, l2, loss"),
        ("linear", 'loss = "huber"', "delta, intercept, kernel, l1, l2, loss"),
        ("linear", 'loss = "hinge"', "classes, intercept, kernel, l1, l2, loss, positive"),
        ("softmax", "", "classes, classes_max, intercept, kernel, l1, l2"),
        ("kmeans", "", "clusters, kernel"),
    ],
)
def test_the_keys_that_are_told_as_allowed_are_those_that_are(
    kernel: str, model: str, allowed: str
) -> None:
    told = complaint(kernel=kernel, model=model + "\nzzzz = 1")
    assert told == f"model.zzzz: unknown key, allowed are {allowed}"


@pytest.mark.parametrize("name", ["a b", "", "../up", "ä", "x" * 65, "a\\n", "."])
def test_a_name_that_is_no_safe_folder_is_refused(name: str) -> None:
    text = f'[[jobs]]\nname = "{name}"\nlabel = "y"\nmodel.kernel = "linear"\n'
    with pytest.raises(ConfigurationError, match="name: must be 1 to 64"):
        parse(text, "c")


def test_a_kernels_options_come_out_whole() -> None:
    assert job(kernel="linear", model="l2 = 1").model.options == {
        "loss": "squared",
        **dict.fromkeys(NUMBERS),
        "intercept": True,
        "l1": 0.0,
        "l2": 1.0,
    }
    assert job(kernel="mlp", model="hidden = [3, 2]").model.options == {
        "loss": "softmax",
        **dict.fromkeys(NUMBERS),
        "hidden": (3, 2),
        "activation": "relu",
        "dropout": 0.0,
        "l1": 0.0,
        "l2": 1e-4,
    }


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"model": "l2 = -1"}, "model.l2: must be 0 or greater, and finite, got -1.0"),
        ({"model": 'l2 = "x"'}, 'model.l2: must be a number, got "x"'),
        ({"model": "intercept = 1"}, "model.intercept: must be true or false, got 1"),
        (
            {"kernel": "mlp", "model": 'hidden = [3, "a"]'},
            'model.hidden[1]: must be a whole number, got "a"',
        ),
        (
            {"kernel": "mlp", "model": 'activation = "x"'},
            'model.activation: must be "relu", "tanh" or "logistic", got "x"',
        ),
        (
            {"model": "l3 = 1"},
            "model.l3: unknown key, the nearest is l2, "
            "allowed are classes, intercept, kernel, l1, l2, positive",
        ),
        (
            {"model": "options = {}"},
            "model.options: unknown key, allowed are classes, intercept, kernel, l1, l2, positive",
        ),
        (
            {"kernel": "logit"},
            "model.kernel: must be one of linear, logistic, softmax, mlp, fm, mf, kmeans "
            "or package.module:Name, got 'logit'; the nearest is logistic",
        ),
        (
            {"tables": '[jobs.optimizer]\nname = "adagard"'},
            f"optimizer.name: must be one of {', '.join(RULES)}, got 'adagard'; the nearest is adagrad",
        ),
        (
            {"tables": '[jobs.schedule]\nname = "cosin"'},
            f"schedule.name: must be one of {', '.join(SCHEDULES)}, got 'cosin'; the nearest is cosine",
        ),
        (
            {"tables": "[jobs.optimizer]\nclip_gradient = 1"},
            f"optimizer.clip_gradient: unknown key of experts: it belongs to {_having('clip_gradient')}, "
            "allowed are half_life, learning_rate, name, rates, serve_rows, serve_share, serve_slow, share",
        ),
        (
            {"tables": '[jobs.schedule]\nname = "cosine"\npower = 1'},
            "schedule.power: unknown key of cosine: it belongs to inverse_scaling, "
            "allowed are lowest, name, steps, warm_up",
        ),
        (
            {"model": "hidden = [4]"},
            "model.hidden: unknown key of logistic: it belongs to mlp, "
            "allowed are classes, intercept, kernel, l1, l2, positive",
        ),
        (
            {"tables": '[jobs.optimizer]\nname = "foo"'},
            f"optimizer.name: must be one of {', '.join(RULES)}, got 'foo'",
        ),
        (
            {"tables": "[jobs.optimizer]\nlearning_rate = -1"},
            "optimizer.learning_rate: must be greater than 0 and finite, got -1.0",
        ),
        (
            {"tables": "[jobs.optimizer]\nb1 = 0.5"},
            f"optimizer.b1: unknown key of experts: it belongs to {_having('b1')}, allowed are half_life, learning_rate, name, rates, "
            "serve_rows, serve_share, serve_slow, share",
        ),
        (
            {"model": "classes_max = 3"},
            "model.classes_max: must be left out: it belongs to kernels of many classes, got 3",
        ),
        (
            {"kernel": "softmax", "model": "classes = 3\nclasses_max = 2"},
            "model.classes_max: must be 3 or more, the number of classes, got 2",
        ),
        (
            {"kernel": "softmax", "model": "classes_max = 1"},
            "model.classes_max: must be a whole number from 2 to 1000, got 1",
        ),
        (
            {
                "kernel": "softmax",
                "model": "classes_max = 3",
                "tables": '[jobs.optimizer]\nname = "lbfgs"',
            },
            "model.classes_max: must be left out: lbfgs remembers steps of a fixed number of parameters, "
            "got 3",
        ),
        (
            {"tables": '[jobs.csv]\ndelimiter = "a"'},
            'csv.delimiter: must be "auto", or one ASCII character that delimits, got "a"',
        ),
        (
            {"tables": '[jobs.csv]\nquote = "\'"\ndelimiter = "\'"'},
            'csv.delimiter: must be another character than quote, got "\'"',
        ),
        (
            {"tables": '[jobs.csv]\ncomment = ",x"\ndelimiter = ","'},
            'csv.comment: must not begin with the quote or the delimiter, got ",x"',
        ),
        (
            {"tables": '[jobs.csv]\ncomment = "a b"'},
            'csv.comment: must be at most 8 printable ASCII characters without spaces, got "a b"',
        ),
        (
            {"tables": '[jobs.schedule]\nname = "constant"\npower = 1'},
            "schedule.power: unknown key of constant: it belongs to inverse_scaling, allowed are name, warm_up",
        ),
        (
            {"tables": "[jobs.training]\nbatch_rows = 0"},
            'training.batch_rows: must be a whole number from 1, or "auto", got 0',
        ),
        (
            {"tables": '[jobs.training]\ndtype = "f"'},
            'training.dtype: must be "auto", "float32" or "float64", got "f"',
        ),
        (
            {"tables": '[jobs.scaling]\nstandardise = false\n[jobs.missing]\nfill = "mean"'},
            'missing.fill: must be "zero" or "none" where features are not standardised, got "mean"',
        ),
        (
            {"tables": '[jobs.missing]\nindicators = ["a"]'},
            'missing.indicators: must be left out where fill is "none": no row without a value is learnt'
            ' from, got ["a"]',
        ),
        (
            {"tables": '[jobs.missing]\nfill = "zero"\nindicators = ["a", "a"]'},
            'missing.indicators: must be distinct, got ["a", "a"]',
        ),
        (
            {
                "keys": 'features = ["a"]',
                "tables": '[jobs.missing]\nfill = "zero"\nindicators = ["b"]',
            },
            'missing.indicators[0]: must be one of the features, got "b"',
        ),
        (
            {"keys": 'features = ["a"]\ntimes = {t = ["hour"]}'},
            'times.t: must be one of the features, got "t"',
        ),
        (
            {"keys": 'features = ["a", "t hour"]\ntimes = {t = ["hour", "day"]}'},
            'times.t: must be one of the features, got "t"',
        ),
        (
            {"tables": "[jobs.scaling]\nstandardise = false\nclip = 3"},
            "scaling.clip: must be left out, or 0, where standardise is false, got 3.0",
        ),
    ],
)
def test_an_option_that_does_not_fit_is_refused(parts: dict[str, str], expected: str) -> None:
    assert complaint(**parts) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            {"kernel": "mlp", "tables": '[jobs.optimizer]\nname = "experts"'},
            "optimizer.name: must be another one: experts goes with the kernels linear, logistic "
            'and softmax only, got "experts"',
        ),
        (
            {"kernel": "softmax", "tables": '[jobs.optimizer]\nname = "newton"'},
            "optimizer.name: must be another one: newton goes with the kernels linear and logistic only, "
            'which have one output, got "newton"',
        ),
        (
            {"kernel": "mlp", "tables": '[jobs.optimizer]\nname = "newton"'},
            "optimizer.name: must be another one: newton goes with the kernels linear and logistic only, "
            'which have one output, got "newton"',
        ),
        (
            {"kernel": "linear", "model": 'loss = "poisson"\ntau = 0.5'},
            "model.tau: must be left out: loss poisson has no use for it",
        ),
        (
            {"tables": '[jobs.training]\npartition = "features"\nlocal_steps = 4'},
            "training.local_steps: must be 1, or left out, where a step is cut by features, got 4",
        ),
        (
            {"kernel": "fm", "tables": '[jobs.training]\npartition = "features"'},
            'training.partition: must be "samples": kernel fm can\'t be cut by features, '
            'got "features"',
        ),
        (
            {"kernel": "linear", "tables": '[jobs.training]\nclass_weight = "balanced"'},
            'training.class_weight: must be left out: kernel linear learns no classes, got "balanced"',
        ),
        (
            {"tables": "[jobs.training]\nclass_weight = {yes = -1}"},
            "training.class_weight.yes: must be a number above 0, got -1",
        ),
        (
            {"tables": '[jobs.training]\nclass_weight = "even"'},
            'training.class_weight: must be "none", "balanced", or a table of numbers above 0 by class, got "even"',
        ),
        (
            {"kernel": "fm", "tables": '[jobs.output]\nsamples = "factored"'},
            'output.samples: must be another one: kernel fm has no factors; "full" has whole gradients, got "factored"',
        ),
        (
            {"keys": 'exposure = "e"'},
            "exposure: must be left out: it belongs to losses with a logarithmic link (poisson, "
            'gamma, tweedie), got "e"',
        ),
        (
            {"kernel": "softmax", "keys": 'offset = "o"'},
            'offset: must be left out: kernel softmax has several outputs, got "o"',
        ),
        (
            {"keys": 'features = ["u"]', "kernel": "mf"},
            "features: must fit kernel mf: the features are the user and the item, got 1 columns",
        ),
        (
            {"kernel": "kmeans"},
            'label: must be left out: kernel kmeans learns without labels, got "y"',
        ),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(parts: dict[str, str], expected: str) -> None:
    assert complaint(**parts) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            {"kernel": "mf", "tables": '[jobs.missing]\nfill = "zero"'},
            'missing.fill: must be "none": the features of kernel mf are names, not amounts; rows.on_bad_row = "skip" '
            'leaves rows without one of them out, got "zero"',
        ),
        (
            {"kernel": "mf", "tables": '[jobs.missing]\nfill = "mean"'},
            'missing.fill: must be "none": the features of kernel mf are names, not amounts; rows.on_bad_row = "skip" '
            'leaves rows without one of them out, got "mean"',
        ),
        (
            {"kernel": "mf", "tables": "[jobs.scaling]\nstandardise = true"},
            "scaling.standardise: must be false, or left out: the features of kernel mf are names, not amounts, got true",
        ),
        (
            {
                "keys": 'features = ["a", "a is missing"]',
                "tables": '[jobs.missing]\nfill = "zero"\nindicators = ["a"]',
            },
            'missing.indicators[0]: must have a name of its own for its feature, "a is missing" is one already: '
            'rename that column, or leave one of them out, got "a"',
        ),
        (
            {"tables": '[jobs.missing]\nfill = "zero"\nindicators = ["y"]'},
            'missing.indicators[0]: must be one of the features: this is the column of `label`, got "y"',
        ),
        (
            {"tables": '[jobs.missing]\nvalues = [""]'},
            'missing.values: must be a list of strings, none of them empty: an empty cell is missing anyway, got [""]',
        ),
        (
            {"model": 'loss = "hinge"'},
            'model.loss: must be left out: this kernel has a loss of its own, take kernel = "linear" for another, '
            'got "hinge"',
        ),
        (
            {"kernel": "linear", "model": 'loss = "huber"\ndelta = -1'},
            "model.delta: must be greater than 0 and finite, got -1.0",
        ),
        (
            {"kernel": "linear", "model": 'loss = "quantile"\ntau = 1'},
            "model.tau: must be greater than 0 and less than 1, say 0.01 or 0.99 for nearly the least or the largest, "
            "got 1.0",
        ),
        (
            {"kernel": "mlp", "model": "hidden = [4, 0]"},
            "model.hidden: must be one or more widths of 1 to 100000, got [4, 0]",
        ),
        (
            {"tables": "[jobs.optimizer]\nrates = [0.1, -1]"},
            "optimizer.rates: must be numbers from 0, got [0.1, -1.0]",
        ),
        (
            {"model": "classes = 2", "tables": "[jobs.training]\nclass_weight = {yes = 2}"},
            "training.class_weight.yes: must be the weight of one of the classes 0, 1, got 2.0",
        ),
        (
            {
                "kernel": "softmax",
                "model": 'classes = ["a", "b", "c"]',
                "tables": "[jobs.training]\nclass_weight = {b = 2, d = 3}",
            },
            "training.class_weight.d: must be the weight of one of the classes a, b, c, got 3.0",
        ),
        (
            {
                "kernel": "linear",
                "model": 'loss = "hinge"',
                "tables": '[jobs.optimizer]\nname = "newton"',
            },
            "optimizer.name: must be another one: newton steps by a loss's second derivative, which hinge hasn't: take "
            f'another optimizer, or one of the losses {", ".join(BENT)}, got "newton"',
        ),
    ],
)
def test_what_would_be_learnt_otherwise_than_meant_is_refused_with_the_remedy(
    parts: dict[str, str], expected: str
) -> None:
    assert complaint(**parts) == expected


@pytest.mark.parametrize(
    ("kernel", "model", "useless"),
    [
        ("logistic", "", {"exposure"}),
        ("linear", "", {"exposure"}),
        ("linear", 'loss = "poisson"', set()),
        ("softmax", "", {"offset", "exposure"}),
        ("kmeans", "", {"label", "offset", "exposure"}),
    ],
)
def test_the_columns_that_are_told_as_allowed_are_those_that_the_kernel_takes(
    kernel: str, model: str, useless: set[str]
) -> None:
    told = complaint(keys="zzzz = 1", kernel=kernel, model=model)
    allowed = set(told.removeprefix("zzzz: unknown key, allowed are ").split(", "))
    assert allowed == Job.model_fields.keys() - useless


def test_a_step_cut_by_features_has_defaults_of_its_own() -> None:
    given = job(kernel="logistic", tables='[jobs.training]\npartition = "features"')
    assert given.defaults.optimizer == "adagrad"
    assert (given.defaults.lanes, given.defaults.local_steps) == (4, 1)


def test_a_job_without_a_label_learns_clusters_and_no_other() -> None:
    text = '[[jobs]]\nname = "a"\n[jobs.model]\nkernel = "{}"\n'
    assert parse(text.format("kmeans"), "c").jobs[0].label is None
    with pytest.raises(ConfigurationError, match="label: must be given: kernel linear learns from"):
        parse(text.format("linear"), "c")


def test_options_without_an_optimizers_name_are_those_of_the_kernels_own() -> None:
    given = job(tables="[jobs.optimizer]\nlearning_rate = 0.5").optimizer
    assert (given.name, given.options) == ("auto", {"learning_rate": 0.5})


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ('id = "y"', 'id: must be another column than label, got "y"'),
        ('features = ["a", "y"]', 'features[1]: must be another column than label, got "y"'),
        ('features = ["a", "a"]', 'features[1]: must be another column than features[0], got "a"'),
        ('features = ["a"]\ntime = "a"', 'features[0]: must be another column than time, got "a"'),
        ("id = 3", "id: must be a name, as the label is, got 3"),
        ('exclude = ["a", "y"]', 'exclude[1]: must be another column than label, got "y"'),
        ('exclude = ["a", "a"]', 'exclude[1]: must be another column than exclude[0], got "a"'),
        ("exclude = [0]", "exclude[0]: must be a name, as the label is, got 0"),
        (
            "exclude = []",
            'exclude: must be a list of at least one column, by name ("" for those without one) '
            "or by number counted from 0, got []",
        ),
        (
            'features = ["a"]\nexclude = ["b"]',
            "exclude: must be left out where `features` are listed: they say already what is learnt, "
            'got ["b"]',
        ),
        (
            'exclude = ["t"]\ntimes = {t = ["hour"]}',
            'times.t: must be another column than those of `exclude`, got "t"',
        ),
        (
            'exclude = ["c"]\nhashing.interactions = [["a", "c"]]',
            'hashing.interactions[0]: must be a pair of other columns than those of `exclude`, got "c"',
        ),
        (
            'exclude = ["c"]\nmissing = {fill = "mean", indicators = ["c"]}',
            'missing.indicators[0]: must be another column than those of `exclude`, got "c"',
        ),
        (
            'exclude = ["c"]\nhashing.categorical = ["c"]',
            'hashing.categorical[0]: must be another column than those of `exclude`, got "c"',
        ),
        (
            "features = []",
            "features: must be a list of at least one column, "
            "by name or by number counted from 0, got []",
        ),
    ],
)
def test_each_column_has_one_part(keys: str, expected: str) -> None:
    assert complaint(keys=keys) == expected


def test_columns_are_all_names_or_all_numbers() -> None:
    text = '[[jobs]]\nname = "a"\nlabel = 0\n{}\nmodel.kernel = "linear"\n'
    assert parse(text.format("features = [2, 1]"), "c").jobs[0].columns == {"label": 0}
    for keys in ('features = ["x"]', 'id = "x"'):
        with pytest.raises(ConfigurationError, match="must be a number, as the label is"):
            parse(text.format(keys), "c")
    with pytest.raises(ConfigurationError, match="a column's name, or its number"):
        parse(text.format("id = -1"), "c")


@pytest.mark.parametrize(
    ("kernel", "model", "expected"),
    [
        ("linear", "classes = 2", "classes: must be left out: kernel linear learns numbers, got 2"),
        ("softmax", "positive = 1", "positive: must be left out: it belongs to kernels of two"),
        ("logistic", "classes = 3", "classes: must be 2 classes for kernel logistic, got 3"),
        ("logistic", 'classes = ["a"]', "classes: must be a list of at least 2 names or numbers"),
        ("softmax", 'classes = ["a", "b", "a"]', 'classes: must be distinct, got ["a", "b", "a"]'),
        (
            "softmax",
            'classes = ["1", "b"]',
            'classes: must be all names or all numbers, got [1, "b"]',
        ),
        (
            "logistic",
            'classes = ["a", "b"]\npositive = "c"',
            'positive: must be one of the classes ["a", "b"], got "c"',
        ),
        ("logistic", "positive = true", "positive: must be a name or a number, got true"),
    ],
)
def test_classes_fit_the_kernel(kernel: str, model: str, expected: str) -> None:
    assert complaint(kernel=kernel, model=model).startswith(f"model.{expected}")


def test_a_label_is_the_same_however_it_is_written() -> None:
    written = [job(model=f"positive = {label}").model for label in ("1", "1.0", '"1"', '"1.0"')]
    assert {model.positive for model in written} == {1}
    assert {type(model.positive) for model in written} == {int}
    for name in ("nan", "inf", "1_000", "1,5", "up"):
        assert job(model=f'positive = "{name}"').model.positive == name


STRANGER = """
from dataclasses import dataclass
from kernels.linear import Logistic

@dataclass(frozen=True, slots=True)
class Options:
    depth: int
    intercept: bool = True
    l1: float = 0.0
    l2: float = 0.0

class Deep(Logistic):
    Options = Options
"""


@pytest.fixture
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("stranger", "raises"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_a_strangers_kernel_has_its_own_options(strangers: Path) -> None:
    (strangers / "stranger.py").write_text(STRANGER)
    given = job(kernel="stranger:Deep", model="depth = 3").model
    assert given.options == {"depth": 3, "intercept": True, "l1": 0.0, "l2": 0.0}
    assert given.problem == "binary"
    assert complaint(kernel="stranger:Deep") == "model.depth: must be given"


@pytest.mark.parametrize("body", ["raise OSError('gone')", "def f(:", "import nowhere"])
def test_a_strangers_module_that_fails_is_a_wrong_setting(strangers: Path, body: str) -> None:
    (strangers / "raises.py").write_text(f"{body}\n")
    text = complaint(kernel="raises:Deep")
    assert text.startswith("model.kernel: 'raises:Deep' can't be loaded, ")
    assert text.isprintable()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "    def __init__(self, options):\n        pass",
            "model.kernel: must keep to docs/kernels.md: stranger:Deep: __init__ must not raise an error, "
            "got TypeError: Deep.__init__() takes 2 positional arguments but 4 were given",
        ),
        (
            "    @classmethod\n    def problem(cls, options):\n        return options.breadth",
            "model.kernel: must keep to docs/kernels.md: stranger:Deep: problem must not raise an error, "
            "got AttributeError: 'Options' object has no attribute 'breadth'",
        ),
    ],
)
def test_a_strangers_kernel_that_breaks_its_contract_is_a_wrong_setting(
    strangers: Path, body: str, expected: str
) -> None:
    (strangers / "stranger.py").write_text(f"{STRANGER}\n{body}\n")
    assert complaint(kernel="stranger:Deep", model="depth = 3") == expected


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"keys": 'format = "svmlight"'}, 'label: must be left out for format = "svmlight"'),
        ({"keys": 'format = "csv"'}, 'format: must be "auto", "svmlight" or "vw"'),
        (
            {"tables": "[jobs.hashing]\nbits = 25"},
            "hashing.bits: must be a whole number from 1 to 24",
        ),
        ({"tables": "[jobs.hashing]\nngrams = 2"}, "hashing.ngrams: must be 1, or left out"),
        (
            {"tables": '[jobs.hashing]\ncategorical = ["a"]\ntext = ["a"]'},
            "hashing.text[0]: must be another column than categorical[0]",
        ),
        (
            {"tables": '[jobs.hashing]\ncategorical = ["y"]'},
            "hashing.categorical[0]: must be another column than label",
        ),
        (
            {"keys": 'features = ["a"]', "tables": '[jobs.hashing]\ntext = ["b"]'},
            "hashing.text[0]: must be one of the features",
        ),
        (
            {"tables": '[jobs.hashing]\ntext = ["b"]\ninteractions = [["a", "b"]]'},
            "hashing.interactions[0]: must be no column of text",
        ),
        (
            {"kernel": "mlp", "tables": '[jobs.hashing]\ncategorical = "auto"'},
            "model.kernel: must be one of linear, logistic, softmax where rows are sparse",
        ),
        (
            {"model": "l1 = 0.1", "tables": '[jobs.hashing]\ncategorical = "auto"'},
            'model.l1: must be 0 where rows are sparse, or optimizer.name "ftrl"',
        ),
        (
            {"tables": '[jobs.hashing]\ncategorical = "auto"\n[jobs.training]\nlanes = 2'},
            "training.lanes: must be 1, or left out, where rows are sparse",
        ),
        (
            {"tables": '[jobs.hashing]\ncategorical = "auto"\n[jobs.output]\nsamples = "full"'},
            'output.samples: must be "norms" or "off" where rows are sparse',
        ),
        (
            {"tables": '[jobs.hashing]\ncategorical = "auto"\n[jobs.optimizer]\nname = "adam"'},
            "optimizer.name: must be one of normalised, ftrl where rows are sparse",
        ),
    ],
)
def test_what_sparse_rows_can_t_have_is_refused_by_its_key(
    parts: dict[str, str], told: str
) -> None:
    assert told in complaint(**parts)


@pytest.mark.parametrize(
    ("keys", "tables"),
    [
        ('times = {t = ["hour"]}', ""),
        ('features = ["a", "t"]\ntimes = {t = ["hour"]}', ""),
        ('features = ["a", "t hour"]\ntimes = {t = ["hour"]}', ""),
        (
            'features = ["a", "t hour"]\ntimes = {t = ["hour", "day"]}',
            '[jobs.hashing]\ncategorical = ["t day"]',
        ),
    ],
)
def test_times_may_be_features_themselves_or_by_all_their_parts(keys: str, tables: str) -> None:
    assert job(keys=keys, tables=tables).times is not None


def test_times_are_features_by_their_numbers_too() -> None:
    text = """
[[jobs]]
name = "a"
label = 0
features = [1]
times = {1 = ["hour"]}
model.kernel = "linear"
"""
    assert parse(text, "c").jobs[0].times == {"1": ("hour",)}


def test_classes_that_are_booleans_are_one_in_any_case() -> None:
    model = 'classes = ["FALSE", "True"]\npositive = "TRUE"'
    made = job(model=model, tables="[jobs.training]\nclass_weight = {True = 2, FALSE = 1}")
    assert (made.model.classes, made.model.positive) == (("false", "true"), "true")
    assert made.training.class_weight == {"true": 2.0, "false": 1.0}
    assert complaint(model='classes = ["true", "True"]').startswith(
        "model.classes: must be distinct"
    )
    told = complaint(tables="[jobs.training]\nclass_weight = {True = 2, true = 1}")
    assert told == 'training.class_weight: must name each class once, got ["True", "true"]'
