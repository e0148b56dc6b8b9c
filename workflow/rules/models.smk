# Models: the trained members that a score may look at.
rule models:
    """Train, or adopt, every member, and train adapters."""
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
        runtime=minutes("models/{setting}/{model}"),
        gpu=gpus,
    shell:
        'python "$SCRIPTS/train.py" {input.spec:q} --threads {threads}'


rule adopt:
    """Take a user's own checkpoint as a model of a setting, once it fits."""
    input:
        unpack(needs("models/{setting}/adopted/{model}")),
    output:
        model="results/models/{setting}/adopted/{model}.pt",
        metrics="results/models/{setting}/adopted/{model}.json",
        made="results/models/{setting}/adopted/{model}.made.json",
    log:
        "logs/models/{setting}/adopted/{model}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("models/{setting}/adopted/{model}"),
        runtime=minutes("models/{setting}/adopted/{model}"),
        gpu=gpus,
    shell:
        'python "$SCRIPTS/adopt.py" {input.spec:q} --threads {threads}'


rule adapt:
    """Train every adapter of one model, beside its frozen weights."""
    input:
        unpack(needs("models/{setting}/adapters/{ensemble}/{model}")),
    output:
        adapters="results/models/{setting}/adapters/{ensemble}/{model}.pt",
        metrics="results/models/{setting}/adapters/{ensemble}/{model}.json",
        made="results/models/{setting}/adapters/{ensemble}/{model}.made.json",
    log:
        "logs/models/{setting}/adapters/{ensemble}/{model}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("models/{setting}/adapters/{ensemble}/{model}"),
        runtime=minutes("models/{setting}/adapters/{ensemble}/{model}"),
        gpu=gpus,
    shell:
        'python "$SCRIPTS/adapt.py" {input.spec:q} --threads {threads}'
