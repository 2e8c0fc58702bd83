"""The life of a run: `run` begins, resumes and ends it; `fit` teaches by labels, other rooms by other means.

recipe, recipes         what is chosen
work, objective, scoring    what one run is about
fit, run, history       a run from its data to its folder
engine, module, callbacks, checkpoints, watch, preflight    Lightning, imported as a run begins
"""
