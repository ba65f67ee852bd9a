"""Experts: a few learners side by side, each with its own learning rate, mixed as they prove themselves.

What `optimizer = "auto"` is for linear kernels, for nobody knows the right rate of a stream before it
has run. For each rate η_e one learner takes implicit AdaGrad steps; π are the learners' shares:

    G ← G + Σ ρ_e g_e²      θ_e ← θ_e - η_e g̃_e / √G      g̃_e = g_e / (1 + h_e Σ η_e v²/√G)
    π_e ← (1 - α) π_e e^(-ℓ_e/T) / Σ + α/E                v = (1, z), h_e the loss's curvature

A learner whose rate is 0 has no weights, and learns the intercept alone. Classes aren't scaled, and their intercepts
may have far to go: the log-odds of one row in a hundred are -4.6, and a slow learner would be known as a bad one for
thousands of rows, for nothing but how rare a class is. So of classes an intercept's η_e is at least `INTERCEPT_RATE`.
Rows are scored by Σ π_e θ_e, which for a linear kernel is one linear model. The step is implicit to
first order (Kulis & Bartlett, ICML 2010): it can't shoot past its label, whatever the rate. G, what a
feature's gradients have come to, is one for all learners, who differ by their rates alone; ρ = 0.95 π + 0.05/E
keeps a learner without a share from steps of any length where those that have it are never wrong, and one
row moves its own output by no more than `FARTHEST`. Shares that
never vanish follow a stream whose best rate changes (fixed share: Herbster & Warmuth, Machine Learning
32, 1998). T makes a loss the logarithm of a likelihood. Of classes it is one: T is the running mean of the rows'
weights (1 without weights: how rows compare counts, not what a unit of weight is). Of numbers T is twice the running
mean loss, as if errors were normal with the spread that they have. Of counts and amounts it is the running mean of
Pearson's statistic, the dispersion over the labels' mean (McCullagh & Nelder, Generalized Linear Models, 1989, 9.2). One
row has no more of it than one that lies `FAR_LABEL` deviations off where nothing is learnt (where labels aren't scaled, off T
itself, once that is half full): else one wrong label would leave the shares as they are for thousands of rows.

One label that is far off must not carry a fast learner away for the next hundred rows. So where a loss's
residual grows with the error, a step takes a learner's residual r at no more than c = 3 times the root mean
square σ of its last ones; G takes it whole. What is cut off is r - c <= r²/4c, a twelfth of σ on average,
so that a constant that is learnt costs no more than 1/144 of the squared error, whatever the labels are.
What is wrong with a weight shows in proportion to its feature, so where that is |z| > 3 deviations out its
weight takes the residual at up to |z| σ: few rows tell of a feature that is nearly always 0.

What is best at the next row isn't best for the next file: a fast learner follows labels that resemble
their neighbours, and is wrong an hour later. So the model that serves (parameters, predictions, `before`)
is another mixture of the same learners and of Σ π_e θ_e: its shares are moved by the losses that frozen
copies of these have on the `serve_rows` rows after the copy was taken. Such a short look ahead rarely sees
what is learnt change, and then the fast and sure are the most wrong. So each look moves a part of it, δ, to the slower half
of those that have weights: s_e ← (1 - δ) s_e + δ [e slow]/E_slow. That is an insurance, and has its price: δ is `serve_slow`,
or as much less as it takes that Σ s_e ℓ_e, what the copies lost by their shares, grows by no more than `SLOW_COST`
of itself (of counts, of T a row). The model loses no more than this sum, since losses are convex.

Rules: those of `rules`. A batch's losses count row by row; its gradients are taken at the same θ_e, and
each is damped as if it were the whole batch. Rows may cancel in g and not in g̃: G takes the larger. Penalties are damped,
too: else they would outweigh the gradients of a large batch, and a fast learner have no weights left. But a row's damping is
along the row, and a penalty pulls at all weights: n rows span some n/(n + f) of f features, and so much of it is damped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.contract import Array, Kernel, Layout, Parameters, State
from kernels.optimizers import check_not_negative, check_positive, check_share, shrunk
from kernels.rules import Batch, Entry, Rule, Shapes, needs_linear, penalty
from kernels.scaling import FAR_LABEL, LARGEST, kept

HEAT_MEMORY = 0.999
"""What the running mean of what losses are measured by keeps of itself over a row."""
FAR_OFF = 3.0
"""A residual beyond so many root mean squares is held there."""
LEAST_PART = 0.05
"""What learners have of G whatever their shares, all together."""
SQUARES_MEMORY = 0.99
"""What the running mean of squared residuals keeps of itself over a row. After a jump of what is learnt
all residuals are large: a hundred rows later they are no longer held."""
LEAST_LOSS = 1e-12
"""A mean loss below this counts as this, in squared spreads of the labels."""
RATES = (0.02, 0.1, 0.5, 2.0)
"""The learners' rates for numbers, counts and amounts."""
RATES_OF_CLASSES = (0.0, 0.02, 0.1, 0.2, 0.5, 1.0, 2.0, 8.0)
"""Those for classes: where these are certain a weight has far to go, and in a first hundred rows chance looks like sense.
Eight stand in two registers, as five would."""
INTERCEPT_RATE = 0.5
"""The rate of an intercept that is learnt alone, and of classes the least of any."""
SLOW = 0.3
"""What a look moves at most to the slower half of the learners, of the model that serves."""
SLOW_COST = 0.1
"""By what share of itself that may raise what the copies lost by their shares; of counts, by what share of T a row."""
LEAST_SPREAD = 1e-9
"""What a count's T is at least, for rows of weight 1: counts of a billion."""
EPSILON = 1e-16
"""What G is more than it is in a root: a gradient that is only rounding makes no step."""
FARTHEST = {"mean": 1.0, "none": 4.0, "spread": np.inf}
"""How far one row may move its own output, by how labels are scaled: counts by a factor of e, log-odds by 4, numbers as
far as it takes. The curvature at hand says little of what is a step away, but where the loss is a square."""


