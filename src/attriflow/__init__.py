"""Training data attribution, measured against real retraining.

The rooms, each named after what it makes: data, models, ground_truth, ensembles, scores, evaluation, figures.
Letters, everywhere the same: n train, m test, p parameters, k projected dimension, s subsets, r repeats,
e ensemble members, c classes.
"""

from attriflow import source

source.compile_anew()
