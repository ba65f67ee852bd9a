"""The learners of experts as a pass has them: side by side, with their shares, their copies and the model that serves.

Rules: those of `loops` and `rows`. Number e of a weight's, the last index, is learner e's, so that one vector instruction does for
four. Learners and features are filled up to whole registers with such that are 0 and stay 0. What is done here comes once a
batch, once in some hundred rows, or at a file's end.

    state ──enter──▶ team ──a row, a batch──▶ team ──leave──▶ state
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kernels import losses
from kernels.contract import Array, State
from kernels.experts import LEAST_LOSS, SLOW_COST, SQUARES_MEMORY
from kernels.loops import inlined
from kernels.registers import LENGTH, fma, least, load, smaller, splat, store, summed, zeros

TURN = 2 * LENGTH
"""Features are filled up to a multiple of this."""


class Mix(NamedTuple):
    """The rule's numbers."""

    is_spread: bool
    is_mean: bool
    farthest: float
    is_held: bool
    share: float
    serve_rows: float
    serve_share: float
    half_life: float
    l1: float
    l2: float
    serve_slow: float


class Model(NamedTuple):
    """The state that the pass changes: of E learners with k outputs each. Learner e's output j stands in row e k + j."""

    weights: Array  # (E k, f)
    squares: Array  # (k, f)
    frozen: Array  # ((E + 1) k, f)
    intercept: Array  # (E, k)
    intercept_squares: Array  # (k,)
    frozen_intercept: Array  # (E + 1, k)
    shares: Array  # (E,)
    serving: Array  # (E + 1,)
    frozen_losses: Array  # (E + 1,)
    frozen_rows: Array  # (1,)
    mean_heat: Array  # (2,)
    mean_squares: Array  # (E + 1,) or empty
    served: Array  # (k, f)
    served_intercept: Array  # (k,)
    steps: Array  # (1,)
    rows: Array  # (1,)


class Team(NamedTuple):
    """The same as the pass has it, W learners side by side of whom E are any, and F features."""

    weights: Array  # (k, F, W)
    squares: Array  # (k, F)
    frozen: Array  # ((E + 1) k, F)
    intercept: Array  # (k, W)
    shares: Array  # (W,)
    serving: Array  # (V,), E + 1 filled up
    frozen_losses: Array  # (V,); what fills is infinite


class Room(NamedTuple):
    """Scratch beside that of every pass."""

    z: Array  # (1, F) a row, of which the other rooms' z is the beginning
    along: Array  # (1, F) z/√G
    outputs: Array  # (k, W), as the next four
    pushes: Array  # derivatives by the outputs
    bents: Array  # second ones
    eases: Array  # what implicit steps leave of a row's weight
    steps: Array
    values: Array  # (W,) losses, as all that follow
    lost: Array  # of a batch; what fills is infinite
    idle: Array  # 0, and infinite what fills
    row_squares: Array  # of a batch
    parts: Array  # what each learner has of G
    roots: Array  # of the mean squares of residuals
    paces: Array  # the rates of a batch
    intercept_paces: Array
    learns: Array  # 1, and 0 of those without weights
    powers: Array  # (V,)
    plain: Array  # (k, F, W) sums of gradients; zeros before and after, as the next one
    damped: Array  # (k, F, W)
    plain_ones: Array  # (k, W) those of the intercepts, if there are any
    damped_ones: Array  # (k, W)
    eased: Array  # (k, W) sums of eases