@dataclass(frozen=True, slots=True)
class ExpertsOptions:
    """Settings of `experts`; `learning_rate` multiplies all `rates`.

    A rate of 0 makes a learner of the intercept alone. Without `rates` they are `RATES_OF_CLASSES` or `RATES`.
    `share` is what a learner never loses to the others, all together, each step; `serve_rows` and
    `serve_share` say after how many rows the shares that serve are moved, and what they never lose;
    `serve_slow` is what a look moves at most to the slower half of those that learn weights: without it `SLOW`.
    After `half_life` rows a gradient counts half; 0 is for ever.
    """

    learning_rate: float = 1.0
    rates: tuple[float, ...] | None = None
    share: float = 1e-4
    serve_rows: int = 300
    serve_share: float = 0.05
    serve_slow: float | None = None
    half_life: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "serve_rows")
        if self.rates is not None:
            object.__setattr__(self, "rates", tuple(self.rates))  # JSON only knows lists
            _check_rates(self.rates)
        check_share(self, "share", "serve_share")
        if self.serve_slow is not None:
            check_share(self, "serve_slow")
        check_not_negative(self, "half_life")


def _check_rates(rates: Sequence[float]) -> None:
    if not all(0 <= rate < float("inf") for rate in rates):
        raise ValueError(f"rates: must be numbers from 0, got {list(rates)}")
    if not any(rates):
        raise ValueError(f"rates: must have one above 0, got {list(rates)}")
    if len(set(rates)) < len(rates):
        raise ValueError(f"rates: must differ from each other, got {list(rates)}")


