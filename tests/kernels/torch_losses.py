"""The losses in torch's words, as oracles: y (n,) and o (n,), or (n, k) for softmax; numbers at their defaults.

A loss that isn't here is held against numerical derivatives of its own value, as these are, too.
"""

from __future__ import annotations

import torch

TORCH = {
    "squared": lambda o, y: (o - y) ** 2,
    "absolute": lambda o, y: torch.nn.functional.l1_loss(o, y, reduction="none"),
    "huber": lambda o, y: torch.nn.functional.huber_loss(o, y, reduction="none", delta=1.345),
    "quantile": lambda o, y: torch.maximum(0.5 * (y - o), -0.5 * (y - o)),
    "epsilon_insensitive": lambda o, y: torch.clamp((o - y).abs() - 0.1, min=0),
    "poisson": lambda o, y: torch.nn.functional.poisson_nll_loss(o, y, reduction="none"),
    "gamma": lambda o, y: y / torch.exp(o) + torch.log(torch.exp(o)),
    "tweedie": lambda o, y: 2 * torch.exp(o / 2) + 2 * y * torch.exp(-o / 2),
    "logistic": lambda o, y: torch.nn.functional.softplus((1 - 2 * y) * o),
    "hinge": lambda o, y: torch.relu(1 - (2 * y - 1) * o),
    "squared_hinge": lambda o, y: torch.relu(1 - (2 * y - 1) * o) ** 2,
    "modified_huber": lambda o, y: torch.where(
        (2 * y - 1) * o >= -1, torch.relu(1 - (2 * y - 1) * o) ** 2, -4 * (2 * y - 1) * o
    ),
    "softmax": lambda o, y: torch.nn.functional.cross_entropy(o, y.long(), reduction="none"),
}
