"""What `prepare` made, member by member, from the blocks of an ensemble.

A block holds whole models, with all their members: the arrays of a member under its place in the block, `0/train`, and
with an entry a member `models` and `numbers`, which model of the ensemble it is of and which of its members it is,
`seconds`, `cpu_seconds` and `flops`, what making it took, and `shared`: whether it holds its residuals alone,
everything else being that of its model's first member.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np

from attriflow.flops import Spent
from attriflow.io import load_arrays
from attriflow.scores import of_gradients
from attriflow.sizes import EnsembleSize
from attriflow.spectrum import Spectrum


def placed(blocks: list[Path]) -> Iterator[tuple[tuple[int, int], dict[str, np.ndarray]]]:
    """Every member, one after the other: its model and number, from 0, and its arrays, mapped from their files.

    Members that share arrays have the very same ones.
    """
    for path in blocks:
        block, first = load_arrays(path), {}
        members = zip(*(block[name].tolist() for name in ("models", "numbers", "shared")), strict=True)
        for place, (model, number, shared) in enumerate(members):
            own = {key.split("/", 1)[1]: array for key, array in block.items() if key.startswith(f"{place}/")}
            if not shared:
                first = own if number == 0 else first
            yield (model, number), first | own if shared else own


def members(blocks: list[Path], size: EnsembleSize) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of the members of an ensemble of a size."""
    for place, arrays in placed(blocks):
        if place[0] >= size.models:
            return
        if size.holds(*place):
            yield arrays


def spectra(
    blocks: list[Path], spectrum: Callable[[dict[str, np.ndarray]], Spectrum], done: Callable[[], None]
) -> Callable[[EnsembleSize], list[Spectrum]]:
    """The spectra of every member, once where members share their gradients; a function that gives those of a size.

    done: called after every member.
    """
    places, found = [place for place, _ in placed(blocks)], []
    for each in of_gradients(spectrum, (arrays for _, arrays in placed(blocks))):
        found.append(each)
        done()
    return lambda size: [each for place, each in zip(places, found, strict=True) if size.holds(*place)]


def spent(blocks: list[Path], size: EnsembleSize) -> Spent:
    """What preparing the members of an ensemble of a size took."""
    found = Spent()
    for path in blocks:
        block = load_arrays(path)
        held = [size.holds(*place) for place in zip(block["models"], block["numbers"], strict=True)]
        found += Spent(**{field.name: block[field.name][held].sum().item() for field in fields(Spent)})
    return found


def kept(blocks: list[Path], size: EnsembleSize) -> int:
    """Bytes of the arrays of the members of an ensemble of a size; those that several share count once."""
    arrays = {id(array): array for member in members(blocks, size) for array in member.values()}
    return sum(array.nbytes for array in arrays.values())
