# Ground truth: what retraining says, in blocks that are kept and resumed.
rule ground_truth:
    """Make every ground truth."""
    input:
        made_by("ground_truth"),


rule retrain:
    """Train one block of ground-truth models and measure them on the test examples."""
    input:
        unpack(needs("ground_truth/{setting}/{truth}/{block}")),
    output:
        outputs="results/ground_truth/{setting}/{truth}/{block}.npz",
        made="results/ground_truth/{setting}/{truth}/{block}.made.json",
    log:
        "logs/ground_truth/{setting}/{truth}/{block}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("ground_truth/{setting}/{truth}/{block}"),
        runtime=minutes("ground_truth/{setting}/{truth}/{block}"),
        gpu=gpus,
    shell:
        'python "$SCRIPTS/retrain.py" {input.spec:q} --threads {threads}'


rule collect:
    """Put the blocks of one ground truth together."""
    input:
        unpack(needs("ground_truth/{setting}/{truth}")),
    output:
        truth="results/ground_truth/{setting}/{truth}.npz",
        made="results/ground_truth/{setting}/{truth}.made.json",
    log:
        "logs/ground_truth/{setting}/{truth}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("ground_truth/{setting}/{truth}"),
        runtime=minutes("ground_truth/{setting}/{truth}"),
    shell:
        'python "$SCRIPTS/collect.py" {input.spec:q} --threads {threads}'


rule further:
    """Train one final model on, with and without examples, in one block, and measure test losses on the way."""
    input:
        unpack(needs("ground_truth/{setting}/{truth}/{model}/{block}")),
    output:
        outputs="results/ground_truth/{setting}/{truth}/{model}/{block}.npz",
        made="results/ground_truth/{setting}/{truth}/{model}/{block}.made.json",
    log:
        "logs/ground_truth/{setting}/{truth}/{model}/{block}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("ground_truth/{setting}/{truth}/{model}/{block}"),
        runtime=minutes("ground_truth/{setting}/{truth}/{model}/{block}"),
        gpu=gpus,
    shell:
        'python "$SCRIPTS/further.py" {input.spec:q} --threads {threads}'


rule gather:
    """Put the blocks of one final model's further training together, with what of its losses is rounding."""
    input:
        unpack(needs("ground_truth/{setting}/{truth}/{model}")),
    output:
        truth="results/ground_truth/{setting}/{truth}/{model}.npz",
        made="results/ground_truth/{setting}/{truth}/{model}.made.json",
    log:
        "logs/ground_truth/{setting}/{truth}/{model}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=memory("ground_truth/{setting}/{truth}/{model}"),
        runtime=minutes("ground_truth/{setting}/{truth}/{model}"),
        gpu=gpus,
    shell:
        'python "$SCRIPTS/gather.py" {input.spec:q} --threads {threads}'
