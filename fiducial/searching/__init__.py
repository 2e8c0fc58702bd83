"""The best detector for a budget of milliseconds: latencies, what may keep the budget, halving, the file that ships."""
