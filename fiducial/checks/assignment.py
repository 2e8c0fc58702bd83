"""Who belongs to whom at the least cost."""

from __future__ import annotations

import numpy as np


def assigned(cost: np.ndarray) -> np.ndarray:
    """Gives [n] the column of each row of [n, n] costs, each column once, with the least sum (Kuhn, Naval Research Logistics
    Quarterly 1955; by shortest paths, as Jonker and Volgenant, Computing 1987, have it)."""
    count = len(cost)
    row_price, column_price = np.zeros(count + 1), np.zeros(count + 1)
    owner = np.full(count + 1, -1)  # of each column; the last one is where a new row waits
    padded = np.concatenate([cost, np.zeros((count, 1))], axis=1)
    for row in range(count):
        owner[count] = row
        column, before = count, np.full(count + 1, -1)
        least, done = np.full(count + 1, np.inf), np.zeros(count + 1, bool)
        while owner[column] >= 0:
            done[column] = True
            at = owner[column]
            reduced = padded[at] - row_price[at] - column_price
            nearer = ~done & (reduced < least)
            nearer[count] = False
            least[nearer], before[nearer] = reduced[nearer], column
            open_ = np.where(done, np.inf, least)
            open_[count] = np.inf
            following = int(open_.argmin())
            step = open_[following]
            row_price[owner[done]] += step
            column_price[done] -= step
            least[~done] -= step
            column = following
        while column != count:
            owner[column] = owner[before[column]]
            column = int(before[column])
    result = np.zeros(count, int)
    result[owner[:count]] = np.arange(count)
    return result
