"""Figures like the paper's Figs. 3 to 5: photograph, ground truth, captions of runs. `regioncap figures`."""
