"""Amounts of training: epochs, or parts of one, as whole steps."""

import math


def steps(amounts: list[float], count: int, batch_size: int) -> list[int]:
    """Amounts of training (epochs) as whole steps, at least one, of an epoch over `count` examples.

    >>> steps([0.001, 0.5, 1, 2], 100, 25)
    [1, 2, 4, 8]
    """
    an_epoch = -(-count // batch_size)
    return [max(1, math.floor(amount * an_epoch + 0.5)) for amount in amounts]
