"""int8: a detector's network in 8-bit whole numbers, where that is quicker and costs no more accuracy than allowed.

`decide` tries it and says what came of it; `calibration` picks the crops that show the network its range; `layers` names
what can be left out; one file `*_int8.py` = one runtime. Crop, normalisation and decode stay as they are."""
