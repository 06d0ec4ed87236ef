"""Generative augmentation: sequences made for thin users and items, their trial against controls, and the gate."""
