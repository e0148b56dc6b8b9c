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


rule mislabel:
    """Find flipped training labels by self-influence, at every size and damping of one costly point."""
    input:
        unpack(needs("evaluation/{setting}/{ensemble}/{method}/{point}/mislabel")),
    output:
        table="results/evaluation/{setting}/{ensemble}/{method}/{point}/mislabel.csv",
        made="results/evaluation/{setting}/{ensemble}/{method}/{point}/mislabel.made.json",
    log:
        "logs/evaluation/{setting}/{ensemble}/{method}/{point}/mislabel.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{setting}/{ensemble}/{method}/{point}/mislabel"),
        runtime=60,
    shell:
        'python "$SCRIPTS/mislabel.py" {input.spec:q} --threads {threads}'


rule mislabel_baseline:
    """Find flipped training labels by the training loss, at every size and kept epoch of one ensemble."""
    input:
        unpack(needs("evaluation/{setting}/{ensemble}/mislabel_baseline")),
    output:
        table="results/evaluation/{setting}/{ensemble}/mislabel_baseline.csv",
        made="results/evaluation/{setting}/{ensemble}/mislabel_baseline.made.json",
    log:
        "logs/evaluation/{setting}/{ensemble}/mislabel_baseline.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{setting}/{ensemble}/mislabel_baseline"),
        runtime=30,
    shell:
        'python "$SCRIPTS/mislabel_baseline.py" {input.spec:q} --threads {threads}'


rule summarise:
    """Put every measurement of one kind of a study into one tidy table."""
    input:
        unpack(needs("evaluation/{study}{table}")),
    output:
        summary="results/evaluation/{study}{table}.csv",
        made="results/evaluation/{study}{table}.made.json",
    log:
        "logs/evaluation/{study}{table}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluation/{study}{table}"),
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
