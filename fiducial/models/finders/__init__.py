"""Methods that find instances in whole images: one file = one method, as in `heads/`."""
