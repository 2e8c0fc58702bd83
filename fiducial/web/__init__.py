"""The page on which a model is tried: one source (`source/`), two backends. `fiducial serve` answers from a server
(`server.js`); `fiducial export --to web` writes the page with the model and its runtime beside it (`local.js`)."""
