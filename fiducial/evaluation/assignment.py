"""Optimal assignment: who goes with whom, one to one, so that all pairs together are worth most."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np

from fiducial.errors import UserError


def best_pairs(worth: np.ndarray, least: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs rows with columns of worth [a, b], finite and not below 0, for the largest sum (Kuhn 1955); pairs worth no more
    than `least` are left apart. Gives the rows, ascending, and their columns."""
    if worth.size == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows, columns = solver()(worth, maximize=True)
    kept = worth[rows, columns] > least
    return rows[kept], columns[kept]


def solver() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Gives scipy's; UserError with the command where it is not installed."""
    try:
        return importlib.import_module("scipy.optimize").linear_sum_assignment
    except ModuleNotFoundError as error:
        raise UserError("scipy is not installed, which identities need: pip install 'fiducial[tracking]'") from error
