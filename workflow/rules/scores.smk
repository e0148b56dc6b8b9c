# Scores: every method at every hyperparameter point; the costly part once per block of members.
rule scores:
    """Make every score."""
    input:
        made_by("scores"),


rule prepare:
    """Make what one method needs of a block of members: its costly part."""
    input:
        unpack(needs("scores/{setting}/{ensemble}/{method}/{point}/{block}")),
    output:
        prepared="results/scores/{setting}/{ensemble}/{method}/{point}/{block}.npz",
        made="results/scores/{setting}/{ensemble}/{method}/{point}/{block}.made.json",
    log:
        "logs/scores/{setting}/{ensemble}/{method}/{point}/{block}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("scores/{setting}/{ensemble}/{method}/{point}/{block}"),
        runtime=minutes("scores/{setting}/{ensemble}/{method}/{point}/{block}"),
        gpu=gpus,
    shell:
        'python "$SCRIPTS/prepare.py" {input.spec:q} --threads {threads}'


rule choose:
    """Choose dampings without retraining, by every rule, for one costly point at every ensemble size."""
    input:
        unpack(needs("scores/{setting}/{ensemble}/{method}/{point}/selection")),
    output:
        selection="results/scores/{setting}/{ensemble}/{method}/{point}/selection.json",
        curve="results/scores/{setting}/{ensemble}/{method}/{point}/selection.csv",
        made="results/scores/{setting}/{ensemble}/{method}/{point}/selection.made.json",
    log:
        "logs/scores/{setting}/{ensemble}/{method}/{point}/selection.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("scores/{setting}/{ensemble}/{method}/{point}/selection"),
        runtime=minutes("scores/{setting}/{ensemble}/{method}/{point}/selection"),
    shell:
        'python "$SCRIPTS/choose.py" {input.spec:q} --threads {threads}'


rule score:
    """Score one ensemble, at every size, at every cheap point of one costly point."""
    input:
        unpack(needs("scores/{setting}/{ensemble}/{method}/{point}")),
    output:
        scores="results/scores/{setting}/{ensemble}/{method}/{point}.npz",
        made="results/scores/{setting}/{ensemble}/{method}/{point}.made.json",
    log:
        "logs/scores/{setting}/{ensemble}/{method}/{point}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("scores/{setting}/{ensemble}/{method}/{point}"),
        runtime=minutes("scores/{setting}/{ensemble}/{method}/{point}"),
    shell:
        'python "$SCRIPTS/score.py" {input.spec:q} --threads {threads}'


rule query:
    """Count what one more test example takes, of one member, by one method at every cheap point of a costly one."""
    input:
        unpack(needs("scores/{setting}/{queries}/{method}/{point}")),
    output:
        query="results/scores/{setting}/{queries}/{method}/{point}.json",
        made="results/scores/{setting}/{queries}/{method}/{point}.made.json",
    log:
        "logs/scores/{setting}/{queries}/{method}/{point}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("scores/{setting}/{queries}/{method}/{point}"),
        runtime=minutes("scores/{setting}/{queries}/{method}/{point}"),
        gpu=gpus,
    shell:
        'python "$SCRIPTS/query.py" {input.spec:q} --threads {threads}'
