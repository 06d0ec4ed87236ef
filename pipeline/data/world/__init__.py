"""The synthetic world: markets whose truth is known, so that a score can be read as a share of the best achievable.

`generate(WorldParams(size="tiny"), seed=7)` gives the canonical tables of every market. Same parameters and seed, same
rows. What is true inside stands in `truth.py`, who takes what in `simulate.py`, what is read of it in `wording.py`,
what can be wrong with it in `dirt.py`.
"""
