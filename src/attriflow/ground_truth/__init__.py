"""Ground truth: what retraining says.

A kind is a file with
    runs(n, name, seed, *, hyperparameters) -> {repeat: [Run, ...]}   the trainings, in their order
    collect(runs, outputs, n, seed) -> arrays                         what the evaluation reads
where outputs are {repeat: {"loss": (runs, m), "margin": (runs, m)}}.
"""
