"""Ground truth: what retraining says.

A kind is a file with
    runs(n, name, seed, *, hyperparameters) -> {repeat: [Run, ...]}   the trainings, in their order
    collect(runs, outputs, n, seed) -> arrays                         what the evaluation reads
where outputs are {repeat: {"loss": (runs, m), "margin": (runs, m)}}. One with a third function,
    training(n, *, hyperparameters) -> mapping                        how its runs train on, see `engine.further.train`
starts from the weights of a final model instead of new ones: there is one such truth for every ensemble of one member,
and its outputs are {repeat: {"loss": (runs, amounts, m), "diverged": (runs,)}}. No torch: a plan is made from it.
"""