def _whole(length: int, unit: int) -> int:
    """The next multiple of `unit`, and at least one."""
    return max(1, -(-length // unit)) * unit


def filled(values: Array, width: int, filling: float = 0.0) -> Array:
    """The values, and behind them as many fillings as it takes to be `width` long."""
    return np.append(values, np.full(width - len(values), filling))


def team_of(weights: Array, rates: Array) -> tuple[Team, Room]:
    """Room for learners at these rates with weights (k, f) each."""
    (k, features), count, dtype = weights.shape, len(rates), weights.dtype
    wide, width, served = _whole(features, TURN), _whole(count, LENGTH), _whole(count + 1, LENGTH)
    team = Team(
        weights=zeros((k, wide, width), dtype),
        squares=zeros((k, wide), dtype),
        frozen=zeros(((count + 1) * k, wide), dtype),
        intercept=zeros((k, width), dtype),
        shares=zeros((width,)),
        serving=zeros((served,)),
        frozen_losses=filled(np.zeros(count + 1), served, np.inf),
    )
    outputs, pushes, bents, eases, steps, plain_ones, damped_ones, eased = (
        zeros((k, width)) for _ in range(8)
    )
    values, losses, row_squares, parts, paces, intercept_paces = (zeros((width,)) for _ in range(6))
    plain, damped = (zeros((k, wide, width)) for _ in range(2))
    room = Room(
        zeros((1, wide), dtype), zeros((1, wide), dtype), outputs, pushes, bents, eases, steps, values, losses,
        filled(np.zeros(count), width, np.inf), row_squares, parts, np.full(width, np.inf), paces,
        intercept_paces, filled(np.where(rates > 0, 1.0, 0.0), width), zeros((served,)),
        plain, damped, plain_ones, damped_ones, eased,
    )  # fmt: skip
    return team, room


def model_of(state: State) -> Model:
    """The state's arrays, as views; zeros where a model has no intercept."""

    def held(kind: str) -> tuple[Array, Array]:
        weights = state[f"optimizer/{kind}/weights"]
        count, k, features = weights.shape
        none = np.zeros((count, k), weights.dtype)
        return weights.reshape(count * k, features), state.get(f"optimizer/{kind}/intercept", none)

    weights, intercept = held("experts")
    squares = state["optimizer/shared/weights"]
    beside = state.get("optimizer/shared/intercept", np.zeros(len(squares), squares.dtype))
    frozen, frozen_intercept = held("frozen")
    return Model(
        weights,
        squares,
        frozen,
        intercept,
        beside,
        frozen_intercept,
        state["optimizer/shares"],
        state["optimizer/serving"],
        state["optimizer/frozen/losses"],
        state["optimizer/frozen/rows"],
        state["optimizer/mean_heat"],
        state.get("optimizer/mean_squares", np.empty(0)),
        state["parameters/weights"],
        state.get("parameters/intercept", np.zeros(len(squares), squares.dtype)),
        state["steps"],
        state["rows"],
    )


@inlined
def enter(model, team, k):
    """The team ← the state."""
    weights, squares, frozen, intercept, shares, serving, frozen_losses = team
    count = len(model.shares)
    features = model.weights.shape[1]
    for j in range(k):
        for f in range(features):
            for e in range(count):
                weights[j, f, e] = model.weights[e * k + j, f]
            squares[j, f] = model.squares[j, f]
        for e in range(count):
            intercept[j, e] = model.intercept[e, j]
    for at in range((count + 1) * k):
        for f in range(features):
            frozen[at, f] = model.frozen[at, f]
    for e in range(count):
        shares[e] = model.shares[e]
    for e in range(count + 1):
        serving[e], frozen_losses[e] = model.serving[e], model.frozen_losses[e]


@inlined
def leave(model, team, k):
    """The state ← the team."""
    weights, squares, frozen, intercept, shares, serving, frozen_losses = team
    count = len(model.shares)
    features = model.weights.shape[1]
    for j in range(k):
        for f in range(features):
            for e in range(count):
                model.weights[e * k + j, f] = weights[j, f, e]
            model.squares[j, f] = squares[j, f]
        for e in range(count):
            model.intercept[e, j] = intercept[j, e]
    for at in range((count + 1) * k):
        for f in range(features):
            model.frozen[at, f] = frozen[at, f]
    for e in range(count):
        model.shares[e] = shares[e]
    for e in range(count + 1):
        model.serving[e], model.frozen_losses[e] = serving[e], frozen_losses[e]


@inlined
def move_shares(shares, count, lost, heat, share, powers):
    """`experts.moved` of the first `count`, in place; the losses of what fills are infinite."""
    width = len(shares)
    lowest = load(lost, (0,))
    for e in range(LENGTH, width, LENGTH):
        lowest = smaller(lowest, load(lost, (e,)))
    lowest, cold = splat(least(lowest)), 1.0 / heat
    whole = splat(0.0)
    for e in range(0, width, LENGTH):
        power = losses.exp((lowest - load(lost, (e,))) * cold) * load(shares, (e,))
        store(powers, (e,), power)
        whole += power
    rest, floor = (1.0 - share) / summed(whole), share / count
    for e in range(0, width, LENGTH):
        store(shares, (e,), fma(load(powers, (e,)), rest, floor))
    for e in range(count, width):
        shares[e] = 0.0


@inlined
def take_copies(team, frozen_intercept, count, k):
    """The frozen copies become today's learners and mixture."""
    weights, _, frozen, intercept, shares = team[:5]
    kind = weights.dtype.type
    for j in range(k):
        for f in range(weights.shape[1]):
            total = 0.0
            for e in range(count):
                frozen[e * k + j, f] = weights[j, f, e]
                total += shares[e] * weights[j, f, e]
            frozen[count * k + j, f] = kind(total)
        for e in range(count):
            frozen_intercept[e, j] = intercept[j, e]
        total = shares[0] * intercept[j, 0]
        for e in range(1, count):
            total += shares[e] * intercept[j, e]
        frozen_intercept[count, j] = kind(total)


@inlined
def root_of(mean_squares, e):
    """`experts.root`."""
    if mean_squares[e] == 0.0:
        return np.inf
    return math.sqrt(mean_squares[e] / mean_squares[-1])


@inlined
def kept_over(memory, rows):
    """memory^rows: a power takes longer than all else that is done with it, and of one row it is none."""
    return memory if rows == 1.0 else memory**rows


@inlined
def take_squares(mean_squares, squares, weight, rows):
    """The running means after a batch's weighted squares, and how full they are."""
    keep = kept_over(SQUARES_MEMORY, rows)
    share = (1.0 - keep) / weight
    last = len(mean_squares) - 1
    for e in range(last):
        mean_squares[e] = mean_squares[e] * keep + share * squares[e]
    mean_squares[last] = mean_squares[last] * keep + share * weight


@inlined
def heat_of(mix, total, count):
    """`Experts._heat`."""
    mean = total / count
    return 2.0 * max(mean, LEAST_LOSS) if mix.is_spread else mean


@inlined
def slow_part(mix, slow, serving, losses, heat):
    """`Experts._slow_part`."""
    last = len(slow)
    lost, behind = serving[last] * losses[last], 0.0
    for e in range(last):
        lost += serving[e] * losses[e]
        behind += slow[e] * losses[e]
    behind -= lost
    price = SLOW_COST * (heat if mix.is_mean else lost)
    if mix.serve_slow * behind > price:
        return max(price / behind, 0.0)
    return mix.serve_slow


@inlined
def serve(mix, slow, team, frozen_intercept, frozen_rows, heat, count, k, powers):
    """The shares that serve, once the copies have been watched for long enough."""
    shares, serving, losses = team[4:]
    total = 0.0
    for e in range(count + 1):
        total += serving[e]
    if total > 0.0:
        if mix.is_spread:
            heat = heat_of(mix, losses[count], frozen_rows[0])
        move_shares(serving, count + 1, losses, heat, mix.serve_share, powers)
        part = slow_part(mix, slow, serving, losses, heat * frozen_rows[0])
        for e in range(count):
            serving[e] = (1.0 - part) * serving[e] + part * slow[e]
        serving[count] *= 1.0 - part
    else:
        for e in range(count):
            serving[e] = 0.5 * shares[e]
        serving[count] = 0.5
    take_copies(team, frozen_intercept, count, k)
    for e in range(count + 1):
        losses[e] = 0.0
    frozen_rows[0] = 0.0


@inlined
def settle(mix, learns, model, team, k, powers):
    """`Experts.settle`, to the bit."""
    weights, _, _, intercept, shares, serving, _ = team
    served, served_intercept = model.served, model.served_intercept
    count = len(model.shares)
    kind = weights.dtype.type
    is_serving = False
    for e in range(count + 1):
        is_serving |= serving[e] != 0.0
    for e in range(count):
        powers[e] = serving[e] + serving[count] * shares[e] if is_serving else shares[e]
    voting = 0.0
    for e in range(count):
        voting += powers[e] * learns[e]
    for j in range(k):
        for f in range(served.shape[1]):
            total = powers[0] * weights[j, f, 0]
            for e in range(1, count):
                total += powers[e] * weights[j, f, e]
            if mix.l1 > 0.0:
                alive = 0.0
                for e in range(count):
                    alive += powers[e] if weights[j, f, e] != 0.0 else 0.0
                total = total if alive > 0.5 * voting else 0.0
            served[j, f] = kind(total)
        total = powers[0] * intercept[j, 0]
        for e in range(1, count):
            total += powers[e] * intercept[j, e]
        served_intercept[j] = kind(total)
