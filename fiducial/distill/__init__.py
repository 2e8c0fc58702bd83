"""One detector taught by another, larger one: what it says of a picture is the target (article B: a Squeeze U-Net from the
First-Order-Motion model's hourglass)."""
