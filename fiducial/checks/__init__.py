"""What is likely wrong in labelled data, found without a model: from the labels' shapes, the images and the names alone.

`quick` is what `fit` runs before it trains, `thorough` what `fiducial data check` does. A check is one file: a function
that takes instances and gives `Finding`s."""
