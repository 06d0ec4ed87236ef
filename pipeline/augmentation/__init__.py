"""Generative augmentation: sequences made for thin users and items, tried against controls before they count.

`experiment.py` is one night from end to end. What it asks for stands in `asked.py`, who answers in `arms.py` (the
generator of `gan/` among them), and the answers are `rows.py`. How good they are: `quality.py` (with `likeness.py`,
`copies.py` and `tstr.py`). Whether they help: `trial.py` (with `recipe.py` and `mixing.py` for the training, `parts.py`
for who is judged, `shares.py` for how many), and `gate.py` decides.
"""
