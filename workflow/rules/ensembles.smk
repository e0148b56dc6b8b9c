# Ensembles: the members that a score may look at, and what they cost.
rule ensembles:
    """Describe every ensemble."""
    input:
        made_by("ensembles"),


rule ensemble:
    """Describe one ensemble: its members, and what they cost."""
    input:
        unpack(needs("ensembles/{setting}/{ensemble}")),
    output:
        ensemble="results/ensembles/{setting}/{ensemble}.json",
        made="results/ensembles/{setting}/{ensemble}.made.json",
    log:
        "logs/ensembles/{setting}/{ensemble}.log",
    conda:
        "../../envs/attriflow.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=minutes("ensembles/{setting}/{ensemble}"),
    shell:
        'python "$SCRIPTS/ensemble.py" {input.spec:q} --threads {threads}'
