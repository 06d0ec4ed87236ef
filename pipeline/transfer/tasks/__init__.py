"""Several tasks at once: what is known of a target's interactions beside which item came next.

    L = Σ Lᵢ + λ · Σ_{i<j} ‖θᵢ − θⱼ‖²

One trunk, a tower θᵢ per task; towers are taken away after training, so that what is served is the same model.
"""
