r"""Every confidence interval of the project: of a mean, a share, a median, an area under a curve, and of correlations.

None of them draws random numbers. `benchmarks/coverage.py` simulates how often each holds a known truth.

**Two factors.** A mean correlation is an average over test examples of something measured on subsets (rows), and both
are a sample. With pseudo-values $Y_{it}$ (s, m), of which the jackknife makes a mean of what is none (Quenouille 1956;
Tukey 1958), and the mean squares $MS_R, MS_T, MS_E$ of their two-way analysis of variance, the mean has the variance
$$\frac{MS_R + MS_T - MS_E}{s m} = V_R + V_T - V_E.$$
SOURCE: Dorfman, Berbaum and Metz 1992, who compare readers by their pseudo-values of cases; Cameron, Gelbach and Miller
2011, equation 2.7, for clusters of any two kinds. Resampling rows and test examples together counts $V_E$ three times
(Owen 2007, "The pigeonhole bootstrap"), and no resampling counts it once (McCullagh 2000). The variance of the rows'
own effects, $V_R - V_E$, is not taken below 0; quantiles are those of Student's t with Satterthwaite's 1946 degrees of
freedom, without a term for $V_E$ (both as Hillis 2007, Statistics in Medicine 26, has it for readers and cases).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.special import stdtrit
from scipy.stats import binom

# ASSUME: what a few numbers say of a skewness or of a variance is pulled to what it usually is with the weight of so
# many more; the value was chosen in simulations (`benchmarks/coverage.py`).
_PRIOR = 10
LEAST_ROWS = 5  # below, a row that is left out leaves correlations of three: they take few values, whatever is true
LEAST_TESTS = 2  # one test example does not say how test examples differ

Ends = tuple[float, float]
NONE: Ends = (float("nan"), float("nan"))


def quantile(degrees: float, confidence: float) -> float:
    """Half of the width of an interval in standard errors: Student's t."""
    return float(stdtrit(degrees, (1 + confidence) / 2))


# --- of one sample -------------------------------------------------------------------------------------------


def mean(values: np.ndarray, confidence: float) -> Ends:
    """Of the mean of values (n,): Student's t, its skewness transformed away. NaN for fewer than two.

    Hall 1992, "On the removal of skewness by transformation", equation 2.1: the third power of the studentised mean.
    """
    n = len(values)
    if n < 2:
        return NONE
    centre, deviation = values.mean(), values.std(ddof=1)
    if deviation == 0:
        return float(centre), float(centre)
    skewness = np.mean(((values - centre) / deviation) ** 3) * n / (n + _PRIOR)
    bend, wide = skewness / np.sqrt(n), quantile(n - 1, confidence)
    ends = np.array([wide, -wide])
    if abs(bend) > 1e-6:  # the limit of what follows is `ends` itself
        ends = 3 / bend * (np.cbrt(1 + bend * (ends - bend / 6)) - 1)
    low, high = centre - ends * deviation / np.sqrt(n)
    return min(float(low), float(centre)), max(float(high), float(centre))


def share(values: np.ndarray, confidence: float) -> Ends:
    """Of the mean of values (n,) between 0 and 1, inside of these. NaN for fewer than two.

    Wilson 1927, with as many examples as their variance says they are worth (Kish 1965, the design effect).
    """
    n = len(values)
    if n < 2:
        return NONE
    centre = values.mean()
    binomial = centre * (1 - centre)
    effect = values.var(ddof=1) / binomial if binomial > 0 else 1.0
    return _score(float(centre), lambda at: at * (1 - at) * effect / n, quantile(n - 1, confidence))