class Experts(Rule):
    """The rule of `experts`. Below `optimizer/`, with E learners:

    experts/<name>                   (E, ...) their parameters
    shared/<name>                    (...) G
    shares                           (E,) π
    mean_heat                        (2,) the running mean of rows' losses, weights or Pearson's statistic, and how full it is
    mean_squares                     (E + 1,) those of the residuals, and their weight; where they are held
    frozen/<name>                    (E + 1, ...) the copies; the last is that of the mixture
    frozen/losses, frozen/rows       (E + 1,), (1,) what they cost since they were taken
    serving                          (E + 1,) the shares that serve; zeros before the first copies
    """

    def __init__(self, kernel: Kernel, shapes: Shapes, dtype: str, options: ExpertsOptions) -> None:
        super().__init__(kernel, shapes, dtype, options)
        rates = default_rates(kernel.loss) if options.rates is None else options.rates
        self.rates = np.array(rates)
        scale = getattr(kernel.loss, "scale", "none")
        least = INTERCEPT_RATE if scale == "none" else 0.0
        self.intercept_rates = np.where(
            self.rates > 0, np.maximum(self.rates, least), INTERCEPT_RATE
        )
        self.is_spread, self.is_mean = scale == "spread", scale == "mean"
        self.farthest = FARTHEST[scale]
        self.is_held = self.is_spread and bool(getattr(kernel.loss, "is_bent", False))
        self.slow, self.most_slow = _slow_half(rates), serve_slow(options.serve_slow)

    def layout(self) -> Layout:
        count = len(self.rates)
        found: Layout = {
            "optimizer/frozen/losses": ((count + 1,), "float64"),
            "optimizer/frozen/rows": ((1,), "float64"),
            "optimizer/mean_heat": ((2,), "float64"),
            "optimizer/serving": ((count + 1,), "float64"),
            "optimizer/shares": ((count,), "float64"),
        }
        if self.is_held:
            found["optimizer/mean_squares"] = ((count + 1,), "float64")
        for name, shape in self.shapes.items():
            found[f"optimizer/experts/{name}"] = ((count, *shape), self.dtype)
            found[f"optimizer/frozen/{name}"] = ((count + 1, *shape), self.dtype)
            found[f"optimizer/shared/{name}"] = (shape, self.dtype)
        return found

    def init(self, state: State) -> None:
        state["optimizer/shares"][...] = 1 / len(self.rates)
        for name in self.shapes:
            state[f"optimizer/experts/{name}"][...] = state[f"parameters/{name}"]
        self._take_weights_away(state)

    def continues(self, before: Rule) -> bool:
        return isinstance(before, Experts) and np.array_equal(before.rates, self.rates)

    def go_on(self, before: Rule, old: State, state: State) -> None:
        """Each learner goes on from the one of `before` with its rate, a new one from their mixture.

        What learners who are no more had of the shares goes to the new ones that learn weights, and of
        those that serve to the mixture's copy. The places of new outputs stay as they are.
        """
        if not isinstance(before, Experts):
            return
        known = before.rates.tolist()
        places = [known.index(rate) if rate in known else -1 for rate in self.rates.tolist()]
        shares, serving = old["optimizer/shares"], old["optimizer/serving"]
        following = before.scoring(old)
        for name in self.shapes:
            was, copies = old[f"optimizer/experts/{name}"], old[f"optimizer/frozen/{name}"]
            mixture = following[name].astype(self.dtype)
            _place(state[f"optimizer/experts/{name}"], np.stack([*was, mixture])[places])
            _place(state[f"optimizer/frozen/{name}"], copies[[*places, -1]])
            _place(state[f"optimizer/shared/{name}"], old[f"optimizer/shared/{name}"])
        self._take_weights_away(state)
        state["optimizer/shares"][...] = self._dealt(np.append(shares, 0.0)[places], places)
        if serving.any():
            own = np.append(serving[:-1], 0.0)[places]
            state["optimizer/serving"][...] = np.append(own, 1.0 - own.sum())
        state["optimizer/mean_heat"][...] = old["optimizer/mean_heat"]
        if self.is_held:
            squares = old["optimizer/mean_squares"]
            own = np.append(squares[:-1], _mixed(shares, squares[:-1]))[places]
            state["optimizer/mean_squares"][...] = np.append(own, squares[-1])

    def _dealt(self, shares: Array, places: Sequence[int]) -> Array:
        """The shares of learners that were at `places`, once those that are new and learn weights have what is left."""
        is_new = (np.array(places) < 0) & (self.rates > 0)
        if is_new.any():
            return np.asarray(shares + is_new * ((1.0 - shares.sum()) / is_new.sum()))
        whole = shares.sum()
        return shares / whole if whole > 0 else np.full(len(shares), 1 / len(shares))

    def _take_weights_away(self, state: State) -> None:
        """Learners at rate 0, and their copies, have none."""
        for expert in np.flatnonzero(self.rates == 0):
            state["optimizer/experts/weights"][expert] = 0
            state["optimizer/frozen/weights"][expert] = 0

    def scoring(self, state: State) -> Parameters:
        """The mixture that follows the stream: Σ π_e θ_e."""
        shares = state["optimizer/shares"]
        return {name: _mixed(shares, state[f"optimizer/experts/{name}"]) for name in self.shapes}

    def sums_layout(self) -> Layout:
        count = len(self.rates)
        found: Layout = {
            "eases": ((count, self.shapes["weights"][0]), "float64"),
            "frozen_losses": ((count + 1,), "float64"),
            "heat": ((1,), "float64"),
            "losses": ((count,), "float64"),
            "rows": ((1,), "float64"),
            "weight": ((1,), "float64"),
        }
        if self.is_held:
            found["squares"] = ((count,), "float64")
        for name, shape in self.shapes.items():
            found[f"damped/{name}"] = ((count, *shape), self.dtype)
            found[f"plain/{name}"] = ((count, *shape), self.dtype)
        return found

    def sums(self, state: State, batch: Batch, rate: float) -> State:
        aim, count = batch.aim, len(self.rates)
        found: State = {
            "eases": np.empty((count, batch.raw.shape[1])),
            "frozen_losses": np.empty(count + 1),
            "heat": np.array([self._heats(batch, state["optimizer/mean_heat"]).sum()]),
            "losses": np.empty(count),
            "rows": np.array([float((aim.w > 0).sum())]),
            "weight": np.array([aim.w.sum()]),
        }
        if self.is_held:
            found["squares"] = np.zeros(count)
        for copy in range(count + 1):
            raw = self._forward(state, "frozen", copy, batch.z)
            found["frozen_losses"][copy] = aim.values(raw).sum()
        raws = [self._forward(state, "experts", expert, batch.z) for expert in range(count)]
        pushes = [aim.residual(raw) for raw in raws]
        answer, intercept_answer = self._answers(state, batch, pushes)
        parts: list[tuple[Parameters, Parameters]] = []
        for expert, (raw, push) in enumerate(zip(raws, pushes, strict=True)):
            found["losses"][expert] = aim.values(raw).sum()
            paces = self.rates[expert], self.intercept_rates[expert]
            own = rate * (paces[0] * answer + paces[1] * intercept_answer)
            ease = 1.0 / (1.0 + aim.curvature(raw) * own)
            far = np.abs(push * ease * own)
            ease = ease * np.minimum(1.0, self.farthest / np.maximum(far, 1.0))
            found["eases"][expert] = (aim.w[:, None] * ease).sum(axis=0)
            damped = self._backward(batch.z, push * ease)
            if self.is_held:
                found["squares"][expert] = aim.squares(raw).sum()
                damped = self._held(batch, raw, ease, root(state["optimizer/mean_squares"], expert))
            parts.append((self._backward(batch.z, push), damped))
        for name in self.shapes:
            found[f"plain/{name}"] = np.stack([plain[name] for plain, _ in parts])
            found[f"damped/{name}"] = np.stack([damped[name] for _, damped in parts])
        return found

    def step(self, state: State, sums: State, rows: int, rate: float) -> None:
        keep = kept(self.options.half_life, rows)
        portions = parts_of_squares(state["optimizer/shares"])
        weight = sums["weight"][0]
        eases = sums["eases"] / weight if weight > 0 else np.ones(sums["eases"].shape)
        eases = 1.0 - spanned(rows, self.shapes["weights"][1]) * (1.0 - eases)
        for name in self.shapes:
            theta = state[f"optimizer/experts/{name}"]
            squares = state[f"optimizer/shared/{name}"]
            l1, l2 = penalty(self.kernel, name)
            plain = sums[f"plain/{name}"] / rows + l2 * theta
            ease = eases.reshape(eases.shape + (1,) * (theta.ndim - 2))
            damped = sums[f"damped/{name}"] / rows + l2 * ease * theta
            largest = np.maximum(np.abs(plain), np.abs(damped))
            squares[...] = squares * keep + _mixed(portions, largest * largest)
            rates = self.intercept_rates if name == "intercept" else self.rates
            rates = (rate * rates).reshape(-1, *[1] * (theta.ndim - 1))
            pace = rates * inverse_root(squares)
            theta -= (pace * damped).astype(theta.dtype)
            if l1 > 0:
                theta[...] = shrunk(theta, pace * l1 * ease)
        if sums["rows"][0] > 0:
            self._follow(state, sums)
            self._serve(state, sums)

    def settle(self, state: State) -> None:
        """The parameters become the mixture that serves. With a penalty l1 a weight is zero where the
        learners that have most of the shares say so: else the least of them would keep it alive. Those at
        rate 0 have no say."""
        serving = state["optimizer/serving"]
        whole = serving.sum()
        if whole > 0 and abs(whole - 1.0) > 1e-3:  # the mean of lanes, one of which had no look yet
            serving /= whole
        shares = served_shares(state["optimizer/shares"], serving)
        for name in self.shapes:
            experts = state[f"optimizer/experts/{name}"]
            mixed = _mixed(shares, experts)
            if penalty(self.kernel, name)[0] > 0:
                alive = _mixed(shares, (experts != 0).astype(np.float64))
                voting = sum(shares[self.rates > 0].tolist())
                mixed = np.where(alive > 0.5 * voting, mixed, 0.0)
            state[f"parameters/{name}"][...] = mixed

    def _follow(self, state: State, sums: State) -> None:
        """The shares after a batch, by what each learner lost in it."""
        losses, shares, rows = sums["losses"], state["optimizer/shares"], sums["rows"][0]
        mean_heat, keep = state["optimizer/mean_heat"], HEAT_MEMORY**rows
        mean_heat *= keep
        mean_heat += (1 - keep) * np.array([sums["heat"][0] / rows, 1.0])
        if self.is_held:
            squares, keep = state["optimizer/mean_squares"], SQUARES_MEMORY**rows
            squares *= keep
            squares += (1 - keep) * np.append(sums["squares"] / sums["weight"], 1.0)
        heat = self._heat(*mean_heat)
        shares[...] = moved(shares, losses, heat, self.options.share)

    def _serve(self, state: State, sums: State) -> None:
        """The shares that serve, once the copies have been watched for long enough."""
        losses, rows = state["optimizer/frozen/losses"], state["optimizer/frozen/rows"]
        losses += sums["frozen_losses"]
        rows += sums["rows"]
        if rows[0] < self.options.serve_rows:
            return
        serving, shares = state["optimizer/serving"], state["optimizer/shares"]
        if serving.any():
            watched = (losses[-1], rows[0]) if self.is_spread else state["optimizer/mean_heat"]
            heat = self._heat(*watched)
            serving[...] = moved(serving, losses, heat, self.options.serve_share)
            part = self._slow_part(serving, losses, heat * rows[0])
            serving *= 1.0 - part
            serving[:-1] += part * self.slow
        else:
            serving[:-1], serving[-1] = 0.5 * shares, 0.5
        following = self.scoring(state)
        for name in self.shapes:
            frozen = state[f"optimizer/frozen/{name}"]
            frozen[:-1], frozen[-1] = state[f"optimizer/experts/{name}"], following[name]
        losses[...] = 0
        rows[...] = 0

    def _slow_part(self, serving: Array, losses: Array, heat: float) -> float:
        """δ, after a look whose rows' heat is `heat`, all together."""
        lost = float(serving @ losses)
        behind = float(self.slow @ losses[:-1]) - lost
        price = SLOW_COST * (heat if self.is_mean else lost)
        is_dear = self.most_slow * behind > price  # not where both are infinite
        return max(price / behind, 0.0) if is_dear else self.most_slow

    def _heats(self, batch: Batch, mean_heat: Array) -> Array:
        """What losses are measured by, of each row (n,)."""
        aim = batch.aim
        if self.is_spread:
            return aim.values(batch.raw)
        if not self.is_mean:
            return aim.w
        usual = self._heat(*mean_heat) if mean_heat[1] > 0 else 0.0
        is_known = aim.variation < LARGEST or mean_heat[1] < 0.5
        most = FAR_LABEL * FAR_LABEL * np.maximum(usual, is_known * aim.variation * aim.w)
        heats = np.minimum(aim.w * np.minimum(aim.pearson(batch.raw), LARGEST), most)
        return np.asarray(np.maximum(heats, LEAST_SPREAD * aim.w))

    def _heat(self, total: float, count: float) -> float:
        """T, by a sum of what losses are measured by, and of how many."""
        mean = total / count
        return 2.0 * max(mean, LEAST_LOSS) if self.is_spread else mean

    def _held(self, batch: Batch, raw: Array, ease: Array, spread: float) -> Parameters:
        """The gradient with far-off residuals held, of one output; `ease` (n, 1) damps it."""
        held = batch.aim.residual(raw, FAR_OFF * spread) * ease
        found = self._backward(batch.z, held)
        z = batch.z.astype(np.float64)
        own = batch.aim.residual(raw, spread * np.maximum(FAR_OFF, np.abs(z))) * ease
        found["weights"] = (own * z).sum(axis=0, keepdims=True).astype(self.dtype)
        return found

    def _forward(self, state: State, kind: str, which: int, z: Array) -> Array:
        parameters = {name: state[f"optimizer/{kind}/{name}"][which] for name in self.shapes}
        raw: Array = self.kernel.forward(parameters, z)[0]
        return raw.astype(np.float64, copy=False)

    def _backward(self, z: Array, push: Array) -> Parameters:
        found: Parameters = self.kernel.backward(self.shapes, z, push)
        return found

    def _answers(self, state: State, batch: Batch, pushes: Sequence[Array]) -> tuple[Array, Array]:
        """Σ z²/√G and, of the intercept, 1/√G, (n, k) both, with a row's own gradients in G: how far steps at rate 1 carry its
        outputs, by its residual."""
        keep = kept(self.options.half_life, batch.rows)
        own = _mixed(parts_of_squares(state["optimizer/shares"]), np.square(pushes))
        squares = state["optimizer/shared/weights"] * keep
        zz = np.square(batch.z.astype(np.float64))
        answer = np.empty(own.shape)
        for j in range(own.shape[1]):
            answer[:, j] = (zz * inverse_root(squares[j] + own[:, j : j + 1] * zz)).sum(axis=1)
        if "intercept" not in self.shapes:
            return answer, np.zeros(own.shape)
        return answer, inverse_root(state["optimizer/shared/intercept"] * keep + own)


