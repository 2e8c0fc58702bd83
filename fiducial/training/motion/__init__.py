"""Points learnt from video without labels: what the First-Order-Motion model's detector needs to make one frame of
another (Siarohin et al., NeurIPS 2019)."""
