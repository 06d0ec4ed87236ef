"""Transfer: how a backbone becomes a target's teacher, and whether it should.

Strategies of fine-tuning, what holds a model near its start, a control that starts from nothing, and the choice
between them on validation rows.
"""
