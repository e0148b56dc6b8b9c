# Models: the trained members that a score may look at.
rule models:
    """Train every member."""
    input:
        made_by("models"),


rule train:
    """Train one model of a setting; keep its checkpoints and metrics."""
    input:
        unpack(needs("models/{setting}/{model}")),
    output:
        model="results/models/{setting}/{model}.pt",
        metrics="results/models/{setting}/{model}.json",
        made="results/models/{setting}/{model}.made.json",
    log:
        "logs/models/{setting}/{model}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("models/{setting}/{model}"),
        runtime=120,
    shell:
        'python "$SCRIPTS/train.py" {input.spec:q} --threads {threads}'
