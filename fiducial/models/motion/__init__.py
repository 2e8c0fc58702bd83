"""The First-Order-Motion model around its detector (Siarohin et al., NeurIPS 2019): what teaches it without labels."""