def _place(array: Array, part: Array) -> None:
    """Puts `part` at the beginning of an array that is as long or, where there are new outputs, longer."""
    array[tuple(slice(length) for length in part.shape)] = part


def parts_of_squares(shares: Array) -> Array:
    """ρ (E,): what each learner's gradients have of G."""
    return np.asarray((1.0 - LEAST_PART) * shares + LEAST_PART / len(shares))


def inverse_root(squares: Array) -> Array:
    """1/√(G + ε)."""
    return np.asarray(1.0 / np.sqrt(squares + EPSILON))


def spanned(rows: Any, features: Any) -> Any:
    """By how much of what damps its rows a batch's penalties are damped."""
    return rows / (rows + features)


def root(mean_squares: Array, expert: int) -> float:
    """σ of a learner's residuals; infinite before one that isn't 0: nothing is held then."""
    if mean_squares[expert] == 0:
        return float("inf")
    return float(np.sqrt(mean_squares[expert] / mean_squares[-1]))


def moved(shares: Array, losses: Array, heat: float, share: float) -> Array:
    """Shares after losses: (1 - α) π e^(-ℓ/T) / Σ + α/n."""
    weights = shares * np.exp(-(losses - losses.min()) / heat)
    return np.asarray((1 - share) * weights / weights.sum() + share / len(shares))


