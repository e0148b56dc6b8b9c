"""The known word that an unknown one probably stands for: of every name, key and value that people write."""

import difflib
from collections.abc import Iterable

_ALIKE = 0.66  # of difflib's ratio: two letters of three that changed places, one of four that is another
_FEW = 8  # names that are listed whole beside the nearest one


def close_to(word: object, known: Iterable[str]) -> list[str]:
    """The known word that is nearest; none where none is near, or for what is no text.

    >>> close_to("mpl", ["cnn", "mlp"]), close_to("lissa", ["trak"]), close_to(3, ["trak"])
    (['mlp'], [], [])
    """
    if not isinstance(word, str):
        return []
    names = {name.lower(): name for name in known if isinstance(name, str)}
    return [names[name] for name in difflib.get_close_matches(word.lower(), list(names), 1, _ALIKE)]


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A question that names what a misspelt word may have been; nothing where none is near.

    >>> did_you_mean("selct", ["select", "mean_mode"])
    "; did you mean 'select'?"
    """
    return "".join(f"; did you mean '{name}'?" for name in close_to(word, known))


def known(word: object, names: Iterable[str]) -> str:
    """The names that there are, for one that is not among them: of many, the nearest alone.

    >>> known("infulence", ["influence", "trak"])
    "; known: ['influence', 'trak']; did you mean 'influence'?"
    """
    names = sorted(names)
    near = did_you_mean(word, names)
    return near if near and len(names) > _FEW else f"; known: {names}{near}"
