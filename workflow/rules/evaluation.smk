# Evaluation: how well scores predict what retraining says.
rule evaluation:
    """Make every table."""
    input:
        made_by("evaluation"),


rule evaluate:
    """Measure the scores of one costly point against every ground truth of its setting."""
    input:
        unpack(needs("evaluation/{setting}/{ensemble}/{method}/{point}")),
    output:
        table="results/evaluation/{setting}/{ensemble}/{method}/{point}.csv",
        made="results/evaluation/{setting}/{ensemble}/{method}/{point}.made.json",
    log:
        "logs/evaluation/{setting}/{ensemble}/{method}/{point}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{setting}/{ensemble}/{method}/{point}"),
        runtime=60,
    shell:
        'python "$SCRIPTS/evaluate.py" {input.spec:q} --threads {threads}'


rule summarise:
    """Put every measurement of a study into one tidy table."""
    input:
        unpack(needs("evaluation/{study}summary")),
    output:
        summary="results/evaluation/{study}summary.csv",
        made="results/evaluation/{study}summary.made.json",
    log:
        "logs/evaluation/{study}summary.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{study}summary"),
        runtime=30,
    shell:
        'python "$SCRIPTS/summarise.py" {input.spec:q} --threads {threads}'


rule extremes:
    """Find the training examples that help and hurt a few test examples most."""
    input:
        unpack(needs("evaluation/{study}examples/{setting}")),
    output:
        examples="results/evaluation/{study}examples/{setting}.npz",
        made="results/evaluation/{study}examples/{setting}.made.json",
    log:
        "logs/evaluation/{study}examples/{setting}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{study}examples/{setting}"),
        runtime=30,
    shell:
        'python "$SCRIPTS/extremes.py" {input.spec:q} --threads {threads}'


rule removal:
    """Take out the training examples that scores name most helpful, retrain, and table what that changes."""
    input:
        unpack(needs("evaluation/{study}removal/{setting}")),
    output:
        changes="results/evaluation/{study}removal/{setting}.changes.csv",
        summary="results/evaluation/{study}removal/{setting}.summary.csv",
        made="results/evaluation/{study}removal/{setting}.made.json",
    log:
        "logs/evaluation/{study}removal/{setting}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{study}removal/{setting}"),
        runtime=480,
    shell:
        'python "$SCRIPTS/removal.py" {input.spec:q} --threads {threads}'
