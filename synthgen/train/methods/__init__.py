"""Methods of papers for special cases of training; the plain path needs none of them.

`retention.py` keeps an old skill while a new one is learned, and `lengths.py` has conversations of every length learned
from alike: settings of `train`. The others are functions on a model folder, to be called before `synth train`:
`vocabulary.py` adds tokens, `growth.py` makes a small model larger, `upcycling.py` parts its layers into experts.
`alignment.py` and `neurons.py` are experiments.
"""