def median(values: np.ndarray, confidence: float) -> Ends:
    """Of the median of values (n,), some of which may be infinite. NaN where even the outermost two are too close.

    Hettmansperger and Sheather 1986: between the order statistics whose binomial confidence is just more and just less.
    """
    ordered, n = np.sort(values), len(values)
    held = 1 - 2 * binom.cdf(np.arange(n // 2), n, 0.5)  # of the (k+1)-th from below to the (k+1)-th from above
    if not len(held) or held[0] < confidence:
        return NONE
    outer = int(np.flatnonzero(held >= confidence)[-1])
    if outer + 1 == len(held):
        return float(ordered[outer]), float(ordered[n - 1 - outer])
    inside = (held[outer] - confidence) / (held[outer] - held[outer + 1])
    share = (n - outer - 1) * inside / (outer + 1 + (n - 2 * outer - 2) * inside)
    low, high = (_between(*pair, share) for pair in (ordered[outer : outer + 2], ordered[::-1][outer : outer + 2]))
    return low, high


def _between(outer: float, inner: float, share: float) -> float:
    """On the way from one value to another; infinite ones are no way, the outer stays."""
    return float(outer + share * (inner - outer)) if np.isfinite(inner) and np.isfinite(outer) else float(outer)


# --- of an area under the ROC curve --------------------------------------------------------------------------


def area(found: np.ndarray, others: np.ndarray, confidence: float) -> Ends:
    r"""Of the area under the ROC curve, from the placements of the examples to find (a,) and of the others (b,).

    A placement is the share of the other kind that lies on the right side. The variance at an area $\theta$ is that
    of Hanley and McNeil as Newcombe 2006, method 5, has it, times how much larger the placements make it (DeLong,
    DeLong and Clarke-Pearson 1988); what few placements say of that is pulled to 1 (as variances in Smyth 2004), by the
    degrees of freedom that their kurtosis leaves. The interval holds the areas from which the one found is no further
    than Student's t has it, so that it stays in 0 to 1 and says something where all examples are told apart.
    """
    value, sizes = float(found.mean()), (len(found), len(others))
    parts = [_variance_of_mean(each) for each in (found, others)]
    total, degrees, ratio = sum(variance for variance, _ in parts), 0.0, 1.0
    if total > 0:
        degrees = total**2 / sum(variance**2 / of for variance, of in parts if variance > 0)
        ratio = total / _usual(value, *sizes)
    factor = (degrees * ratio + _PRIOR) / (degrees + _PRIOR)
    return _score(value, lambda at: _usual(at, *sizes) * factor, quantile(degrees + _PRIOR, confidence))


def _usual(area: float, a: int, b: int) -> float:
    """The variance of an area between exponential distributions, made the same for both kinds (Newcombe 2006)."""
    more = (a + b) / 2 - 1
    return area * (1 - area) * (1 + more * (1 - area) / (2 - area) + more * area / (1 + area)) / (a * b)


def _variance_of_mean(values: np.ndarray) -> tuple[float, float]:
    """The variance of a mean, and the degrees of freedom that values of such kurtosis give it."""
    n, squares = len(values), np.square(values - values.mean())
    if n < 2 or not squares.any():
        return 0.0, 1.0
    kurtosis = np.square(squares).mean() / squares.mean() ** 2
    return float(squares.mean() / (n - 1)), 2 * n / max(kurtosis - (n - 3) / (n - 1), 1e-9)


def _score(value: float, variance, wide: float) -> Ends:
    """The ends of the values between 0 and 1 from which `value` is not further than `wide` of their standard errors."""
    ends = []
    for outer in (0.0, 1.0):
        inner = value
        for _ in range(50):  # halve: what is near is inside
            middle = (inner + outer) / 2
            if (value - middle) ** 2 <= wide**2 * variance(middle):
                inner = middle
            else:
                outer = middle
        ends.append(inner)
    return ends[0], ends[1]


# --- of means over rows and test examples --------------------------------------------------------------------


@dataclass(frozen=True)
class Effects:
    """What rows and test examples do to measurements, so that intervals of them, and of differences, can be had.

    value: as measured; centre: without the jackknife's bias (...). rows (..., s), tests (..., m), crossed (..., k):
    effects whose sums of squares are the variances of the mean that are due to them; crossed are the s m interactions,
    or a projection of them. sizes (..., 2): s and m. NaN where an interval cannot be had: fewer rows than LEAST_ROWS or
    test examples than LEAST_TESTS.
    """

    value: np.ndarray
    centre: np.ndarray
    rows: np.ndarray
    tests: np.ndarray
    crossed: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, value: float, pseudovalues: np.ndarray) -> "Effects":
        """From pseudo-values (s, m)."""
        s, m = sizes = pseudovalues.shape
        few = s < LEAST_ROWS or m < LEAST_TESTS
        centre = pseudovalues.mean()
        rows, tests = pseudovalues.mean(1) - centre, pseudovalues.mean(0) - centre
        crossed = pseudovalues - centre - rows[:, None] - tests
        scales = [np.nan] * 3 if few else 1 / np.sqrt([s * (s - 1), m * (m - 1), s * m * (s - 1) * (m - 1)])
        parts = (part * scale for part, scale in zip((rows, tests, crossed.ravel()), scales, strict=True))
        return cls(np.float64(value), centre, *parts, np.array(sizes))

    @classmethod
    def unknown(cls, value: float) -> "Effects":
        """Of a measurement that says nothing of its rows and test examples: no interval."""
        return cls(np.float64(value), np.float64(value), *[np.full(1, np.nan, np.float32)] * 3, np.zeros(2, int))

    def projected(self, kept: int, random: np.random.Generator) -> "Effects":
        """In single precision, with k = `kept` numbers for all interactions where there are more.

        Sums of as many random ones with random signs keep sums of squares, of differences too, on average (Charikar,
        Chen and Farach-Colton 2002). The same state of `random` for all that are compared.
        """
        crossed, many = self.crossed, len(self.crossed)
        if many > kept:
            signed = random.choice([-1.0, 1.0], many) * crossed[random.permutation(many)]
            crossed = np.pad(signed, (0, -many % kept)).reshape(-1, kept).sum(0)
        single = (part.astype(np.float32) for part in (self.rows, self.tests, crossed))
        return Effects(self.value, self.centre, *single, self.sizes)

    @classmethod
    def stacked(cls, each: Sequence["Effects"]) -> "Effects":
        """Several, of any sizes, as one with another axis in front; effects that are not there are 0."""
        return cls(*(_padded([np.asarray(getattr(one, field.name)) for one in each]) for field in fields(cls)))

    @classmethod
    def joined(cls, each: Sequence["Effects"]) -> "Effects":
        """Several stacks behind each other."""
        return cls.stacked([stack[place] for stack in each for place in range(len(stack))])

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, places) -> "Effects":
        return Effects(*(getattr(self, field.name)[places] for field in fields(self)))

    def minus(self, other: "Effects", factor: float = 1.0) -> "Effects":
        """The difference from another, or from so many times another, on the same rows and test examples."""
        own = (getattr(self, field.name) - factor * getattr(other, field.name) for field in fields(self)[:-1])
        return Effects(*own, self.sizes)

    def variance(self) -> tuple[float, float]:
        """Of the mean, and its degrees of freedom."""
        rows, tests, crossed = (float(np.square(part, dtype=np.float64).sum()) for part in self._parts)
        if np.isnan(tests):
            return np.nan, 1.0
        own, (s, m) = max(rows - crossed, 0.0), self.sizes
        uncertain = tests**2 / (m - 1) + (rows**2 / (s - 1) if own > 0 else 0)
        total = tests + own
        return total, max(1.0, total**2 / uncertain) if uncertain > 0 else 1.0

    @property
    def _parts(self) -> tuple[np.ndarray, ...]:
        return self.rows, self.tests, self.crossed

    def interval(self, confidence: float) -> Ends:
        """Of a difference: centre and standard error; it holds the value."""
        variance, degrees = self.variance()
        wide = quantile(degrees, confidence) * np.sqrt(variance)
        return _holding(float(self.value), self.centre - wide, self.centre + wide)

    def of_correlation(self, confidence: float) -> Ends:
        """Of a mean correlation: on Fisher's scale (1921, the inverse hyperbolic tangent), so inside of -1 to 1."""
        variance, degrees = self.variance()
        value = float(np.clip(self.value, -1, 1))
        if np.isnan(variance):
            return NONE
        if variance == 0 or abs(value) == 1:
            return value, value
        slope = 1 / (1 - value**2)
        centre = np.arctanh(value) + slope * (self.centre - value)
        wide = quantile(degrees, confidence) * slope * np.sqrt(variance)
        return _holding(value, np.tanh(centre - wide), np.tanh(centre + wide))

    def of_ratio(self, other: "Effects", confidence: float) -> Ends:
        """Of this over another, from the difference that is 0 on average (Cochran 1977, section 6.5).

        NaN where the interval of the other holds 0.
        """
        if not other.interval(confidence)[0] > 0:
            return NONE
        low, high = self.minus(other, float(self.value / other.value)).interval(confidence)
        return tuple(float((self.value + end) / other.value) for end in (low, high))

    def drawn(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Draws (measurements, count) of a stack around its values: jointly normal, with the variances from above.

        NaN where one of them has no interval.
        """
        if not np.isfinite(self.tests).all():
            return np.full((len(self), count), np.nan)
        rows, crossed = (part.astype(np.float64) @ part.T.astype(np.float64) for part in (self.rows, self.crossed))
        lengths, directions = np.linalg.eigh(rows - crossed)
        own = directions * np.sqrt(lengths.clip(min=0))
        noise = own @ random.standard_normal((len(own), count))
        return self.value[:, None] + noise + self.tests @ random.standard_normal((self.tests.shape[1], count))


def _holding(value: float, low: float, high: float) -> Ends:
    """An interval that was not centred on a value, widened to hold it; NaN stays."""
    return (float(low), float(high)) if np.isnan(low) else (min(float(low), value), max(float(high), value))


def _padded(arrays: list[np.ndarray]) -> np.ndarray:
    if not arrays or arrays[0].ndim == 0:
        return np.array(arrays)
    width = max(each.shape[-1] for each in arrays)
    return np.stack([np.pad(each, (0, width - len(each))) for each in arrays])


def of_statistic(value: float, without: np.ndarray, confidence: float) -> Ends:
    """Of a correlation or cosine, from its values (r,) without each of r units, by the jackknife (Tukey 1958).

    On Fisher's scale, about the value itself: what is estimated is that of as many units. NaN for a single unit.
    """
    r = len(without)
    if r < 2 or np.isnan(value) or np.isnan(without).any():
        return NONE
    variance = (r - 1) * np.var(without)
    if variance == 0 or abs(value) >= 1:
        return value, value
    wide = quantile(r - 1, confidence) * np.sqrt(variance) / (1 - value**2)
    return float(np.tanh(np.arctanh(value) - wide)), float(np.tanh(np.arctanh(value) + wide))


# --- of what is bent -----------------------------------------------------------------------------------------

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)  # of a mean over a normal distribution


def unbent(function, value: float, variance: float) -> float:
    """A function of an estimate without the bias that its bend makes of the estimate's variance.

    Efron and Tibshirani 1993, section 10.2, with normal resamples, whose mean is taken by quadrature: twice what is
    found, less what is found on average around it.
    """
    around = function(value + np.sqrt(variance) * _NODES)
    return float(2 * function(np.array(value)) - (around * _WEIGHTS).sum() / _WEIGHTS.sum())
