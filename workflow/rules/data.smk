# Data: the training and test examples of every data set.
rule data:
    """Make every data set."""
    input:
        made_by("data"),


rule dataset:
    """Draw the training and test examples of one data set."""
    input:
        unpack(needs("data/{dataset}")),
    output:
        data="results/data/{dataset}.npz",
        made="results/data/{dataset}.made.json",
    log:
        "logs/data/{dataset}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=minutes("data/{dataset}"),
    shell:
        'python "$SCRIPTS/dataset.py" {input.spec:q} --threads {threads}'