def served_shares(shares: Array, serving: Array) -> Array:
    """The learners' shares (E,) in the model that serves; the mixture's are dealt to them."""
    return np.asarray(serving[:-1] + serving[-1] * shares) if serving.any() else shares


def default_rates(loss: Any) -> tuple[float, ...]:
    """The learners' rates where none are given."""
    return RATES_OF_CLASSES if loss.problem in ("binary", "multiclass") else RATES


def serve_slow(given: float | None) -> float:
    """What a look moves at most to the slower half of the learners."""
    return SLOW if given is None else given


def _slow_half(rates: tuple[float, ...]) -> Array:
    """The slower half of the learners (E,), in equal parts that sum to 1."""
    place = np.argsort(np.argsort(rates, kind="stable"), kind="stable")
    alone = rates.count(0.0)
    count = max(1, (len(rates) - alone) // 2)
    is_slow = (place >= alone) & (place < alone + count)
    return np.asarray(is_slow / count)


def _mixed(shares: Array, arrays: Array) -> Array:
    """Σ shares (E,) · arrays (E, ...), in order."""
    total = shares[0] * arrays[0]
    for share, array in zip(shares[1:], arrays[1:], strict=True):
        total = total + share * array
    return np.asarray(total)


EXPERTS = Entry(ExpertsOptions, Experts, lambda kernel: needs_linear("experts", kernel))
