"""Look at labelled data, check and mend them, measure their labels, convert them."""

ORDER = 15
