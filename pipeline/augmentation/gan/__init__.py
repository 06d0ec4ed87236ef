"""How the sequence generator is trained: by likelihood on the sources, then on the target, then against a critic.

Text generators that are trained against a critic from the start rarely leave the noise, so likelihood comes first
(SeqGAN, arXiv 1609.05473), and stays beside the critic as an anchor. `training.py` is the way through the phases, with
`losses.py` for what the networks learn by and `look.py` for collapse and divergence; `state.py` is what a checkpoint
holds. What is read: `real_sequences.py`, and `windows.py` of them. The networks themselves stand in `pipeline/models`.
"""
