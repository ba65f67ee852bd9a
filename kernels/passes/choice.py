"""Which compiled pass a linear kernel has for which rule."""

from __future__ import annotations

from typing import Any

from kernels import registry
from kernels.contract import CompiledPass, Spec
from kernels.experts import Experts
from kernels.newton import Newton
from kernels.normalised import Normalised
from kernels.passes.elementwise import elementwise_pass
from kernels.passes.experts import experts_pass
from kernels.passes.newton import newton_pass
from kernels.passes.normalised import normalised_pass
from kernels.passes.sparse import sparse_pass
from kernels.rules import Elementwise


def linear_pass(spec: Spec, kernel: Any) -> CompiledPass | None:
    """The pass of a linear kernel for the rule of `spec`; None where numpy does it."""
    shapes = {name: value.shape for name, value in sorted(kernel.init(None).items())}
    rule = registry.rule(spec, kernel, shapes)
    if spec.bits:
        return sparse_pass(spec, kernel, rule)
    if isinstance(rule, Experts):
        return experts_pass(spec, kernel, rule)
    if isinstance(rule, Elementwise):
        return elementwise_pass(spec, kernel, rule)
    if isinstance(rule, Newton):
        return newton_pass(spec, kernel, rule)
    if isinstance(rule, Normalised):
        return normalised_pass(spec, kernel, rule)
    return None
