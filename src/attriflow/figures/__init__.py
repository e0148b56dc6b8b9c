"""Figures: each reads tables and computes nothing but summaries.

A kind is a file with
    draw(summary) or draw(examples) or draw(summary, examples), ... -> Figure
whose arguments name the tables that it reads: `summary`, the study's tidy table (pandas), `sensitivity`, `transfer` and
`interactions` (`attriflow.sensitivity`), `selection` and `curves` (`attriflow.choices`), `mislabel`
(`attriflow.mislabel`), `mechanism`, `stability` and `removal` (the modules of these names), `further`, `further_seeds`,
`further_profile`, `further_truths` (`attriflow.gold`) and `further_convergence` (`attriflow.convergence`),
`ensembles` and `savings` (`attriflow.price`), `theory` (`attriflow.variance`),
`further_dampings`, which is `further` where a method has several dampings, `examples`, one mapping of arrays a setting
(`attriflow.extremes`). A constant SWEPT names hyperparameters of which one method must have several values each; an
empty one asks for several of any.
A constant KINDS names the kinds of ensembles that it cannot do without.
Figures of a table without rows, without what is SWEPT, or without an ensemble of the KINDS are left out of the plan.
"""

from pathlib import Path

from matplotlib.figure import Figure

from attriflow.io import replacing

# one date for all files, so that the same figure is the same bytes
_METADATA = {"pdf": {"CreationDate": None}, "png": {"Software": None}}


def save(figure: Figure, path: Path):
    """Write a figure in the format of the file name's extension."""
    kind = path.suffix[1:]
    with replacing(path) as partial:
        figure.savefig(partial, format=kind, metadata=_METADATA[kind])
