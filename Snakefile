# Table of contents. Each room has its rules in workflow/rules/<room>.smk and its code in src/attriflow/<room>/.
include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/ground_truth.smk"
include: "workflow/rules/ensembles.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/figures.smk"


rule all:
    """The summary and the figures of the study, the scores that are not measured, and all that they need."""
    default_target: True
    input:
        ends("scores"),
        rules.evaluation.input,
        rules.figures.input,
