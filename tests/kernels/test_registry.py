"""Names: built-in ones, strangers', unknown ones; and specs as text."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import TypeAdapter

from kernels import registry
from kernels.contract import Spec, UnknownName
from kernels.learner import build
from kernels.optimizers import OPTIMIZERS
from kernels.schedules import SCHEDULES


@pytest.mark.parametrize("name", registry.KERNELS)
def test_a_built_in_kernel_has_options_and_defaults_that_the_registry_knows(name):
    kernel = registry.kernel(name)
    options = TypeAdapter(kernel.Options).validate_python({})
    assert options == kernel.Options()
    defaults = kernel.defaults(options)
    assert defaults.optimizer in registry.RULES
    assert min(defaults.batch_rows, defaults.lanes, defaults.local_steps) >= 1
    assert kernel.problem(options) in ("regression", "binary", "multiclass", "clustering")


def test_a_stranger_s_kernel_is_loaded_by_name(strangers):
    assert registry.kernel(f"{strangers}:PlainLinear").__name__ == "PlainLinear"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "ridge",
            "kernel: must be one of linear, logistic, softmax, mlp, fm, mf, kmeans or package.module:Name",
        ),
        ("no.such.module:Name", "can't be loaded, No module named 'no'"),
        ("strangers:Nobody", "can't be loaded, module 'strangers' has no attribute 'Nobody'"),
        ("strangers:NoKernel", "is no kernel, it lacks Options, problem, defaults"),
        (":x", "can't be loaded"),
    ],
)
def test_a_name_that_means_nothing_says_why(strangers, name, text):
    with pytest.raises(UnknownName, match=text):
        registry.kernel(name)


def test_an_unknown_optimizer_and_schedule_list_what_there_is():
    with pytest.raises(UnknownName) as caught:
        registry.optimizer("zzz")
    assert str(caught.value) == f"optimizer: must be one of {', '.join(registry.RULES)}, got 'zzz'"
    with pytest.raises(UnknownName) as caught:
        registry.schedule("")
    assert str(caught.value) == f"schedule: must be one of {', '.join(SCHEDULES)}, got ''"


def test_what_stands_in_a_module_s_table_can_be_named_in_settings():
    assert set(OPTIMIZERS) <= set(registry.RULES)
    for name in ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "ftrl"):
        assert name in OPTIMIZERS


@pytest.mark.parametrize(
    ("kernel", "settings", "text"),
    [
        ("linear", {"l2": -1.0}, "l2: must be 0 or greater"),
        ("mlp", {"hidden": ()}, "hidden: must be one or more widths"),
        ("mlp", {"hidden": (4, 0)}, "hidden: must be one or more widths"),
        ("mlp", {"hidden": (4, 100_001)}, "widths of 1 to 100000, got \\[4, 100001\\]"),
    ],
)
def test_options_out_of_range_say_what_is_allowed(kernel, settings, text):
    with pytest.raises(ValueError, match=text):
        registry.kernel(kernel).Options(**settings)


def test_a_spec_survives_its_text_and_equal_specs_have_equal_text():
    spec = Spec("mlp", 3, {"hidden": [4, 5], "output": "logistic"}, seed=7)
    assert Spec.from_json(spec.to_json()) == spec
    shuffled = Spec("mlp", 3, {"output": "logistic", "hidden": [4, 5]}, seed=7)
    assert shuffled.to_json() == spec.to_json()


def test_a_learner_is_made_once_for_a_spec():
    text = Spec("mlp", 3, {"hidden": [4, 5]}, 2).to_json()
    assert build(text) is build(text)
    assert build(text).parameter_count == 3 * 4 + 4 + 4 * 5 + 5 + 5 * 2 + 2


def test_reading_settings_needs_no_numba():
    code = "import sys, kernels.registry, kernels.learner; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
